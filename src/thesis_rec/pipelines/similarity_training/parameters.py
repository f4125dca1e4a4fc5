"""Parameters of the pipeline similarity_training."""

from pydantic import Field

from thesis_rec.base.settings import Seed, Settings
from thesis_rec.knowledge.quadrants import SplitSettings
from thesis_rec.training.settings import RankerPlan


class SimilarityTrainingParameters(Settings):
    """What ``conf/base/parameters/similarity_training.yml`` holds; each knob is explained there."""

    protocol: str = "linear_probe"
    published: bool = False
    shipped: str | None = None
    splits: SplitSettings = SplitSettings()
    similarity_transformer: RankerPlan = Field(default_factory=RankerPlan)
    rolling_window: int = Field(default=5, ge=1)
    runs_folder: str = Field(min_length=1)
    seed: Seed = 0
