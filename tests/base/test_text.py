"""What terminals and spreadsheets would obey arrives as plain text."""

import pandas as pd
import pytest

from thesis_rec.base.errors import printable, without_formulas


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat", "cat"),
        ("Käse 猫", "Käse 猫"),
        ("\x1b[2Jcat", "\\x1b[2Jcat"),
        ("a\nb\x9b", "a\\nb\\x9b"),
        ("abc\u202egnp", "abc\\u202egnp"),
        ("bad\udcff", "bad\\udcff"),
    ],
)
def test_steering_characters_are_escaped(text, shown):
    assert printable(text) == shown
    assert printable(text).isprintable()
    assert printable(text).encode()


def test_cells_that_begin_like_formulas_are_quoted():
    table = pd.DataFrame({"licence": ["=cmd()", "+1", "-1", "@x", "MIT", "a=b"], "value": [-1.0, 1, 2, 3, 4, 5]})
    safe = without_formulas(table)
    assert safe["licence"].tolist() == ["'=cmd()", "'+1", "'-1", "'@x", "MIT", "a=b"]
    assert safe["value"].tolist() == table["value"].tolist()
