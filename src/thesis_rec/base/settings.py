"""What all settings and parameters have in common."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


class Settings(BaseModel):
    """Values that don't change; a name that none of them has is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def first_reason(error: ValidationError) -> str:
    """What is wrong with the first value that was refused, as a sentence."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where} is {first['input']!r}: {first['msg'].lower()}."


def _words(value: object) -> object:
    if value is None:
        return ()
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _paths(value: object) -> object:
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str) else value


#: Files or folders: one path, which may hold blanks, or a list.
Paths = Annotated[tuple[str, ...], BeforeValidator(_paths)]

#: Names; on the command line in one string: ``--params ground_truth.models="a b"``.
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]

#: A seed that all generators of random numbers take: scikit-learn's are the narrowest.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
