"""One-dimensional k-means against an independent dynamic programme."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thesis_rec.models import kmeans
from thesis_rec.models.kmeans import (
    cluster,
    count_bins,
    kmeans_1d,
)


def optimal_errors(values: np.ndarray, k: int) -> list[float]:
    """Squared errors of the best 0 to ``k`` clusters by the plain quadratic dynamic programme over sorted values."""
    x = np.sort(values.astype(np.float64))
    x -= x.mean()
    one, two = np.r_[0.0, np.cumsum(x)], np.r_[0.0, np.cumsum(x * x)]
    count = np.arange(x.size + 1)
    best = np.full(x.size + 1, np.inf)
    best[0] = 0.0
    found = [np.inf]
    for _ in range(k):
        new = best.copy()
        for end in range(1, x.size + 1):
            start = np.arange(end)
            sums = one[end] - one[start]
            new[end] = min(best[end], (best[start] + two[end] - two[start] - sums**2 / (end - count[start])).min())
        best = new
        found.append(max(float(best[-1]), 0.0))
    return found


def optimal_error(values: np.ndarray, k: int) -> float:
    return optimal_errors(values, k)[k]


def distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values and how often each occurs."""
    support, counts = np.unique(values, return_counts=True)
    return support.astype(np.float64), counts.astype(np.float64)


def squared_error(values: np.ndarray, centres: np.ndarray) -> float:
    """Sum of squared distances of ``values`` ``(n,)`` to their nearest centre."""
    ordered = np.sort(np.asarray(centres, dtype=np.float64))
    borders = (ordered[1:] + ordered[:-1]) / 2
    exact = np.asarray(values, dtype=np.float64)
    return float(((exact - ordered[np.searchsorted(borders, exact)]) ** 2).sum())


finite = st.floats(-1e6, 1e6, width=32, allow_nan=False)


@settings(max_examples=60)
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
    support, weights = distinct(values)
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
    support, weights = distinct(values)
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
    with pytest.raises(ValueError, match="NaN or infinite"):
        kmeans_1d(values, 5)


def test_many_clusters_divide_the_bins(monkeypatch):
    values = np.random.default_rng(0).standard_normal(60_000).astype(np.float32)
    monkeypatch.setattr(np, "unique", None)  # large tensors aren't sorted for this
    centres = kmeans_1d(values, 2000)
    monkeypatch.undo()
    fine, _ = cluster(*distinct(values), 2000)
    assert squared_error(values, centres) <= 1.02 * squared_error(values, fine)


def test_what_the_bins_do_not_resolve_is_sorted():
    values = (1 + 1e-3 * np.random.default_rng(0).standard_normal(20_000)).astype(np.float32)
    fine, _ = cluster(*distinct(values), 8)
    assert squared_error(values, kmeans_1d(values, 8)) <= 1.01 * squared_error(values, fine)


class TestOutliers:
    """However far a few values lie off, the others are clustered as if those weren't there."""

    bulk = (np.random.default_rng(0).normal(size=1500) * 0.02).astype(np.float32)

    @pytest.fixture(scope="class")
    def optimal(self):
        return optimal_errors(self.bulk, 79)

    def bulk_error(self, centres):
        return squared_error(self.bulk, centres)

    @pytest.mark.parametrize("exponent", [2, 4, 6, 8, 10, 20, 30, 38])
    @pytest.mark.parametrize("sign", [-1.0, 1.0])
    def test_one(self, exponent, sign, optimal):
        outlier = np.float32(sign * 10.0**exponent)
        centres = kmeans_1d(np.r_[self.bulk, outlier], 80)
        assert (centres == outlier).sum() == 1
        assert self.bulk_error(centres) == pytest.approx(optimal[79], rel=0.02)

    def test_several_of_all_orders_on_both_sides(self, optimal):
        outliers = np.array([-1e30, -2e12, 3e5, 1e9, 1.5e9, 1e20], np.float32)
        centres = kmeans_1d(np.r_[self.bulk, outliers], 80)
        assert set(outliers) <= set(centres)
        assert self.bulk_error(centres) == pytest.approx(optimal[74], rel=0.02)

    def test_of_a_large_tensor(self):
        values = np.random.default_rng(1).normal(size=60_000).astype(np.float32) * np.float32(0.02)
        plain = squared_error(values, kmeans_1d(values, 40))
        assert squared_error(values, kmeans_1d(np.r_[values, np.float32(1e12)], 41)) == pytest.approx(plain, rel=0.02)

    def test_two_crowds_far_apart(self):
        draw = np.random.default_rng(2)
        crowds = [
            (base + spread * draw.normal(size=400)).astype(np.float32) for base, spread in ((0, 0.02), (1e8, 1e3))
        ]
        values = np.concatenate(crowds)
        centres = kmeans_1d(values, 20)
        # The wide crowd has all the error, the narrow one needs one centre only. Numbers of 1e8 are 8 apart in float32,
        # and so are the centres, which adds up to a thousandth.
        assert (np.abs(centres) < 1).sum() == 1
        assert squared_error(crowds[1], centres) == pytest.approx(optimal_error(crowds[1], 19), rel=2e-3)

    def test_more_of_one_number_than_of_all_others(self):
        values = np.r_[np.zeros(900), np.logspace(-8, 20, 90), -np.logspace(-8, 20, 90)].astype(np.float32)
        centres = kmeans_1d(values, 30)
        assert squared_error(values, centres) <= optimal_error(values, 30) * (1 + 1e-6)

    def test_one_pair_of_eight_numbers_beside_one_of_1e14(self):
        values = np.array([0.125, 1, 2, 3, 4, 312, -3.3554432e7, -8.459782e13], np.float32)
        assert squared_error(values, kmeans_1d(values, 7)) == pytest.approx(2 * 0.4375**2, rel=1e-6)

    @given(
        values=hnp.arrays(
            np.float32, st.integers(2, 40), elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_nan=False)
        ),
        k=st.integers(1, 8),
    )
    @settings(max_examples=60)
    def test_numbers_of_any_order(self, values, k):
        assert (
            squared_error(values, kmeans_1d(values.copy(), k)) <= optimal_error_by_means(values, k) * (1 + 1e-5) + 1e-30
        )


def optimal_error_by_means(values: np.ndarray, k: int) -> float:
    """As :func:`optimal_error`, each cluster's error from its own mean, so that no digits are lost."""
    x = np.sort(values.astype(np.float64))
    best = np.r_[0.0, np.full(x.size, np.inf)]
    for _ in range(k):
        new = best.copy()
        for end in range(1, x.size + 1):
            for start in range(end):
                part = x[start:end]
                new[end] = min(new[end], best[start] + ((part - part.mean()) ** 2).sum())
        best = new
    return float(best[-1])


@pytest.mark.parametrize("n_bits", [16, 17, 20])
def test_histogram_bins_are_ordered_and_exact(n_bits):
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    support, weights, width = count_bins(values, n_bits)
    assert (np.diff(support) > 0).all()
    assert weights.sum() == values.size
    assert (support * weights).sum() == pytest.approx(values.astype(np.float64).sum(), abs=1e-9)
    assert width.max() <= np.abs(values).max() / 64 / 2 ** (n_bits - 16) * 1.01


def test_one_price_for_two_numbers_of_clusters_is_spliced():
    fewer, more = np.array([0, 5, 10]), np.array([0, 2, 5, 7, 10])
    spliced = kmeans._splice(fewer, more, 3)
    assert spliced.tolist() in ([0, 2, 5, 10], [0, 5, 7, 10])
