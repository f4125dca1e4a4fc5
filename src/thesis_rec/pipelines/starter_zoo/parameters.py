"""Parameters of the pipeline ``starter_zoo``, checked before anything runs."""

from typing import Literal

from pydantic import Field

from thesis_rec.base.settings import Settings
from thesis_rec.starter.plan import Sizes
from thesis_rec.truth.settings import FineTuneRecipe, ProbeRecipe

Stage = Literal["models", "encoder", "truth", "fine_tune", "hardware"]


class EncoderParameters(Settings):
    """Size and training of the image encoder."""

    embed_dim: int = Field(default=128, ge=8)
    width: int = Field(default=128, ge=32, multiple_of=32)
    layers: int = Field(default=6, ge=1)
    steps: int = Field(default=6000, ge=1)
    batch: int = Field(default=1024, ge=2)
    learning_rate: float = Field(default=1.5e-3, gt=0)
    images_per_class: int = Field(default=150, ge=1)


class TruthParameters(ProbeRecipe):
    """Linear probes and transferability scores."""

    score_images: int = Field(default=48, ge=2)
    batch_size: int = Field(default=4096, ge=1)


class ProfileParameters(Settings):
    """What is measured about speed and memory."""

    precisions: tuple[Literal["fp32", "fp16", "bf16"], ...] = ("fp32", "fp16")
    batch_sizes: tuple[int, ...] = (1, 32, 256)
    seconds_per_cell: float = Field(default=0.05, gt=0)


class StarterZooParameters(Settings):
    """All knobs of ``params:starter_zoo``; see ``conf/base/parameters/starter_zoo.yml``."""

    working_folder: str
    output: str
    stages: tuple[Stage, ...] = ("models", "encoder", "truth", "fine_tune", "hardware")
    device: str = "auto"
    workers: int = Field(default=1, ge=1)
    slots: int = Field(default=12, ge=1, le=32)
    time_budget_seconds: float | None = Field(default=None, gt=0)
    begin_from: str | None = None
    bundle_in: tuple[str, ...] = ()
    bundle_out: str | None = None
    sizes: Sizes = Sizes()
    encoder: EncoderParameters = EncoderParameters()
    truth: TruthParameters = TruthParameters()
    fine_tune: FineTuneRecipe = FineTuneRecipe()
    hardware: ProfileParameters = ProfileParameters()
    strict: bool = False
    seed: int = 0
