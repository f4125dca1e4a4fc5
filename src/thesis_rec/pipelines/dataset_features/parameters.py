"""Parameters of the pipeline dataset_features."""

from pydantic import Field

from thesis_rec.base.settings import Shard
from thesis_rec.images.encoders.image_encoder import EncoderConfig
from thesis_rec.views.tokens import TokenSettings


class DatasetFeaturesParameters(TokenSettings):
    """What ``conf/base/parameters/dataset_features.yml`` holds; each knob is explained there."""

    encoder: EncoderConfig
    fetch: bool = True
    images_root: str = Field(min_length=1)
    max_datasets: int | None = Field(default=None, ge=1)
    device: str = "auto"
    strict: bool = False
    shard: Shard = Shard()
