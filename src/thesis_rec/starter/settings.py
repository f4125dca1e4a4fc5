"""What is chosen of a build of the embedded zoo; imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from thesis_rec.base.settings import Seed, Settings
from thesis_rec.starter.plan import Sizes
from thesis_rec.truth.settings import FineTuneRecipe, ProbeRecipe, TruthSettings

if TYPE_CHECKING:
    from thesis_rec.starter.clip import ClipSettings

Stage = Literal["models", "encoder", "truth", "fine_tune", "hardware"]


class EncoderRecipe(Settings):
    """Size and training of the image encoder."""

    embed_dim: int = Field(default=128, ge=8)
    width: int = Field(default=128, ge=32, multiple_of=32)
    layers: int = Field(default=6, ge=1)
    steps: int = Field(default=6000, ge=1)
    batch: int = Field(default=1024, ge=2)
    learning_rate: float = Field(default=1.5e-3, gt=0)
    images_per_class: int = Field(default=150, ge=1)


class TruthRecipe(ProbeRecipe):
    """Linear probes and transferability scores."""

    score_images: int = Field(default=48, ge=2)
    batch_size: int = Field(default=4096, ge=1)


class ProfileRecipe(Settings):
    """What is measured about speed and memory."""

    precisions: tuple[Literal["fp32", "fp16", "bf16"], ...] = ("fp32", "fp16")
    batch_sizes: tuple[int, ...] = (1, 32, 256)
    seconds_per_cell: float = Field(default=0.05, gt=0)


@dataclass
class BuildSettings:
    """Everything that stages depend on besides the plan and the machine.

    Attributes:
        clip: Size and training of the image encoder.
        truth: Linear probes, scores and responses.
        fine_tune: Recipe of fine-tuning.
        profiles: What is measured about speed and memory; precisions that a device can't do are skipped.
    """

    clip: ClipSettings
    truth: TruthSettings
    fine_tune: FineTuneRecipe
    profiles: ProfileRecipe


class ZooSettings(Settings):
    """Sizes, recipes, and where and with what the zoo is built."""

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
    encoder: EncoderRecipe = EncoderRecipe()
    truth: TruthRecipe = TruthRecipe()
    fine_tune: FineTuneRecipe = FineTuneRecipe()
    hardware: ProfileRecipe = ProfileRecipe()
    seed: Seed = 0

    @property
    def build(self) -> BuildSettings:
        """What stages depend on, besides the machine."""
        from thesis_rec.starter.clip import ClipSettings

        probe = ProbeRecipe(**self.truth.model_dump(include=set(ProbeRecipe.model_fields)))
        measured = self.truth.model_dump(include={"score_images", "batch_size"})
        return BuildSettings(
            clip=ClipSettings(seed=self.seed, **self.encoder.model_dump()),
            truth=TruthSettings(linear_probe=probe, source="starter", seed=self.seed, **measured),
            fine_tune=self.fine_tune,
            profiles=self.hardware,
        )
