"""Parameters of the pipeline external_benchmark."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ExternalBenchmarkParameters(BaseModel):
    """What ``conf/base/parameters/external_benchmark.yml`` holds; each knob is explained there."""

    model_config = ConfigDict(extra="forbid")

    benchmark: Literal["transfergraph", "site", "model_spider"] = "transfergraph"
    tables_dir: str = Field(min_length=1)
    train_ranker: bool = True
    ranker_epochs: int = Field(default=15, ge=1)
    draws: int = Field(default=20, ge=1)
    bootstrap: int = Field(default=2000, ge=10)
    folds: int = Field(default=5, ge=2)
    seeds: int = Field(default=3, ge=1)
    hidden_cells: float = Field(default=0.2, gt=0, lt=1)
    probes: tuple[int, ...] = (3, 5, 10)
    throughputs: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)
    violations: float = Field(default=0.05, gt=0, lt=1)
