"""Types of parameters."""

import pytest
from pydantic import TypeAdapter, ValidationError

from thesis_rec.base.settings import Words


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a b", ("a", "b")), ("a, b", ("a", "b")), ("a", ("a",)), (None, ()), ("", ()), (["a b", "c"], ("a b", "c"))],
)
def test_names_are_given_as_a_list_or_in_one_string(given, expected):
    assert TypeAdapter(Words[str]).validate_python(given) == expected


@pytest.mark.parametrize(("given", "expected"), [("1 32", (1, 32)), (8, (8,)), ([1, 2], (1, 2)), ("", ())])
def test_numbers_are_given_likewise(given, expected):
    assert TypeAdapter(Words[int]).validate_python(given) == expected


def test_other_things_are_refused():
    with pytest.raises(ValidationError):
        TypeAdapter(Words[str]).validate_python([1])
