"""Parameters of the pipeline recommendation."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from thesis_rec.images.encoders.image_encoder import EncoderConfig
from thesis_rec.pipelines.fields import Words


class BudgetParameters(BaseModel):
    """Limits; null and empty mean none."""

    model_config = ConfigDict(extra="forbid")

    max_latency_ms: float | None = Field(default=None, gt=0)
    min_throughput: float | None = Field(default=None, gt=0)
    max_memory_mb: float | None = Field(default=None, gt=0)
    max_parameters: float | None = Field(default=None, gt=0)
    device: str = "here"
    batch_size: int = Field(default=1, ge=1)
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    licences: Words = ()
    families: Words = ()


class RecommendationParameters(BaseModel):
    """What ``conf/base/parameters/recommendation.yml`` holds; each knob is explained there."""

    model_config = ConfigDict(extra="forbid")

    encoder: EncoderConfig
    models_root: str = Field(min_length=1)
    hub_cache: str = Field(min_length=1)
    images: str | None = None
    dataset: str | None = None
    budget: BudgetParameters = BudgetParameters()
    top: int = Field(default=10, ge=1)
    level: float = Field(default=0.9, gt=0, lt=1)
    neighbours: int = Field(default=3, ge=1)
    batches: int = Field(default=8, ge=1)
    measure: bool = True
    measure_seconds: float = Field(default=20.0, ge=0)
    probe: int | None = Field(default=None, ge=1)
    probe_seconds: float | None = Field(default=None, gt=0)
    seed: int = 0
