"""Parameters of the pipeline autoencoder."""

from typing import Literal

from pydantic import Field

from thesis_rec.training.settings import AutoEncoderPlan


class AutoencoderParameters(AutoEncoderPlan):
    """What ``conf/base/parameters/autoencoder.yml`` holds; each knob is explained there."""

    input: Literal["kmeans", "spectra", "both"] = "spectra"
    neighbours: int = Field(default=3, ge=1)
    map: Literal["pca", "tsne"] = "tsne"
    rolling_window: int = Field(default=10, ge=1)
    runs_folder: str = Field(min_length=1)
