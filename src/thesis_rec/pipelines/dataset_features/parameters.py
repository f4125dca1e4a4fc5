"""Parameters of the pipeline dataset_features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from thesis_rec.base.settings import Settings
from thesis_rec.base.sharding import Shard
from thesis_rec.images.encoders.image_encoder import EncoderConfig


class DatasetFeaturesParameters(Settings):
    """What ``conf/base/parameters/dataset_features.yml`` holds; each knob is explained there."""

    encoder: EncoderConfig
    fetch: bool = True
    images_root: str = Field(min_length=1)
    splits: tuple[Literal["pretrain", "train", "test"], ...] = ("train",)
    batches: int = Field(default=8, ge=1)
    n_per_class: int | None = Field(default=None, ge=1)
    max_datasets: int | None = Field(default=None, ge=1)
    images_per_shard: int = Field(default=4096, ge=1)
    batch_size: int = Field(default=256, ge=1)
    workers: int = Field(default=0, ge=0)
    fit: Literal["crop", "pad", "stretch"] = "crop"
    max_pixels: int = Field(default=1 << 26, ge=1)
    streaming: bool = False
    max_streamed: int = Field(default=1_000_000, ge=1)
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    prompts: tuple[str, ...] = ("a photo of {}.",)
    strict: bool = False
    seed: int = 0
    shard: Shard = Shard()

    @field_validator("prompts")
    @classmethod
    def _have_a_place_for_the_name(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        if not prompts or any("{}" not in prompt for prompt in prompts):
            raise ValueError("every prompt needs {} where the class's name goes, and there must be one")
        return prompts
