"""Parameters of the pipeline similarity_training."""

from __future__ import annotations

from pydantic import Field, model_validator

from thesis_rec.base.settings import Settings
from thesis_rec.pipelines.fields import Words
from thesis_rec.training.settings import FitSettings, RankerTraining


class SplitParameters(Settings):
    """How known things are divided; see :class:`thesis_rec.knowledge.quadrants.SplitSettings`."""

    validation_share: float = Field(default=0.15, ge=0, lt=1)
    test_cells: float = Field(default=0.1, ge=0, lt=1)
    validation_cells: float = Field(default=0.03, ge=0, lt=1)
    unknown_share: float = Field(default=0.2, ge=0, lt=1)
    unknown_groups: Words = ()


class TransformerParameters(Settings):
    """Size of the SimilarityTransformer."""

    width: int = Field(default=96, ge=1)
    n_layers: int = Field(default=2, ge=1)
    n_heads: int = Field(default=4, ge=1)
    rank: int = Field(default=16, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    candidates_interact: bool = False

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> TransformerParameters:
        if self.width % self.n_heads:
            raise ValueError(f"width {self.width} can't be divided among {self.n_heads} heads")
        return self


class TransformerPlan(Settings):
    """How the SimilarityTransformer is trained."""

    network: TransformerParameters = Field(default_factory=TransformerParameters)
    training: RankerTraining = Field(default_factory=RankerTraining)
    fit: FitSettings = Field(default_factory=FitSettings)
    max_tokens: int = Field(default=64, ge=1)


class SimilarityTrainingParameters(Settings):
    """What ``conf/base/parameters/similarity_training.yml`` holds; each knob is explained there."""

    protocol: str = "linear_probe"
    published: bool = False
    splits: SplitParameters = Field(default_factory=SplitParameters)
    similarity_transformer: TransformerPlan = Field(default_factory=TransformerPlan)
    rolling_window: int = Field(default=5, ge=1)
    runs_folder: str = Field(min_length=1)
    seed: int = 0
