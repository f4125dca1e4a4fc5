"""Parameters of the pipeline similarity_training."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thesis_rec.pipelines.fields import Words
from thesis_rec.training.settings import FitSettings, RankerTraining


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SplitParameters(_Strict):
    """How known things are divided; see :class:`thesis_rec.knowledge.quadrants.SplitSettings`."""

    validation_share: float = Field(default=0.15, ge=0, lt=1)
    test_cells: float = Field(default=0.1, ge=0, lt=1)
    validation_cells: float = Field(default=0.03, ge=0, lt=1)
    unknown_share: float = Field(default=0.2, ge=0, lt=1)
    unknown_groups: Words = ()


class FeatureParameters(_Strict):
    """What a ranker reads; see :class:`thesis_rec.thesis.features.FeatureSettings`."""

    embedding: Literal["weights", "responses", "both"] = "both"
    model_components: int = Field(default=32, ge=1)
    factors: int = Field(default=8, ge=0)
    pooling: Literal["class_means", "all", "statistics"] = "statistics"
    max_tokens: int = Field(default=64, ge=1)
    landmarks: bool = True


class NetworkParameters(_Strict):
    """Size of a ranker."""

    width: int = Field(default=96, ge=1)
    n_layers: int = Field(default=2, ge=1)
    n_heads: int = Field(default=4, ge=1)
    rank: int = Field(default=16, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> NetworkParameters:
        if self.width % self.n_heads:
            raise ValueError(f"width {self.width} can't be divided among {self.n_heads} heads")
        return self


class TransformerParameters(NetworkParameters):
    """Size of the SimilarityTransformer."""

    candidates_interact: bool = False


class CrossAttentionParameters(NetworkParameters):
    """Size of the CrossAttentionRanker."""

    token_layers: int = Field(default=1, ge=0)


class TransformerPlan(_Strict):
    """How the SimilarityTransformer is trained."""

    network: TransformerParameters = Field(default_factory=TransformerParameters)
    training: RankerTraining = Field(default_factory=RankerTraining)
    fit: FitSettings = Field(default_factory=FitSettings)
    members: int = Field(default=1, ge=0)


class CrossAttentionPlan(_Strict):
    """How the CrossAttentionRanker is trained."""

    network: CrossAttentionParameters = Field(default_factory=CrossAttentionParameters)
    training: RankerTraining = Field(default_factory=RankerTraining)
    fit: FitSettings = Field(default_factory=FitSettings)
    members: int = Field(default=1, ge=0)


class SimilarityTrainingParameters(_Strict):
    """What ``conf/base/parameters/similarity_training.yml`` holds; each knob is explained there."""

    protocol: str = "linear_probe"
    splits: SplitParameters = Field(default_factory=SplitParameters)
    features: FeatureParameters = Field(default_factory=FeatureParameters)
    max_tasks: int | None = Field(default=None, ge=1)
    similarity_transformer: TransformerPlan = Field(default_factory=TransformerPlan)
    cross_attention: CrossAttentionPlan = Field(default_factory=CrossAttentionPlan)
    rolling_window: int = Field(default=5, ge=1)
    runs_folder: str = Field(min_length=1)
    seed: int = 0

    @model_validator(mode="after")
    def _some_network_is_trained(self) -> SimilarityTrainingParameters:
        if not self.similarity_transformer.members and not self.cross_attention.members:
            raise ValueError("members is 0 for both networks: nothing would be trained")
        return self
