"""Static priors against loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_rec.knowledge.static_prior import StaticPrior, family_means, leave_related_out, related, standardise


def table(seed, n=6, m=5):
    rng = np.random.default_rng(seed)
    measured = rng.random((n, m)) > 0.25
    return np.where(measured, rng.random((n, m)), np.nan), measured


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999))
def test_standardised_values_have_mean_zero_and_unit_spread(seed):
    values, measured = table(seed)
    z = standardise(values, measured, floor=1e-9)
    assert (z[~measured] == 0).all()
    for row, mask in zip(z, measured, strict=True):
        if mask.sum() > 1:
            assert row[mask].mean() == pytest.approx(0, abs=1e-9)
            assert row[mask].std() == pytest.approx(1)


def test_differences_below_the_noise_stay_small():
    z = standardise(np.array([[0.5, 0.501, 0.499]]), np.ones((1, 3), bool), floor=0.02)
    assert np.abs(z).max() == pytest.approx(0.05)


def test_tasks_are_related_by_a_common_parent():
    parents = [("a",), ("b",), ("a", "b"), ("c",)]
    assert related(parents).astype(int).tolist() == [[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert related([("c",)], parents).tolist() == [[False, False, False, True]]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_the_prior_of_a_task_leaves_out_all_its_relatives(seed):
    values, measured = table(seed)
    z = standardise(values, measured)
    parents = [("a",), ("b",), ("a", "b"), ("c",), ("a",), ("d",)]
    weight = np.array([1.0, 1.0, 0.0, 1.0, 0.5, 1.0])
    found = leave_related_out(z, measured, weight, parents)
    for i, own in enumerate(parents):
        for m in range(5):
            cells = [(weight[j], z[j, m]) for j, p in enumerate(parents) if not set(own) & set(p) and measured[j, m]]
            total = sum(w for w, _ in cells)
            expected = sum(w * v for w, v in cells) / total if total else 0.0
            assert found[i, m] == pytest.approx(expected, abs=1e-9)


def test_a_model_falls_back_to_its_family_then_to_the_mean_of_all():
    z = np.array([[1.0, -1.0, 0.0, 3.0], [3.0, -3.0, 0.0, 9.0]])
    measured = np.array([[True, True, False, True], [True, True, False, True]])
    prior = StaticPrior.fit(z, measured, np.ones(2), list("abcd"), ["x", "x", "x", "y"])
    assert prior(["a", "c", "new", "d", "other"], ["x", "x", "y", "y", "z"]).tolist() == [2, 0, 6, 6, 0]
    assert prior.hidden(["a", "b", "d"], ["x", "x", "y"]).tolist() == [-2, 2, 0]
    assert StaticPrior.from_state(prior.state()) == prior


def test_family_means_leave_the_model_itself_out():
    prior = np.array([[1.0, 3.0, 5.0, 7.0]])
    found = family_means(prior, np.array([[True, True, True, False]]), ["x", "x", "x", "y"])
    assert found.tolist() == [[4.0, 3.0, 2.0, 0.0]]
