"""Recipes of what is measured about models: linear probes, transferability scores, responses, fine-tuning."""

from typing import get_args

from pydantic import Field

from thesis_rec.base.settings import Seed, Settings
from thesis_rec.truth.performance_records import Score

SCORES: tuple[Score, ...] = get_args(Score)


class ProbeRecipe(Settings):
    """The linear probe's recipe, as far as it is chosen.

    Attributes:
        shots: Training images of a class in one draw.
        draws: Number of repeats.
        ridge: Ridge penalty relative to the number of training images.
    """

    shots: int = Field(default=16, ge=1)
    draws: int = Field(default=3, ge=1)
    ridge: float = Field(default=0.2, gt=0)


class ProbeSettings(ProbeRecipe):
    """The linear probe's recipe.

    Attributes:
        max_share: Largest share of a class's training images that a draw takes, so that draws differ.
        seed: Seed of the draws.
    """

    max_share: float = 0.75
    seed: Seed = 0


class ResponseSettings(Settings):
    """What models are probed on beside the reference tasks.

    Attributes:
        subtasks: Number of sub-tasks of the reference tasks, fewer where there aren't so many different ones.
        seed: Seed of the sub-tasks; responses with different seeds don't compare.
    """

    subtasks: int = 1000
    seed: Seed = 20240


class MeasuringSettings(Settings):
    """What is measured besides probes and responses, and how.

    Attributes:
        scores: Transferability scores to compute; empty for none.
        score_images: Training images of a class that the scores use.
        batch_size: Images in one forward pass; lowered by itself when a GPU's memory is full.
        source: Content of the tables' ``source`` column.
        seed: Seed of N-LEEP's mixtures.
    """

    scores: tuple[Score, ...] = SCORES
    score_images: int = Field(default=48, ge=2)
    batch_size: int = Field(default=4096, ge=1)
    source: str = "measured"
    seed: Seed = 0


class TruthSettings(MeasuringSettings):
    """Everything that is measured about a model without training it.

    Attributes:
        probe: The linear probe's recipe.
        response: What the responses are to.
    """

    probe: ProbeSettings = ProbeSettings()
    response: ResponseSettings = ResponseSettings()


class FineTuneRecipe(Settings):
    """The recipe of fine-tuning, as far as it is chosen.

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
    """The recipe of fine-tuning.

    Attributes:
        head_rate: How many times faster the new head learns.
        weight_decay: AdamW's.
        shift: Largest shift of a training image, in pixels.
        source: Value of the result's ``source`` column.
    """

    head_rate: float = 5.0
    weight_decay: float = 1e-4
    shift: int = 2
    source: str = "measured"
