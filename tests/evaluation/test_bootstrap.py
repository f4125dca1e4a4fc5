"""Intervals against theory and against a loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_rec.evaluation.figures import cluster_bootstrap


def test_single_clusters_give_the_normal_interval():
    values = np.random.default_rng(0).normal(0.5, 0.1, size=200)
    interval = cluster_bootstrap(values, draws=4000)
    half = 1.96 * values.std() / np.sqrt(200)
    assert interval["mean"] == pytest.approx(values.mean())
    assert interval["low"] == pytest.approx(values.mean() - half, abs=0.002)
    assert interval["high"] == pytest.approx(values.mean() + half, abs=0.002)
    assert interval["n"] == 200


def test_clusters_widen_the_interval():
    rng = np.random.default_rng(1)
    effect = rng.normal(size=20)
    values = np.repeat(effect, 10) + 0.1 * rng.normal(size=200)
    clusters = np.repeat([f"c{i}" for i in range(20)], 10)
    wide, narrow = cluster_bootstrap(values, clusters), cluster_bootstrap(values)
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


def test_resampling_is_that_of_a_plain_loop():
    values, clusters = np.array([1.0, 2.0, 3.0, 10.0]), ["a", "a", "b", "c"]
    picked = np.random.default_rng(3).integers(0, 3, size=(500, 3))
    parts = [[1.0, 2.0], [3.0], [10.0]]
    means = [np.mean(np.concatenate([parts[i] for i in row])) for row in picked]
    interval = cluster_bootstrap(values, clusters, draws=500, seed=3)
    assert (interval["low"], interval["high"]) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_pairing_removes_what_is_common():
    rng = np.random.default_rng(2)
    common = rng.normal(size=50)
    first, second = common + 0.1 + 0.01 * rng.normal(size=50), common
    interval = cluster_bootstrap(first - second)
    assert 0.09 < interval["low"] < interval["mean"] < interval["high"] < 0.11
    assert cluster_bootstrap([0.5, np.nan])["n"] == 1


def test_undefined_figures():
    nothing = cluster_bootstrap([np.nan, np.nan])
    assert nothing["n"] == 0
    assert nothing == {"mean": None, "low": None, "high": None, "n": 0}
    one = cluster_bootstrap([1.0, 2.0], ["a", "a"])
    assert one == {"mean": 1.5, "low": None, "high": None, "n": 2}


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.integers(0, 100))
def test_the_mean_lies_within(values, seed):
    interval = cluster_bootstrap(values, draws=50, seed=seed)
    assert interval["low"] <= interval["mean"] <= interval["high"]
    assert interval == cluster_bootstrap(values, draws=50, seed=seed)
