"""Parameters of the pipeline ``ground_truth``, checked before anything runs."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from thesis_rec.base.sharding import Shard
from thesis_rec.pipelines.fields import Words

Score = Literal["logme", "h_score", "h_score_shrunk", "leep", "n_leep", "gbc", "nearest_class_mean"]


class ImageParameters(BaseModel):
    """How much of each dataset is used."""

    model_config = ConfigDict(extra="forbid")

    n_per_class: int = Field(default=60, ge=1)
    size: int | None = Field(default=None, ge=8)
    seed: int = 0


class ProbeParameters(BaseModel):
    """Recipe of the linear probe."""

    model_config = ConfigDict(extra="forbid")

    shots: int = Field(default=16, ge=1)
    draws: int = Field(default=3, ge=1)
    ridge: float = Field(default=0.2, gt=0)


class FineTuneParameters(BaseModel):
    """Recipe of fine-tuning."""

    model_config = ConfigDict(extra="forbid")

    seeds: int = Field(default=1, ge=1)
    shots: int = Field(default=16, ge=1)
    steps: int = Field(default=80, ge=1)
    batch: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    save_every: int = Field(default=8, ge=1)


class GroundTruthParameters(BaseModel):
    """All knobs of ``params:ground_truth``; see ``conf/base/parameters/ground_truth.yml``."""

    model_config = ConfigDict(extra="forbid")

    models_root: str
    images_root: str
    hub_cache: str | None = None
    protocols: list[Literal["linear_probe", "fine_tune"]] = ["linear_probe"]
    models: Words = ()
    datasets: Words = ()
    subtasks: bool = False
    reference: Literal["starter", "none"] = "starter"
    images: ImageParameters = ImageParameters()
    linear_probe: ProbeParameters = ProbeParameters()
    fine_tune: FineTuneParameters = FineTuneParameters()
    scores: list[Score] = ["logme", "h_score", "h_score_shrunk", "leep", "n_leep", "gbc"]
    score_images: int = Field(default=48, ge=2)
    batch_size: int = Field(default=512, ge=1)
    device: str = "auto"
    source: str = "measured"
    shard: Shard = Shard()
    strict: bool = False
    seed: int = 0
