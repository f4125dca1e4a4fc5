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

Everything is deterministic, and the long loops release the interpreter's lock, so threads work on several tensors at
once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

logger = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., object])
Floats = NDArray[np.float64]
# Running sums (m + 1,) of mass and moment about the mean. For points in several segments, the sums of squares as well,
# moments and squares about the mean of each point's segment; then each point's segment (m + 1,), the first entry
# meaning none, and the n segments' borders (n + 1,) and means.
Plain = tuple[Floats, Floats]
Sums = tuple[Floats, Floats, Floats, NDArray[np.int64], NDArray[np.int64], Floats]

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
# A segment's squared error is at most this many times that of the best clusters: its sums then leave half the digits.
_MOST = 1e7
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
    halves, finer = _HALVES, 0
    while True:
        prefixes, counts, lower = count_bins(bits, halves, finer)
        if ((prefixes & 0x7FFFFFFF) >= 0x7F800000).any():
            raise NotFiniteError("NaN or infinite value")
        support, weights, width = bins_as_support(prefixes, counts, lower, 16 - finer)
        if not lower.any():
            # Every bin is one number, as in bfloat16.
            return _finish(support, weights, k)
        # Few numbers, often repeated (quantised weights): sorting finds them, and the result is exact. Mostly the
        # first values tell.
        limit = _exact_up_to(k)
        few = not finer and support.size <= limit
        if few and all(np.unique(some).size <= limit for some in (bits[: 4 * limit], bits)):
            return _sorted_path(values, k)
        centres, error = cluster(*merge(support, weights, SUPPORT_PER_CLUSTER * k), k)
        excess = bin_error(weights, width)
        if excess <= _COARSE * error:
            return centres[::-1].astype(np.float32)
        if finer:
            return _sorted_path(values, k)
        # Halving a bin's width takes its error down to a quarter.
        wanted = np.log2(excess / (_COARSE * error)) / 2 + 1 if error > 0 else 16.0
        finer = int(max(1, min(np.ceil(wanted), 16, _MOST_BINS - np.ceil(np.log2(prefixes.size)))))
        halves = prefixes >> np.uint32(16)


def _sorted_path(values: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    if not np.isfinite(values).all():
        raise NotFiniteError("NaN or infinite value")
    if values.size <= k:
        return np.sort(values)[::-1].copy()
    support, counts = np.unique(values, return_counts=True)
    return _finish(support.astype(np.float64), counts.astype(np.float64), k)


def _finish(support: Floats, weights: Floats, k: int) -> NDArray[np.float32]:
    if support.size <= k:
        return repeat(support, weights, k)[::-1].astype(np.float32)
    if support.size > _exact_up_to(k):
        support, weights = merge(support, weights, SUPPORT_PER_CLUSTER * k)
    centres, _ = cluster(support, weights, k)
    return centres[::-1].astype(np.float32)


def _exact_up_to(k: int) -> int:
    return max(EXACT_UP_TO, SUPPORT_PER_CLUSTER * k)


def compiled(function: Function) -> Function:
    """Numba's ``njit`` that releases the interpreter's lock and caches its result.

    Where neither the package's folder nor the user's cache can be written (a read-only installation), the function is
    compiled anew in every process, which takes some seconds; ``NUMBA_CACHE_DIR`` names another place.
    """
    # Divisions don't look for zeros, of which there are none: less to compile.
    try:
        return cast(Function, njit(nogil=True, cache=True, error_model="numpy")(function))
    except RuntimeError as error:
        # Numba looks for a place when it decorates, and has no error of its own for not finding one.
        logger.info("Compiled code isn't kept (%s); set NUMBA_CACHE_DIR to a folder that can be written", error)
        return cast(Function, njit(nogil=True, error_model="numpy")(function))


# Coverage can't see into compiled functions, hence their pragma; the tests compare their results with a plain solution.
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
    mass = _totals(of_each, weights)
    return _totals(of_each, support * weights) / mass, mass


@compiled  # pragma: no cover
def _cost(sums: Any, i: int, j: int) -> float:
    """Squared error of the points ``j+1..i`` as one cluster; less the sum of their squares where sums are plain."""
    # The compiler leaves out what doesn't fit the type of the sums.
    if len(sums) == 2:
        moment = sums[1][i] - sums[1][j]
        return float(-(moment * moment / (sums[0][i] - sums[0][j])))
    masses, moments, squares, segments, borders, means = sums
    mass = mean = error = 0.0
    end, segment = j, segments[j + 1]
    while end < i:
        start, end = end, min(i, borders[segment + 1])
        own = masses[end] - masses[start]
        moment, square = moments[end], squares[end]
        if start > borders[segment]:
            moment -= moments[start]
            square -= squares[start]
        # Two sets of points together (Chan, Golub and LeVeque 1979).
        step = means[segment] + moment / own - mean
        error += max(square - moment * moment / own, 0.0) + mass * own / (mass + own) * step * step
        mass += own
        mean += step * own / mass
        segment += 1
    return error


@compiled  # pragma: no cover
def _best_for_price(sums: Plain | Sums, price: float) -> NDArray[np.int64]:
    """Borders of the best division when every cluster costs ``price``."""
    m = sums[0].size - 1
    value = np.zeros(m + 1, np.float64)
    before = np.zeros(m + 1, np.int64)
    links = np.zeros(m + 1, np.int64)
    queue = np.zeros(m + 2, np.int64)
    since = np.ones(m + 2, np.int64)
    head = 0
    tail = 0
    for i in range(1, m + 1):
        while head < tail and since[head + 1] <= i:
            head += 1
        j = queue[head]
        value[i] = value[j] + _cost(sums, i, j) + price
        before[i] = j
        links[i] = links[j] + 1
        if i == m:
            break
        # From which end point on is i a better last border than the newest candidate? If always, that one is out.
        while True:
            old = queue[tail]
            first = max(since[tail], i + 1)
            if value[i] + _cost(sums, first, i) < value[old] + _cost(sums, first, old):
                if tail == head:
                    queue[tail] = i
                    since[tail] = i + 1
                    break
                tail -= 1
                continue
            # Clusters are short, so the crossing is near: double the step until it is passed, then halve.
            low, high, step = first, m + 1, 4
            while high - low > 1:
                probe = low + step if high > m and low + step <= m else (low + high) // 2
                if value[i] + _cost(sums, probe, i) < value[old] + _cost(sums, probe, old):
                    high = probe
                else:
                    low = probe
                    step *= 2
            if high <= m:
                tail += 1
                queue[tail] = i
                since[tail] = high
            break
    borders = np.empty(links[m] + 1, np.int64)
    for at in range(links[m], -1, -1):
        borders[at] = i
        i = before[i]
    return borders


def _splice(fewer: NDArray[np.int64], more: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """One division into ``k`` clusters out of two that are both optimal for one price."""
    n = fewer.size - 1
    shift = k - n
    # The first cluster of the fewer that holds one of the more with as many behind it as there have to be.
    i = np.flatnonzero((fewer[:-1] <= more[shift:][:n]) & (more[shift + 1 :][:n] <= fewer[1:]))[0]
    return np.concatenate([more[: i + shift + 1], fewer[i + 1 :]])


def _divide(sums: Plain | Sums, power: float, largest: float, price: float, k: int) -> NDArray[np.int64]:
    """Borders of the best ``k`` clusters.

    Args:
        sums: Running sums.
        power: Squared error of all points as one cluster.
        largest: Largest squared error of a segment, below whose last digit prices can't be told apart.
        price: First guess of the price of a cluster.
        k: Number of clusters.

    Returns:
        (k + 1,) borders.
    """
    m = sums[0].size - 1
    low, more = 1e-16 * largest, np.arange(m + 1)  # gives more than k clusters: m of them
    high, fewer = 2.0 * power, np.array([0, m])  # gives one
    for step in range(200):
        if not low < price < high:
            price = np.sqrt(low * high)
        borders = _best_for_price(sums, price)
        found = borders.size - 1
        if found == k:
            return borders
        if found > k:
            low, more = price, borders
        else:
            high, fewer = price, borders
        if high - low <= 1e-14 * high or high <= 1e-15 * largest:
            break
        # The number of clusters goes with the price to the power -1/3; where that doesn't lead on, halve.
        price = price * (found / k) ** 3 if step < 6 else np.sqrt(low * high)
    return fewer if k == 1 else _splice(fewer, more, k)


def _totals(which: NDArray[np.int64], values: Floats) -> Floats:
    """(K,) sums of (m,) values by the cluster 0..K-1 that each is in, added in their order."""
    return cast(Floats, np.bincount(which, values))


def _of_each(support: Floats, weights: Floats, borders: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Mass, mean and squared error of each of the K clusters between ``borders``, each (K,)."""
    which = np.repeat(np.arange(borders.size - 1), np.diff(borders))
    first = support[borders[:-1]]
    masses = _totals(which, weights)
    means = first + _totals(which, (support - first[which]) * weights) / masses
    return masses, means, _totals(which, (support - means[which]) ** 2 * weights)


def _joined(borders: NDArray[np.int64], of_each: tuple[Floats, Floats, Floats], most: float) -> NDArray[np.int64]:
    """Borders of neighbouring clusters taken together as long as their squared error stays within ``most``."""
    out = [0]
    mass = mean = error = 0.0
    for border, own, centre, around in zip(borders, *of_each, strict=False):
        step = centre - mean
        error += around + mass * own / (mass + own) * step * step
        mass += own
        mean += step * own / mass
        if error > most and border:
            mass, mean, error = own, centre, around
            out.append(border)
    return np.array([*out, borders[-1]])


def cluster(support: Floats, weights: Floats, k: int) -> tuple[Floats, float]:
    """The best ``k`` clusters of weighted points.

    Differences of sums over all points lose the digits of those that lie close together beside far ones. Where that
    may have mattered, the points are divided again with sums over segments of the division found, each about its own
    mean, until the segments' errors are near that of the clusters.

    Args:
        support: (m,) points in ascending order.
        weights: (m,) their weights.
        k: Number of clusters.

    Returns:
        Centres in ascending order, (k,), or the points themselves if they are fewer, and the squared error.
    """
    m = support.size
    if m <= k:
        return support.copy(), 0.0
    masses, moments, squares = np.concatenate([[0.0], np.cumsum(weights)]), np.zeros(m + 1), np.zeros(m + 1)
    # With the error of the best k clusters near spread^3 / (12 k^2), its derivative is a first guess of the price.
    spread = float(np.cbrt(0.5 * (weights[:-1] + weights[1:]) * np.diff(support) ** 2).sum())
    price = spread**3 / (6.0 * k**3)
    borders = np.array([0, m])
    of_each = _of_each(support, weights, borders)
    power = largest = float(of_each[2][0])
    centres, error = support, np.inf
    while True:
        means = of_each[1]
        segments = np.concatenate([[-1], np.repeat(np.arange(means.size), np.diff(borders))])
        x = support - means[segments[1:]]
        for start, end in pairwise(borders):
            moments[start + 1 : end + 1] = np.cumsum((x * weights)[start:end])
            squares[start + 1 : end + 1] = np.cumsum((x * x * weights)[start:end])
        whole = means.size == 1
        sums = (masses, moments) if whole else (masses, moments, squares, segments, borders, means)
        found = _divide(sums, power, largest, price, k)
        found_each = _of_each(support, weights, found)
        found_error = float(found_each[2].sum())
        if not found_error < error:
            return centres, error
        centres, error = found_each[1], found_error
        if largest <= _MOST * error:
            return centres, error
        borders = _joined(found, found_each, 0.1 * _MOST * error)
        of_each = _of_each(support, weights, borders)
        largest = float(of_each[2].max())
        price = 2.0 * error / k
