"""The project's own errors, the table in which failed items are reported, and text that people type and see.

One bad model or dataset must never stop the others, so processing code raises :class:`ItemError` for it, its caller
turns that into a :class:`Failure`, and only a check behind the whole step raises :class:`NothingSucceeded`.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import pandas as pd


class ThesisRecError(Exception):
    """Base of all errors that a user can act on; the command line prints them without a traceback."""


class ItemError(ThesisRecError):
    """One model, dataset or file can't be used.

    Args:
        item: Identifier of the model or dataset, or the path of the file.
        error: What is wrong with it, in one sentence.
        hint: What the user can do about it.
    """

    def __init__(self, item: str, error: str, hint: str) -> None:
        super().__init__(f"{item}: {error} {hint}".strip())
        self.item = item
        self.error = error
        self.hint = hint

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, str]]:
        # Exceptions with several arguments don't survive a process pool without this.
        return type(self), (self.item, self.error, self.hint)


@contextmanager
def explained(item: str, error: str, hint: str) -> Iterator[None]:
    """Whatever a library raises within the block becomes the error of an item; the project's own errors pass.

    Args:
        item: As of :class:`ItemError`, and so are the others.
        error: What is wrong, with ``{reason}`` where the library's words go.
        hint: What the user can do about it.
    """
    try:
        yield
    except ItemError:
        raise
    except Exception as raised:  # readers of damaged files raise anything at all
        reason = " ".join(str(raised).split())[:200] or type(raised).__name__
        if "truncated" in reason.lower() or isinstance(raised, EOFError):
            reason = "it is cut off"
        elif isinstance(raised, KeyError) and raised.args:
            reason = f"there is no {reason}"
        elif isinstance(raised, OSError) and raised.strerror and str(raised.filename).endswith(item):
            reason = raised.strerror  # without the path, which the item says: reasons are counted
        raise ItemError(item, error.replace("{reason}", reason), hint) from raised


class NothingSucceeded(ThesisRecError):
    """Every item of a step failed, or any did where the step is strict."""


class Unreached(ThesisRecError):
    """Items are missing that no job has come to: what reads the whole must not start on a part."""


class ConfigurationError(ThesisRecError):
    """The configuration asks for something impossible."""


@dataclass(frozen=True)
class Failure:
    """A row of a failures table."""

    item: str
    error: str
    hint: str = ""

    @classmethod
    def of(cls, item: str, error: Exception, hint: str = "") -> Self:
        """The failure of ``item`` by any exception; an :class:`ItemError` brings its own words."""
        if isinstance(error, ItemError):
            return cls(item, error.error, error.hint)
        return cls(item, f"{type(error).__name__}: {error}", hint)


#: The error of an item whose job never ran, or was killed before it came to it.
UNREACHED = "No job has come to it."


def failures_frame(failures: Iterable[Failure], key: str = "model_id") -> pd.DataFrame:
    """Failures as a table with the string columns ``key``, ``error`` and ``hint`` (empty when there are none)."""
    rows = [(f.item, f.error, f.hint) for f in failures]
    return pd.DataFrame(rows, columns=[key, "error", "hint"]).astype("string")


def causes(error: BaseException) -> list[BaseException]:
    """An error and what befell before it: what each was raised from, or while handling which."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    return chain


def first_line(error: Exception) -> str:
    """What an error says first, or its kind where it says nothing."""
    return str(error).partition("\n")[0] or type(error).__name__


def listed(names: Sequence[str], most: int) -> str:
    """At most so many names for a message, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def check_failures(failures: pd.DataFrame, succeeded: int, strict: bool, what: str) -> None:
    """Raise if a step produced nothing, if it is strict and anything failed, or if any item was never reached.

    Args:
        failures: Table made by :func:`failures_frame`.
        succeeded: Number of items that did succeed.
        strict: Whether a single failure is an error.
        what: Plural noun for the message, such as ``"models"``.

    Raises:
        Unreached: With the names of the items that no job has come to.
        NothingSucceeded: With up to five of the failures in its message.
    """
    unreached = failures.loc[failures["error"] == UNREACHED]
    if not unreached.empty:
        names = unreached.iloc[:, 0].tolist()
        raise Unreached(f"no job has come to {len(names)} {what}: {listed(names, 20)}. {unreached['hint'].iloc[0]}")
    if failures.empty or (succeeded and not strict):
        return
    lines = [f"  {row[0]}: {row[1]} {row[2]}".rstrip() for row in failures.head(5).itertuples(index=False)]
    rest = [f"  ... and {len(failures) - 5} more"] if len(failures) > 5 else []
    head = f"{len(failures)} of {len(failures) + succeeded} {what} failed" + ("" if succeeded else "; none succeeded")
    raise NothingSucceeded("\n".join([head + ":", *lines, *rest]))


#: Characters that steer a terminal or turn the direction of writing, and halves of characters.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

#: What spreadsheets take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    """The text with characters that steer a terminal written as escapes; line ends, too."""
    return _STEERING.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def did_you_mean(name: str, known: Iterable[str], alike: float = 0.6) -> str:
    """A sentence that asks whether the nearest known name was meant, behind a space; "" if none is as near as asked."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=alike)
    return f" Did you mean {near[0]}?" if near else ""


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before texts that a spreadsheet would compute."""
    return table.map(lambda cell: f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell)
