"""Parameters of the pipeline similarity_training."""

from __future__ import annotations

from pydantic import Field

from thesis_rec.base.settings import Settings
from thesis_rec.pipelines.fields import Words
from thesis_rec.training.settings import RankerPlan


class SplitParameters(Settings):
    """How known things are divided; see :class:`thesis_rec.knowledge.quadrants.SplitSettings`."""

    validation_share: float = Field(default=0.15, ge=0, lt=1)
    test_cells: float = Field(default=0.1, ge=0, lt=1)
    validation_cells: float = Field(default=0.03, ge=0, lt=1)
    unknown_share: float = Field(default=0.2, ge=0, lt=1)
    unknown_groups: Words = ()


class SimilarityTrainingParameters(Settings):
    """What ``conf/base/parameters/similarity_training.yml`` holds; each knob is explained there."""

    protocol: str = "linear_probe"
    published: bool = False
    splits: SplitParameters = Field(default_factory=SplitParameters)
    similarity_transformer: RankerPlan = Field(default_factory=RankerPlan)
    rolling_window: int = Field(default=5, ge=1)
    runs_folder: str = Field(min_length=1)
    seed: int = 0
