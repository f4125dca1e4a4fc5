"""Parameters of the pipeline published."""

from __future__ import annotations

from pydantic import Field

from thesis_rec.base.settings import Settings


class PublishedParameters(Settings):
    """What ``conf/base/parameters/published.yml`` holds; each knob is explained there."""

    tables: str = ""
    cache: str = Field(min_length=1)
    aliases: str = Field(min_length=1)
    protocols: tuple[str, ...] = ("linear_probe", "zero_shot", "fine_tune")
    rank: int = Field(default=4, ge=1)
    loadings: float = Field(default=1.0, ge=0)
    own: float = Field(default=10.0, ge=0)
    mean: float = Field(default=0.3, ge=0)
