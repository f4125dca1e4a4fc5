"""Parameters of the pipeline hardware_profiling."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from thesis_rec.base.settings import Settings
from thesis_rec.base.sharding import Shard
from thesis_rec.pipelines.fields import Words


class HardwareProfilingParameters(Settings):
    """What ``conf/base/parameters/hardware_profiling.yml`` holds; each knob is explained there."""

    models_root: str = Field(min_length=1)
    hub_cache: str = Field(min_length=1)
    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    precisions: tuple[Literal["fp32", "fp16", "bf16"], ...] = ("fp32",)
    batch_sizes: tuple[int, ...] = (1, 32)
    warmup: int = Field(default=3, ge=0)
    min_repeats: int = Field(default=7, ge=1)
    max_repeats: int = Field(default=200, ge=1)
    tolerance: float = Field(default=0.02, gt=0.0)
    max_seconds: float = Field(default=0.15, gt=0.0)
    models: Words = ()
    max_models: int | None = Field(default=None, ge=1)
    strict: bool = False
    shard: Shard = Shard()
