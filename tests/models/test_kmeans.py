"""One-dimensional k-means against an independent dynamic programme."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thesis_rec.models import kmeans
from thesis_rec.models.k_link_path import cluster
from thesis_rec.models.kmeans import NotFiniteError, kmeans_1d, squared_error
from thesis_rec.models.kmeans_support import runs


def optimal_error(values: np.ndarray, k: int) -> float:
    """Squared error of the best clusters by the plain quadratic dynamic programme over sorted values."""
    x = np.sort(values.astype(np.float64))
    x -= x.mean()
    one, two = np.r_[0.0, np.cumsum(x)], np.r_[0.0, np.cumsum(x * x)]
    count = np.arange(x.size + 1)
    best = np.full(x.size + 1, np.inf)
    best[0] = 0.0
    for _ in range(k):
        new = best.copy()
        for end in range(1, x.size + 1):
            start = np.arange(end)
            sums = one[end] - one[start]
            new[end] = min(best[end], (best[start] + two[end] - two[start] - sums**2 / (end - count[start])).min())
        best = new
    return max(float(best[-1]), 0.0)


finite = st.floats(-1e6, 1e6, width=32, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    values=st.one_of(
        hnp.arrays(np.float32, st.integers(1, 40), elements=finite),
        hnp.arrays(np.float32, st.integers(1, 40), elements=st.integers(-5, 5).map(float)),
    ),
    k=st.integers(1, 12),
)
def test_the_optimum_is_found(values, k):
    centres = kmeans_1d(values.copy(), k)
    spread = float(((values.astype(np.float64) - values.mean(dtype=np.float64)) ** 2).sum())
    assert centres.dtype == np.float32
    assert centres.shape == (min(values.size, k),)
    assert (np.diff(centres) <= 0).all()
    # The centres themselves are rounded to float32, the smallest of them to multiples of the smallest subnormal.
    step = float(np.finfo(np.float32).smallest_subnormal)
    rounding = values.size * (float(np.abs(values).max()) ** 2 * 1e-13 + step**2)
    assert squared_error(values, centres) <= optimal_error(values, k) * (1 + 1e-6) + 1e-9 * spread + rounding


@pytest.mark.parametrize("k", [1, 2, 7, 30, 53, 200])
def test_equally_spaced_values_where_no_price_gives_k_clusters(k):
    values = np.arange(600, dtype=np.float32)
    centres = kmeans_1d(values, k)
    sizes = [600 // k + (i < 600 % k) for i in range(k)]
    assert centres.size == k
    assert squared_error(values, centres) == pytest.approx(sum(s * (s * s - 1) / 12 for s in sizes), rel=1e-6)


DISTRIBUTIONS = {
    "normal": lambda g, n: g.standard_normal(n) * 0.02,
    "outlier": lambda g, n: np.r_[g.standard_normal(n - 1), 1e6],
    "away from zero": lambda g, n: 1 + 1e-3 * g.standard_normal(n),
    "two crowds": lambda g, n: np.r_[1 + 1e-4 * g.standard_normal(n // 2), 2 + 1e-4 * g.standard_normal(n - n // 2)],
    "heavy tails": lambda g, n: g.standard_cauchy(n),
    "mostly zero": lambda g, n: np.where(g.random(n) < 0.9, 0.0, g.standard_normal(n)),
    "tiny": lambda g, n: 1e-40 * g.standard_normal(n),
}


@pytest.mark.parametrize("n", [3000, 40_000])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_large_tensors_are_within_one_percent_of_a_fine_support(name, n):
    values = DISTRIBUTIONS[name](np.random.default_rng(0), n).astype(np.float32)
    support, weights = runs(np.sort(values))
    fine, _ = cluster(support, weights, 30)  # exact: every distinct value is a point
    error = squared_error(values, kmeans_1d(values, 30))
    assert error <= 1.01 * squared_error(values, fine.astype(np.float32))


def test_quantised_weights_are_exact_however_many():
    values = np.random.default_rng(0).integers(0, 300, 50_000).astype(np.float32) / 300
    support, counts = np.unique(values, return_counts=True)
    expected, _ = cluster(support.astype(np.float64), counts.astype(np.float64), 20)
    np.testing.assert_array_equal(kmeans_1d(values, 20), expected[::-1].astype(np.float32))


def test_bfloat16_values_are_their_own_bins():
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    values = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    support, weights = runs(np.sort(values))
    fine, _ = cluster(support, weights, 40)
    assert squared_error(values, kmeans_1d(values, 40)) <= 1.01 * squared_error(values, fine)


def test_constant_tensors_repeat_their_value():
    np.testing.assert_array_equal(kmeans_1d(np.full(64, 0.5, np.float32), 30), np.full(30, 0.5, np.float32))
    np.testing.assert_array_equal(kmeans_1d(np.zeros(50_000, np.float32), 3), np.zeros(3, np.float32))


def test_few_distinct_values_are_repeated_by_frequency():
    values = np.repeat(np.array([1, 2], np.float32), [90, 10])
    np.testing.assert_array_equal(kmeans_1d(values, 10), np.repeat(np.array([2, 1], np.float32), [1, 9]))


@pytest.mark.parametrize("n", [10, 200, 30_000])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(n, bad):
    values = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    values[n // 2] = bad
    with pytest.raises(NotFiniteError):
        kmeans_1d(values, 5)


def test_k_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        kmeans_1d(np.ones(3, np.float32), 0)


def test_many_clusters_divide_the_bins(monkeypatch):
    values = np.random.default_rng(0).standard_normal(60_000).astype(np.float32)
    monkeypatch.setattr(kmeans, "_sorted_path", None)  # large tensors aren't sorted for this
    centres = kmeans_1d(values, 2000)
    monkeypatch.undo()
    fine, _ = cluster(*runs(np.sort(values)), 2000)
    assert squared_error(values, centres) <= 1.02 * squared_error(values, fine)


def test_what_no_division_of_bins_resolves_is_sorted(monkeypatch):
    monkeypatch.setattr(kmeans, "_MOST_BINS", 1)
    values = (1 + 1e-3 * np.random.default_rng(0).standard_normal(20_000)).astype(np.float32)
    fine, _ = cluster(*runs(np.sort(values)), 8)
    assert squared_error(values, kmeans_1d(values, 8)) <= 1.01 * squared_error(values, fine)
