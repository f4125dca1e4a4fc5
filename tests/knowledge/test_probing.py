"""Which candidate is tried next: decisions on beliefs whose right answer is plain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from thesis_rec.knowledge import posterior as probing
from thesis_rec.knowledge.posterior import FIRST, Cell, Posterior, Scale, View, next_probe


def _belief(mean: list[float], own: list[float], level: float = 1.0, factor: np.ndarray | None = None) -> Posterior:
    shared = np.full((len(mean), 1), level)
    columns = shared if factor is None else np.hstack([shared, factor])
    return Posterior([f"m{k}" for k in range(len(mean))], np.array(mean), columns, np.array(own), Scale())


def _later(belief: Posterior, cells: list[Cell]) -> Posterior:
    """The belief after so many tries of others, all alike and bad, that expected improvement decides."""
    others = [f"old{k}" for k in range(FIRST)]
    size, width = len(belief.model_ids), belief.factor.shape[1]
    wider = Posterior(
        [*belief.model_ids, *others],
        np.concatenate([belief.mean, np.full(FIRST, -50.0)]),
        np.vstack([belief.factor, np.zeros((FIRST, width))]),
        np.concatenate([belief.own, np.full(FIRST, 1e-6)]),
        belief.scale,
    )
    assert len(wider.model_ids) == size + FIRST
    return wider.given([*cells, *(Cell(name, 0.0) for name in others)])


def test_the_first_try_is_the_best_guess() -> None:
    """However uncertain another one is by itself: trying it would say nothing of the rest."""
    assert next_probe(_belief([0.0, 0.3, 0.2], [0.01, 0.01, 4.0])) == "m1"


def test_early_tries_go_to_kinds_that_may_suit() -> None:
    """Of two that promise alike, the one of whose kind least is known; not one that is far behind."""
    kinds = np.array([[0.0], [0.0], [0.0], [1.0], [1.0]])
    # However unknown the level that all share: it tells no candidate from another.
    belief = _belief([0.3, 0.25, 0.0, 0.2, -2.0], [0.01] * 5, level=30.0, factor=kinds)
    assert next_probe(belief) == "m0"
    assert next_probe(belief.given([Cell("m0", 0.5, noise=10.0)])) == "m3"
    plain = _belief([0.3, 0.25, 0.0, 0.2, -2.0], [0.01] * 5)
    assert next_probe(plain.given([Cell("m0", float(Scale().value(0.3)))])) == "m1"


def test_early_tries_do_not_chase_what_is_uncertain_alone() -> None:
    """Until then: it may still be the best."""
    belief = _belief([0.0, 0.3, 0.2, 0.25], [0.01, 0.01, 0.5, 0.01])
    cell = Cell("m1", float(Scale().value(0.3)))
    assert next_probe(belief.given([cell])) == "m3"
    assert next_probe(_later(belief, [cell])) == "m2"
    assert next_probe(_later(belief, [cell]), skip=["m2"]) == "m3"


def test_a_long_shot_waits_for_what_is_probably_a_little_better() -> None:
    """Its expected improvement is the higher one if deviations count fully (.12 for .11); a longer one is worth it."""
    tried = Cell("m0", float(Scale().value(0.0)), noise=1e-4)
    assert next_probe(_later(_belief([0.0, 0.1, -0.3], [1e-8, 0.01, 0.36], level=0.0), [tried])) == "m1"
    assert next_probe(_later(_belief([0.0, 0.1, -0.3], [1e-8, 0.01, 1.2], level=0.0), [tried])) == "m2"


def test_a_shared_unknown_level_invites_no_try() -> None:
    # m1 varies a lot, but together with the tried m0; m2 varies by itself.
    factor = np.array([[1.0], [1.0], [0.0]])
    belief = _belief([0.0, -0.1, -0.6], [1e-4, 1e-4, 0.3], level=3.0, factor=factor)
    assert next_probe(_later(belief, [Cell("m0", 0.5, noise=0.3)])) == "m2"


def test_twins_of_a_bad_one_are_left_alone() -> None:
    factor = np.array([[1.0], [1.0], [0.0], [0.0]])
    belief = _belief([0.1, 0.05, 0.0, -3.0], [1e-3, 1e-3, 0.3, 0.3], level=0.01, factor=factor)
    assert next_probe(belief) == "m0"
    assert next_probe(belief.given([Cell("m0", float(Scale().value(-1.0)))])) == "m2"


def test_costs_count_by_a_share_of_their_logarithm(monkeypatch) -> None:
    belief = _later(_belief([0.0, 0.3, 0.29], [0.1, 0.1, 0.1]), [Cell("m0", 0.5)])
    assert next_probe(belief) == "m1"
    assert next_probe(belief, {"m1": 100.0, "m2": 1.0}) == "m2"
    # Without a known cost a candidate counts as dear as the dearest.
    assert next_probe(belief, {"m2": 100.0, "m0": 1.0}) == "m1"
    with pytest.raises(ValueError, match="m1 isn't above 0"):
        next_probe(belief, {"m1": 0.0, "m2": 1.0})
    monkeypatch.setattr(probing, "SHARE", 0.0)
    assert next_probe(belief, {"m1": 100.0, "m2": 1.0}) == "m1"


def test_the_first_try_may_be_a_cheap_good_one() -> None:
    """Ten times as dear is a promise an eighth higher."""
    belief = _belief([0.0, 0.1, 1.0, 0.95], [0.1] * 4)
    assert next_probe(belief) == "m2"
    assert next_probe(belief, {"m0": 1.0, "m1": 1.0, "m2": 1000.0, "m3": 1.0}) == "m3"
    assert next_probe(belief, {"m0": 1.0, "m1": 1.0, "m2": 1.05, "m3": 1.0}) == "m2"


def test_one_of_whose_like_nothing_is_known_is_tried_second() -> None:
    belief = _belief([0.0, 1.0, 0.9, -0.5, -1.0], [0.01] * 5)
    unlike = {"m3", "m4"}
    assert next_probe(belief, unlike=unlike) == "m1"
    once = belief.given([Cell("m1", 0.7)])
    assert next_probe(once) == "m2"
    assert next_probe(once, unlike=unlike) == "m3"
    assert next_probe(once, unlike=unlike, skip=["m3", "m4"]) == "m2"
    # One try says whether they are worth further ones.
    assert next_probe(once.given([Cell("m3", 0.3)]), unlike=unlike) == "m2"


def test_nothing_left_to_try() -> None:
    belief = _belief([0.0, 0.1], [0.1, 0.1]).given([Cell("m0", 0.5), Cell("m1", 0.6)])
    assert next_probe(belief) is None
    assert next_probe(_belief([0.0], [0.1]), skip=["m0", "unknown"]) is None


def test_equal_promises_are_settled_by_the_mean() -> None:
    belief = _belief([-800.0, -900.0, 0.5], [1e-6, 1e-6, 1e-6], level=0.0)
    assert next_probe(_later(belief, [Cell("m2", 0.6)])) == "m0"


def test_tries_under_another_protocol_are_tries_and_cheap_scores_are_none() -> None:
    belief = _belief([0.3, 0.25, 0.2, -1.0], [0.01] * 4)
    view = View(belief.mean, belief.factor, belief.own, Scale())
    belief = replace(belief, views={"linear_probe": view, "logme": view})
    told = belief.given([Cell("m0", 0.55, protocol="linear_probe"), Cell("m1", 0.55, protocol="logme")])
    assert next_probe(told, protocol="linear_probe") == "m1"
    # The second try goes to one of whose like nothing is known, as after a try under the protocol itself.
    assert next_probe(told, protocol="linear_probe", unlike=["m3"]) == "m3"
    assert next_probe(told, unlike=["m3"]) == "m0"
