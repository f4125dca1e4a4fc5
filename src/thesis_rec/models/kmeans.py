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
from thesis_rec.models.k_link_path import cluster

Floats = NDArray[np.float64]

#: Tensors with at most this many distinct values are clustered exactly.
EXACT_UP_TO = 1024
#: Tensors up to this size are sorted rather than counted into bins.
SORT_UP_TO = 16384
# Share of the squared error that the bins' width may add before they are divided.
_COARSE = 0.02
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
    bins, counts, lower = count_bins(bits)
    if bins.size and ((bins & 0x7FFF) >= 0x7F80).any():
        raise NotFiniteError("NaN or infinite value")
    support, weights, width = bins_as_support(bins << np.uint32(16), counts, lower, 16)
    if not lower.any():
        # Every bin is one number, as in bfloat16.
        return _finish(support, weights, k)
    # Few numbers, often repeated (quantised weights): sorting finds them, and the result is exact.
    if support.size <= _exact_up_to(k) and distinct_at_most(bits, _exact_up_to(k)):
        return _sorted_path(values, k)
    centres, error = cluster(*merge(support, weights, SUPPORT_PER_CLUSTER * k), k)
    excess = bin_error(weights, width)
    if excess > _COARSE * error:
        # Halving a bin's width takes its error down to a quarter.
        wanted = np.log2(excess / (_COARSE * error)) / 2 + 1 if error > 0 else 16.0
        finer = int(max(1, min(np.ceil(wanted), 16, _MOST_BINS - np.ceil(np.log2(bins.size)))))
        prefixes, counts, lower = count_finer(bits, bins, finer)
        support, weights, width = bins_as_support(prefixes, counts, lower, 16 - finer)
        if not lower.any():
            return _finish(support, weights, k)
        centres, error = cluster(*merge(support, weights, SUPPORT_PER_CLUSTER * k), k)
        if bin_error(weights, width) > _COARSE * error:
            return _sorted_path(values, k)
    return cast(NDArray[np.float32], centres[::-1].astype(np.float32))


def _sorted_path(values: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    ordered = np.sort(values)
    # NaN sorts last, infinities at the ends.
    if ordered.size and not (np.isfinite(ordered[0]) and np.isfinite(ordered[-1])):
        raise NotFiniteError("NaN or infinite value")
    if ordered.size <= k:
        return ordered[::-1].copy()
    return _finish(*runs(ordered), k)


def _finish(support: Floats, weights: Floats, k: int) -> NDArray[np.float32]:
    if support.size <= k:
        return cast(NDArray[np.float32], repeat(support, weights, k)[::-1].astype(np.float32))
    if support.size > _exact_up_to(k):
        support, weights = merge(support, weights, SUPPORT_PER_CLUSTER * k)
    centres, _ = cluster(support, weights, k)
    return cast(NDArray[np.float32], centres[::-1].astype(np.float32))


def _exact_up_to(k: int) -> int:
    return max(EXACT_UP_TO, SUPPORT_PER_CLUSTER * k)


# Coverage can't see into compiled functions, hence their pragma; the tests compare their results with a plain solution.
#: Support points per cluster: the squared error grows by about 1/12^2.
SUPPORT_PER_CLUSTER = 12

# A bin's 64-bit accumulator holds a count in the upper 24 bits and the sum of lower halves in the lower 40.
_CHUNK = (1 << 24) - 1


@compiled  # pragma: no cover
def _unpack(packed: NDArray[np.uint64], counts: NDArray[np.int64], lower: Floats) -> None:
    """Move what the accumulators hold to counts and sums, and empty them."""
    for b in range(packed.size):
        if packed[b]:
            counts[b] += np.int64(packed[b] >> np.uint64(40))
            lower[b] += float(packed[b] & np.uint64((1 << 40) - 1))
            packed[b] = np.uint64(0)


@compiled  # pragma: no cover
def _occupied(counts: NDArray[np.int64]) -> int:
    n = 0
    for count in counts:
        n += count > 0
    return n


@compiled  # pragma: no cover
def count_bins(bits: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int64], Floats]:
    """The histogram whose bins are the upper halves of the values' bits.

    Args:
        bits: (n,) float32 values as words.

    Returns:
        The B occupied bins by their upper halves, in ascending order of their values, their counts, and the sums of
        the lower halves in them, each (B,).
    """
    counts = np.zeros(1 << 16, np.int64)
    lower = np.zeros(1 << 16, np.float64)
    packed = np.zeros(1 << 16, np.uint64)
    start = 0
    while start < bits.size:
        end = min(start + _CHUNK, bits.size)
        for i in range(start, end):
            word = bits[i]
            packed[word >> np.uint32(16)] += (np.uint64(1) << np.uint64(40)) | np.uint64(word & np.uint32(0xFFFF))
        _unpack(packed, counts, lower)
        start = end
    n = _occupied(counts)
    occupied = np.empty(n, np.uint32)
    found = np.empty(n, np.int64)
    sums = np.empty(n, np.float64)
    at = 0
    # Negative numbers have the sign bit and grow in magnitude with their bits.
    for step in range(1 << 16):
        b = (1 << 16) - 1 - step if step < (1 << 15) else step - (1 << 15)
        if counts[b]:
            occupied[at] = b
            found[at] = counts[b]
            sums[at] = lower[b]
            at += 1
    return occupied, found, sums


def bins_as_support(
    prefixes: NDArray[np.uint32], counts: NDArray[np.int64], lower: Floats, n_lower: int
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


@compiled  # pragma: no cover
def count_finer(
    bits: NDArray[np.uint32], bins: NDArray[np.uint32], finer: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64], Floats]:
    """As :func:`count_bins`, with each bin divided into ``2 ** finer``.

    Args:
        bits: (n,) float32 values as words.
        bins: (B,) what :func:`count_bins` found, ascending by value.
        finer: Further bits, 1 to 16.

    Returns:
        The F occupied bins by the bits that their numbers share (the others being zero), their counts, and the sums
        of the last bits in them, each (F,).
    """
    parts = 1 << finer
    n_lower = np.uint32(16 - finer)
    mask = np.uint32((1 << (16 - finer)) - 1)
    first = np.zeros(1 << 16, np.int64)
    for i in range(bins.size):
        first[bins[i]] = i * parts
    packed = np.zeros(bins.size * parts, np.uint64)
    counts = np.zeros(bins.size * parts, np.int64)
    lower = np.zeros(bins.size * parts, np.float64)
    start = 0
    while start < bits.size:
        end = min(start + _CHUNK, bits.size)
        for i in range(start, end):
            word = bits[i]
            part = np.int64((word & np.uint32(0xFFFF)) >> n_lower)
            # Negative numbers fall as their bits rise.
            if word >> np.uint32(31):
                part = parts - 1 - part
            packed[first[word >> np.uint32(16)] + part] += (np.uint64(1) << np.uint64(40)) | np.uint64(word & mask)
        _unpack(packed, counts, lower)
        start = end
    n = _occupied(counts)
    prefixes = np.empty(n, np.uint32)
    found = np.empty(n, np.int64)
    sums = np.empty(n, np.float64)
    at = 0
    for b in range(packed.size):
        if counts[b]:
            bin_ = bins[b // parts]
            part = np.int64(b % parts)
            if bin_ >> np.uint32(15):
                part = parts - 1 - part
            prefixes[at] = (bin_ << np.uint32(16)) | (np.uint32(part) << n_lower)
            found[at] = counts[b]
            sums[at] = lower[b]
            at += 1
    return prefixes, found, sums


def bin_error(weights: Floats, width: Floats) -> float:
    """Squared error that is lost by taking a bin's values as one, if they lie evenly in it.

    Args:
        weights: (B,) numbers in each bin.
        width: (B,) widths in the unit of the values.
    """
    return float((np.maximum(weights - 1, 0) * width**2).sum() / 12)


def distinct_at_most(bits: NDArray[np.uint32], limit: int) -> bool:
    """Whether there are at most ``limit`` different words in ``bits`` (n,); mostly the first of them tell."""
    return all(np.unique(some).size <= limit for some in (bits[: 4 * limit], bits))


def runs(ordered: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Distinct values of sorted ones.

    Args:
        ordered: (n,) in ascending order, not empty.

    Returns:
        The distinct values, and how often each occurs, both (m,).
    """
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts].astype(np.float64), np.diff(starts, append=ordered.size).astype(np.float64)


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


@compiled  # pragma: no cover
def merge(support: Floats, weights: Floats, m: int) -> tuple[Floats, Floats]:
    """Merge neighbours into at most ``m`` weighted means whose density follows the cube root of the data's.

    Args:
        support: (n,) points in ascending order.
        weights: (n,) their weights.
        m: Largest number of means.

    Returns:
        Means and weights, both of one length up to ``m``.
    """
    n = support.size
    if n <= m:
        return support, weights
    steps = np.empty(n - 1, np.float64)
    total = 0.0
    for i in range(n - 1):
        gap = support[i + 1] - support[i]
        # Density to the third power times width: (c / g)^(1/3) * g.
        steps[i] = np.cbrt(0.5 * (weights[i] + weights[i + 1]) * gap * gap)
        total += steps[i]
    # A gap can be cut once only, so what it has beyond one segment is given to the others: again as long as single
    # gaps (to an outlier) hold most of it.
    rounds = 0
    last = np.inf
    while rounds < 3 or total < 0.5 * last:
        rounds += 1
        last = total
        cap = total / m
        total = 0.0
        for i in range(n - 1):
            steps[i] = min(steps[i], cap)
            total += steps[i]
    points = np.empty(m + 1, np.float64)
    mass = np.empty(m + 1, np.float64)
    segment = total / (m - 1)
    at = 0
    position = 0.0
    moment = support[0] * weights[0]
    weight = weights[0]
    for i in range(1, n):
        moved = position + steps[i - 1]
        if segment > 0 and at < m - 1 and np.floor(moved / segment) > np.floor(position / segment):
            points[at] = moment / weight
            mass[at] = weight
            at += 1
            moment = 0.0
            weight = 0.0
        position = moved
        moment += support[i] * weights[i]
        weight += weights[i]
    points[at] = moment / weight
    mass[at] = weight
    return points[: at + 1].copy(), mass[: at + 1].copy()
