"""Text at the project's borders: names that people type, a terminal, a spreadsheet."""

import difflib
import re
from collections.abc import Iterable

import pandas as pd

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
