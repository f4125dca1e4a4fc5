"""Parameters of the pipeline import_artefacts."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ImportArtefactsParameters(BaseModel):
    """What ``conf/base/parameters/import_artefacts.yml`` holds; each knob is explained there."""

    model_config = ConfigDict(extra="forbid")

    arrays: str | None = None
    thesis_performance: str | None = None
    thesis_similarity: str | None = None
    thesis_autoencoder: str | None = None
    thesis_activation: Literal["gelu", "relu", "leaky_relu"] = "relu"
    thesis_normalised: bool = True
    thesis_transformer: str | None = None
    thesis_heads: int = Field(default=8, ge=1)
    transfergraph: str | None = None
    timm_results: tuple[str, ...] = ()
    wide_tables: tuple[str, ...] = ()
    unit: Literal["auto", "fraction", "percent"] = "auto"
    strict: bool = Field(default=False)
