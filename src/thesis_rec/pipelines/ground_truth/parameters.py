"""Parameters of the pipeline ``ground_truth``, checked before anything runs."""

from typing import Literal

from pydantic import Field

from thesis_rec.base.settings import Seed, Settings, Words
from thesis_rec.pipelines.selection import ModelStep
from thesis_rec.truth.performance_records import Score
from thesis_rec.truth.settings import CampaignSettings


class ImageParameters(Settings):
    """How much of each dataset is used."""

    n_per_class: int = Field(default=60, ge=1)
    size: int | None = Field(default=None, ge=8)
    largest: int = Field(default=512, ge=8)
    seed: Seed = 0


class GroundTruthParameters(CampaignSettings, ModelStep):
    """All knobs of ``params:ground_truth``; see ``conf/base/parameters/ground_truth.yml``."""

    images_root: str
    models: Words[str] = ()
    datasets: Words[str] = ()
    subtasks: bool = False
    reference: Literal["starter", "none"] = "starter"
    images: ImageParameters = ImageParameters()
    scores: Words[Score] = ("logme", "h_score", "h_score_shrunk", "leep", "n_leep", "gbc")
    batch_size: int = Field(default=512, ge=1)
