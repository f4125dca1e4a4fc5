"""What all settings and parameters have in common; and a deterministic slice of a list, so that many jobs share one."""

from collections.abc import Sequence
from typing import Annotated, Self, TypeVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

Item = TypeVar("Item")


class Settings(BaseModel):
    """Values that don't change; a name that none of them has is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def first_reason(error: ValidationError) -> str:
    """What is wrong with the first value that was refused, as a sentence."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where} is {first['input']!r}: {first['msg'].lower()}."


def _words(value: object) -> object:
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    return () if value is None else (value,) if isinstance(value, int) else value


def _paths(value: object) -> object:
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str) else value


#: Files or folders: one path, which may hold blanks, or a list.
Paths = Annotated[tuple[str, ...], BeforeValidator(_paths)]

#: Names or numbers; on the command line in one string: ``--params ground_truth.models="a b"``.
Words = Annotated[tuple[Item, ...], BeforeValidator(_words)]

#: A seed that all generators of random numbers take: scikit-learn's are the narrowest.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


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
