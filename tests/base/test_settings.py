"""Types of parameters."""

import pytest
from pydantic import TypeAdapter, ValidationError

from thesis_rec.base.settings import Words


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a b", ("a", "b")), ("a, b", ("a", "b")), ("a", ("a",)), (None, ()), ("", ()), (["a b", "c"], ("a b", "c"))],
)
def test_names_are_given_as_a_list_or_in_one_string(given, expected):
    assert TypeAdapter(Words).validate_python(given) == expected


def test_other_things_are_refused():
    with pytest.raises(ValidationError):
        TypeAdapter(Words).validate_python([1])
