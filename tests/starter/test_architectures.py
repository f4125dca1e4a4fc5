"""Families and sizes of the networks."""

from thesis_rec.starter.architectures import ARCHITECTURES, FAMILIES, UNKNOWN_FAMILIES
from thesis_rec.starter.construction import build, parameter_count


def test_there_are_enough_families_and_two_sizes_of_each():
    assert len(FAMILIES) >= 11
    assert {a.library for a in ARCHITECTURES.values()} == {"timm", "transformers", "open_clip"}
    assert len(UNKNOWN_FAMILIES) >= 2
    assert set(UNKNOWN_FAMILIES) < set(FAMILIES)
    for family in FAMILIES:
        small, large = (parameter_count(build(ARCHITECTURES[f"{family}_{v}"], ["c"] * 10, 0)) for v in "ab")
        assert 15_000 < small < large < 120_000, family
