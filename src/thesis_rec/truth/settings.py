"""Recipes of what is measured about models: linear probes, transferability scores, fine-tuning."""

from typing import Literal, get_args

from pydantic import Field

from thesis_rec.base.settings import Seed, Settings, Words
from thesis_rec.truth.performance_records import Score

SCORES: tuple[Score, ...] = get_args(Score)

#: Largest share of a class's training images that a draw takes, so that draws differ.
MAX_SHARE = 0.75
#: Of fine-tuning: how many times faster the new head learns, AdamW's weight decay, largest shift of an image in pixels.
HEAD_RATE, WEIGHT_DECAY, SHIFT = 5.0, 1e-4, 2


class ProbeRecipe(Settings):
    """The linear probe's recipe.

    Attributes:
        shots: Training images of a class in one draw.
        draws: Number of repeats.
        ridge: Ridge penalty relative to the number of training images.
    """

    shots: int = Field(default=16, ge=1)
    draws: int = Field(default=3, ge=1)
    ridge: float = Field(default=0.2, gt=0)


class TruthSettings(Settings):
    """Everything that is measured about a model without training it.

    Attributes:
        scores: Transferability scores to compute; empty for none.
        score_images: Training images of a class that the scores use.
        batch_size: Images in one forward pass; lowered by itself when a GPU's memory is full.
        source: Content of the tables' ``source`` column.
        seed: Seed of the draws of probes and of N-LEEP's mixtures.
        linear_probe: The linear probe's recipe.
    """

    scores: Words[Score] = SCORES
    score_images: int = Field(default=48, ge=2)
    batch_size: int = Field(default=4096, ge=1)
    source: str = "measured"
    seed: Seed = 0
    linear_probe: ProbeRecipe = ProbeRecipe()


class FineTuneRecipe(Settings):
    """The recipe of fine-tuning.

    Attributes:
        shots: Training images of each class; at most three quarters of those there are.
        steps: Updates.
        batch: Images of an update.
        learning_rate: Peak learning rate of the backbone.
    """

    shots: int = Field(default=16, ge=1)
    steps: int = Field(default=80, ge=1)
    batch: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)


class FineTuneSettings(FineTuneRecipe):
    """Fine-tuning of many models.

    Attributes:
        seeds: Repeats of each cell.
        save_every: Cells between two saves.
    """

    seeds: int = Field(default=1, ge=1)
    save_every: int = Field(default=8, ge=1)


class CampaignSettings(TruthSettings):
    """What is measured about every model of a zoo.

    Attributes:
        protocols: ``linear_probe``, ``fine_tune`` or both.
        fine_tune: The recipe of fine-tuning.
        device: Torch device.
    """

    protocols: Words[Literal["linear_probe", "fine_tune"]] = ("linear_probe",)
    fine_tune: FineTuneSettings = FineTuneSettings()
    device: str = "auto"
