"""Parameters of the pipeline ``ground_truth``, checked before anything runs."""

from typing import Literal

from pydantic import Field

from thesis_rec.base.settings import Settings, Words
from thesis_rec.base.sharding import Shard
from thesis_rec.truth.performance_records import Score


class ImageParameters(Settings):
    """How much of each dataset is used."""

    n_per_class: int = Field(default=60, ge=1)
    size: int | None = Field(default=None, ge=8)
    seed: int = 0


class ProbeParameters(Settings):
    """Recipe of the linear probe."""

    shots: int = Field(default=16, ge=1)
    draws: int = Field(default=3, ge=1)
    ridge: float = Field(default=0.2, gt=0)


class RecipeParameters(Settings):
    """Recipe of fine-tuning."""

    shots: int = Field(default=16, ge=1)
    steps: int = Field(default=80, ge=1)
    batch: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)


class FineTuneParameters(RecipeParameters):
    """Fine-tuning of one's own models."""

    seeds: int = Field(default=1, ge=1)
    save_every: int = Field(default=8, ge=1)


class GroundTruthParameters(Settings):
    """All knobs of ``params:ground_truth``; see ``conf/base/parameters/ground_truth.yml``."""

    models_root: str
    images_root: str
    hub_cache: str | None = None
    protocols: tuple[Literal["linear_probe", "fine_tune"], ...] = ("linear_probe",)
    models: Words = ()
    datasets: Words = ()
    subtasks: bool = False
    reference: Literal["starter", "none"] = "starter"
    images: ImageParameters = ImageParameters()
    linear_probe: ProbeParameters = ProbeParameters()
    fine_tune: FineTuneParameters = FineTuneParameters()
    scores: tuple[Score, ...] = ("logme", "h_score", "h_score_shrunk", "leep", "n_leep", "gbc")
    score_images: int = Field(default=48, ge=2)
    batch_size: int = Field(default=512, ge=1)
    device: str = "auto"
    source: str = "measured"
    shard: Shard = Shard()
    strict: bool = False
    seed: int = 0
