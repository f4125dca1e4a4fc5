"""Settings of training runs: what all networks share, and what belongs to each."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from thesis_rec.base.settings import Seed, Settings


class FitSettings(Settings):
    """How a network is trained; every field is explained where its value is set, in ``conf/base/parameters``."""

    epochs: int = Field(default=50, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)
    plateau_patience: int = Field(default=5, ge=0)
    gradient_clip: float = Field(default=1.0, ge=0)
    patience: int = Field(default=0, ge=0)
    checkpoint_every: int = Field(default=1, ge=1)
    keep_checkpoints: int = Field(default=3, ge=1)
    resume: bool = True
    accelerator: str = "auto"
    devices: int | str = 1
    num_nodes: int = Field(default=1, ge=1)
    precision: str = "32-true"


class AutoEncoderSettings(Settings):
    """Size and loss of the autoencoder."""

    hidden: list[int] = Field(default_factory=lambda: [128])
    n_code: int = Field(default=512, ge=1)
    activation: Literal["gelu", "relu", "leaky_relu"] = "gelu"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    loss: Literal["mse", "smooth_l1"] = "mse"
    l1: float = Field(default=0.0, ge=0)
    noise: float = Field(default=0.0, ge=0)
    mask: float = Field(default=0.0, ge=0, lt=1)
    mask_block: int = Field(default=64, ge=1)


class AutoEncoderPlan(Settings):
    """How the autoencoder is trained.

    Attributes:
        network: Network and loss.
        fit: Optimiser and schedule.
        validation_share: Share of the known models that is held out.
        seed: Seed of the split, of the first weights and of training.
    """

    network: AutoEncoderSettings = Field(default_factory=AutoEncoderSettings)
    fit: FitSettings = Field(default_factory=FitSettings)
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    seed: Seed = 0


class RankerLosses(Settings):
    """Weights of the terms of a ranker's loss."""

    listwise: float = Field(default=0.5, ge=0)
    pairwise: float = Field(default=1.0, ge=0)
    gap_power: float = Field(default=1.0, ge=0)
    regression: float = Field(default=1.0, ge=0)
    value: float = Field(default=0.2, ge=0)


class RankerTraining(Settings):
    """What a ranker sees in one step."""

    losses: RankerLosses = Field(default_factory=RankerLosses)
    models_per_step: int = Field(default=96, ge=2)
    tasks_per_epoch: int = Field(default=512, ge=1)


class RankerNetwork(Settings):
    """Size of the SimilarityTransformer."""

    width: int = Field(default=96, ge=1)
    n_layers: int = Field(default=2, ge=1)
    n_heads: int = Field(default=4, ge=1)
    rank: int = Field(default=16, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    candidates_interact: bool = False

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> RankerNetwork:
        if self.width % self.n_heads:
            raise ValueError(f"width {self.width} can't be divided among {self.n_heads} heads")
        return self


class RankerPlan(Settings):
    """How the SimilarityTransformer is trained."""

    network: RankerNetwork = Field(default_factory=RankerNetwork)
    training: RankerTraining = Field(default_factory=RankerTraining)
    fit: FitSettings = Field(default_factory=FitSettings)
    max_tokens: int = Field(default=64, ge=1)
