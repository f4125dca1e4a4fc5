"""A deterministic slice of a list of items, so that many jobs share one manifest."""

from collections.abc import Sequence
from typing import Self, TypeVar

import numpy as np
from pydantic import Field, model_validator

from thesis_rec.base.settings import Settings

Item = TypeVar("Item")


def evenly(items: Sequence[Item], count: int | None) -> list[Item]:
    """At most ``count`` of the items at even distances, from the first to the last; all where it is None."""
    if count is None or len(items) <= count:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, num=count).round().astype(int)]


class Shard(Settings):
    """Slice ``index`` of ``count``: every ``count``-th item, so that neighbours of similar size are spread out."""

    index: int = Field(default=0, ge=0)
    count: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _index_within_count(self) -> Self:
        if self.index >= self.count:
            raise ValueError(f"shard.index is {self.index} but must be below shard.count, {self.count}")
        return self

    def select(self, items: Sequence[Item]) -> list[Item]:
        """The items of this slice; all slices together give each item once."""
        return list(items[self.index :: self.count])
