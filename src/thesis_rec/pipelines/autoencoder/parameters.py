"""Parameters of the pipeline autoencoder."""

from typing import Literal

from pydantic import Field

from thesis_rec.base.settings import Seed, Settings
from thesis_rec.training.settings import AutoEncoderSettings, FitSettings


class AutoencoderParameters(Settings):
    """What ``conf/base/parameters/autoencoder.yml`` holds; each knob is explained there."""

    input: Literal["kmeans", "spectra", "both"] = "spectra"
    network: AutoEncoderSettings = Field(default_factory=AutoEncoderSettings)
    fit: FitSettings = Field(default_factory=FitSettings)
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    neighbours: int = Field(default=3, ge=1)
    map: Literal["pca", "tsne"] = "tsne"
    rolling_window: int = Field(default=10, ge=1)
    runs_folder: str = Field(min_length=1)
    seed: Seed = 0
