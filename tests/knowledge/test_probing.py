"""Which candidate is tried next: decisions on beliefs whose right answer is plain."""

from __future__ import annotations

import numpy as np
import pytest

from thesis_rec.knowledge.posterior import Cell, Posterior, Scale
from thesis_rec.knowledge.probing import next_probe


def _belief(mean: list[float], own: list[float], level: float = 1.0, factor: np.ndarray | None = None) -> Posterior:
    shared = np.full((len(mean), 1), level)
    columns = shared if factor is None else np.hstack([shared, factor])
    return Posterior([f"m{k}" for k in range(len(mean))], np.array(mean), columns, np.array(own), Scale())


def test_the_first_try_is_the_best_guess() -> None:
    assert next_probe(_belief([0.0, 0.3, 0.2], [0.01, 0.01, 4.0])) == "m1"


def test_then_the_one_that_may_still_be_better() -> None:
    belief = _belief([0.0, 0.3, 0.2, 0.25], [0.01, 0.01, 0.5, 0.01])
    after = belief.given([Cell("m1", float(Scale().value(0.3)))])
    assert next_probe(after) == "m2"
    assert next_probe(after, skip=["m2"]) == "m3"


def test_a_shared_unknown_level_invites_no_try() -> None:
    # m1 varies a lot, but together with the tried m0; m2 varies by itself.
    factor = np.array([[1.0], [1.0], [0.0]])
    belief = _belief([0.0, -0.1, -0.1], [1e-4, 1e-4, 0.3], level=3.0, factor=factor)
    assert next_probe(belief.given([Cell("m0", 0.5, noise=0.3)])) == "m2"


def test_twins_of_a_bad_one_are_left_alone() -> None:
    factor = np.array([[1.0], [1.0], [0.0], [0.0]])
    belief = _belief([0.1, 0.05, 0.0, -3.0], [1e-3, 1e-3, 0.3, 0.3], level=0.01, factor=factor)
    assert next_probe(belief) == "m0"
    assert next_probe(belief.given([Cell("m0", float(Scale().value(-1.0)))])) == "m2"


def test_costs_count_by_a_share_of_their_logarithm() -> None:
    belief = _belief([0.0, 0.3, 0.29], [0.1, 0.1, 0.1]).given([Cell("m0", 0.5)])
    assert next_probe(belief) == "m1"
    assert next_probe(belief, {"m1": 100.0, "m2": 1.0}) == "m2"
    assert next_probe(belief, {"m1": 100.0, "m2": 1.0}, share=0.0) == "m1"
    # Without a known cost a candidate counts as dear as the dearest.
    assert next_probe(belief, {"m2": 1.0, "m0": 50.0}) in {"m1", "m2"}
    with pytest.raises(ValueError, match="m1 isn't above 0"):
        next_probe(belief, {"m1": 0.0, "m2": 1.0})


def test_the_first_try_may_be_a_cheap_good_one() -> None:
    belief = _belief([0.0, 0.1, 1.0, 0.95], [0.1] * 4)
    assert next_probe(belief, {"m0": 1.0, "m1": 1.0, "m2": 1000.0, "m3": 1.0}) == "m3"


def test_nothing_left_to_try() -> None:
    belief = _belief([0.0, 0.1], [0.1, 0.1]).given([Cell("m0", 0.5), Cell("m1", 0.6)])
    assert next_probe(belief) is None
    assert next_probe(_belief([0.0], [0.1]), skip=["m0", "unknown"]) is None


def test_equal_promises_are_settled_by_the_mean() -> None:
    belief = _belief([-800.0, -900.0, 0.5], [1e-6, 1e-6, 1e-6], level=0.0).given([Cell("m2", 0.6)])
    assert next_probe(belief) == "m0"
