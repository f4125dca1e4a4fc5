"""One-dimensional k-means that finds the optimum, at the speed of reading the values once.

In one dimension clusters are intervals of the sorted values, so the best ones can be computed (Wang & Song 2011,
"Ckmeans.1d.dp") instead of searched for from random starts. Three steps:

1. *Support.* Up to 1024 distinct values are used as they are, and the result is exact. More are first gathered into
   a histogram whose bins are the upper 16 bits of a float32 (128 bins per power of two, so no range has to be known
   and no outlier spoils it); every bin keeps its count and its exact mean. Bins, or sorted values where there are few
   of them, are then merged into a dozen support points per cluster whose density follows the cube root of the data's
   (Panter & Dite 1951), which adds about ``1 / 12^2`` to the squared error.
2. *Clusters.* The best division of the support for a price per cluster is a shortest path whose edge costs have the
   Monge property, found in ``O(m log m)`` with a queue of candidates (Wilber 1988). The number of clusters falls with
   the price, so the price that gives ``k`` is searched, and where no price does, two neighbouring solutions are spliced
   into one with ``k`` clusters (Aggarwal, Schieber & Tokuyama 1994, "Finding a minimum-weight k-link path").
3. *Check.* If the bins were too coarse for this tensor (values crowded around a number other than zero, or very many
   clusters), they are divided by further bits in a second pass, and steps 1 and 2 are done again.

Step 2 is in :mod:`thesis_rec.models.k_link_path`.
Everything is deterministic, and the long loops release the interpreter's lock, so threads work on several tensors at
once.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from thesis_rec.models.compiled import compiled
from thesis_rec.models.k_link_path import cluster, totals

Floats = NDArray[np.float64]

#: Tensors with at most this many distinct values are clustered exactly.
EXACT_UP_TO = 1024
#: Tensors up to this size are sorted rather than counted into bins.
SORT_UP_TO = 16384
# Share of the squared error that the bins' width may add before they are divided.
_COARSE = 0.02
#: Support points per cluster: the squared error grows by about 1/12^2.
SUPPORT_PER_CLUSTER = 12
# All upper halves of a float32, in ascending order of its values: negative ones grow in magnitude with their bits.
_HALVES = np.concatenate([np.arange(0xFFFF, 0x7FFF, -1), np.arange(0x8000)]).astype(np.uint32)
# Logarithm of the largest number of bins: their table should stay in a processor's cache.
_MOST_BINS = 20


class NotFiniteError(ValueError):
    """There is a NaN or an infinite value among those to be clustered."""


def kmeans_1d(values: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """The centres of the best ``k`` clusters, largest first.

    With fewer than ``k`` values each is a centre; with fewer than ``k`` distinct ones they are repeated, the most
    frequent first, so that tensors of one shape always give equally many centres.

    Args:
        values: ``(n,)``, contiguous; not changed.
        k: Number of clusters, at least 1.

    Returns:
        ``(min(n, k),)`` in descending order.

    Raises:
        NotFiniteError: If a value is NaN or infinite.
        ValueError: If ``k`` is less than 1.
    """
    if k < 1:
        raise ValueError(f"k is {k} but must be at least 1")
    if values.size <= max(k, SORT_UP_TO):
        return _sorted_path(values, k)
    bits = values.view(np.uint32)
    prefixes, counts, lower = count_bins(bits)
    if ((prefixes & 0x7FFFFFFF) >= 0x7F800000).any():
        raise NotFiniteError("NaN or infinite value")
    support, weights, width = bins_as_support(prefixes, counts, lower, 16)
    if not lower.any():
        # Every bin is one number, as in bfloat16.
        return _finish(support, weights, k)
    # Few numbers, often repeated (quantised weights): sorting finds them, and the result is exact. Mostly the
    # first values tell.
    limit = _exact_up_to(k)
    if support.size <= limit and all(np.unique(some).size <= limit for some in (bits[: 4 * limit], bits)):
        return _sorted_path(values, k)
    centres, error = cluster(*merge(support, weights, SUPPORT_PER_CLUSTER * k), k)
    excess = bin_error(weights, width)
    if excess > _COARSE * error:
        # Halving a bin's width takes its error down to a quarter.
        wanted = np.log2(excess / (_COARSE * error)) / 2 + 1 if error > 0 else 16.0
        finer = int(max(1, min(np.ceil(wanted), 16, _MOST_BINS - np.ceil(np.log2(prefixes.size)))))
        prefixes, counts, lower = count_bins(bits, prefixes >> np.uint32(16), finer)
        support, weights, width = bins_as_support(prefixes, counts, lower, 16 - finer)
        if not lower.any():
            return _finish(support, weights, k)
        centres, error = cluster(*merge(support, weights, SUPPORT_PER_CLUSTER * k), k)
        if bin_error(weights, width) > _COARSE * error:
            return _sorted_path(values, k)
    return cast(NDArray[np.float32], centres[::-1].astype(np.float32))


def _sorted_path(values: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    if not np.isfinite(values).all():
        raise NotFiniteError("NaN or infinite value")
    if values.size <= k:
        return np.sort(values)[::-1].copy()
    support, counts = np.unique(values, return_counts=True)
    return _finish(support.astype(np.float64), counts.astype(np.float64), k)


def _finish(support: Floats, weights: Floats, k: int) -> NDArray[np.float32]:
    if support.size <= k:
        return cast(NDArray[np.float32], repeat(support, weights, k)[::-1].astype(np.float32))
    if support.size > _exact_up_to(k):
        support, weights = merge(support, weights, SUPPORT_PER_CLUSTER * k)
    centres, _ = cluster(support, weights, k)
    return cast(NDArray[np.float32], centres[::-1].astype(np.float32))


def _exact_up_to(k: int) -> int:
    return max(EXACT_UP_TO, SUPPORT_PER_CLUSTER * k)


# Coverage can't see into compiled functions, hence the pragma; the tests compare its results with a plain solution.
@compiled  # pragma: no cover
def _counted(bits: NDArray[np.uint32], first: NDArray[np.int64], n_bins: int, finer: int) -> NDArray[np.int64]:
    """(n_bins, 2) counts and sums of the last bits; ``first`` (65536,) is the first bin of each upper half."""
    n_lower, last = np.uint32(16 - finer), (1 << finer) - 1
    mask = np.uint32((1 << (16 - finer)) - 1)
    found = np.zeros((n_bins, 2), np.int64)
    for word in bits:
        part = np.int64((word & np.uint32(0xFFFF)) >> n_lower)
        # Negative numbers fall as their bits rise.
        if word >> np.uint32(31):
            part = last - part
        b = np.uint64(first[word >> np.uint32(16)] + part)  # without a sign it needn't be looked at
        found[b, 0] += 1
        found[b, 1] += word & mask
    return found


def count_bins(
    bits: NDArray[np.uint32], halves: NDArray[np.uint32] = _HALVES, finer: int = 0
) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
    """The histogram whose bins are upper halves of the values' bits, each divided into ``2 ** finer``.

    Args:
        bits: (n,) float32 values as words.
        halves: (B,) the upper halves that occur, ascending by value; all of them unless they are known.
        finer: Further bits, 0 to 16.

    Returns:
        The F occupied bins, ascending, by the bits that their numbers share (the others being zero), their counts, and
        the sums of the last bits in them, each (F,).
    """
    parts = 1 << finer
    first = np.zeros(1 << 16, np.int64)
    first[halves] = np.arange(halves.size) * parts
    found = _counted(bits, first, halves.size * parts, finer)
    occupied = np.flatnonzero(found[:, 0])
    upper, part = halves[occupied // parts], (occupied % parts).astype(np.uint32)
    part = np.where(upper >> np.uint32(15), np.uint32(parts - 1) - part, part)
    prefixes = upper << np.uint32(16) | part << np.uint32(16 - finer)
    return prefixes, found[occupied, 0], found[occupied, 1]


def bins_as_support(
    prefixes: NDArray[np.uint32], counts: NDArray[np.int64], lower: NDArray[np.int64], n_lower: int
) -> tuple[Floats, Floats, Floats]:
    """Exact mean, count and width of bins whose numbers share all but their ``n_lower`` last bits.

    Args:
        prefixes: (B,) words of the bits that a bin's numbers share, the others being zero.
        counts: (B,) numbers in each bin.
        lower: (B,) sums of the last bits in each bin.
        n_lower: How many bits are the last ones.

    Returns:
        Means, counts and widths, each (B,) and in the unit of the values; a count has none.
    """
    # Within a bin a number grows linearly with its last bits, so the mean of these gives the mean of the values.
    last = np.uint32((1 << n_lower) - 1)
    start = prefixes.view(np.float32).astype(np.float64)
    end = (prefixes | last).view(np.float32).astype(np.float64)
    slope = (end - start) / max(int(last), 1)
    return start + slope * (lower / counts), counts.astype(np.float64), np.abs(end - start)


def bin_error(weights: Floats, width: Floats) -> float:
    """Squared error that is lost by taking a bin's values as one, if they lie evenly in it.

    Args:
        weights: (B,) numbers in each bin.
        width: (B,) widths in the unit of the values.
    """
    return float((np.maximum(weights - 1, 0) * width**2).sum() / 12)


def repeat(support: Floats, weights: Floats, k: int) -> Floats:
    """At most ``k`` points as ``k`` of them, each as often as its share of the weight asks for, at least once.

    Args:
        support: (m,) points in ascending order, no more than ``k``.
        weights: (m,) their weights.
        k: Number of points wanted.

    Returns:
        (k,) in ascending order.
    """
    times = np.ones(support.size, np.int64)
    for _ in range(k - support.size):
        # The point that is the most under-represented (the divisor method of Jefferson).
        times[np.argmax(weights / (times + 1))] += 1
    return np.repeat(support, times)


def merge(support: Floats, weights: Floats, m: int) -> tuple[Floats, Floats]:
    """Merge neighbours into at most ``m`` weighted means whose density follows the cube root of the data's.

    Args:
        support: (n,) points in ascending order.
        weights: (n,) their weights.
        m: Largest number of means.

    Returns:
        Means and weights, both of one length up to ``m``.
    """
    if support.size <= m:
        return support, weights
    gaps = np.diff(support)
    # Density to the third power times width: (c / g)^(1/3) * g.
    steps = np.cbrt(0.5 * (weights[:-1] + weights[1:]) * gaps * gaps)
    reached = np.cumsum(steps)
    # A gap can be cut once only, so what it has beyond one segment is given to the others: again as long as single
    # gaps (to an outlier) hold most of it.
    rounds, last = 0, np.inf
    while rounds < 3 or reached[-1] < 0.5 * last:
        rounds, last = rounds + 1, reached[-1]
        steps = np.minimum(steps, last / m)
        reached = np.cumsum(steps)
    of_each = np.zeros(support.size, np.int64)
    if (segment := reached[-1] / (m - 1)) > 0:
        cuts = np.diff(np.floor(reached / segment), prepend=0.0) > 0
        of_each[1:] = np.minimum(np.cumsum(cuts), m - 1)
    mass = totals(of_each, weights)
    return totals(of_each, support * weights) / mass, mass
