"""One-dimensional k-means that finds the optimum, at the speed of reading the values once.

In one dimension clusters are intervals of the sorted values, so the best ones can be computed (Wang & Song 2011,
"Ckmeans.1d.dp") instead of searched for from random starts. Two steps:

1. *Support.* Up to 1024 distinct values are used as they are, and the result is exact. More are first gathered into
   a histogram whose bins are the upper bits of a float32 (128 bins per power of two, more for very many clusters, so no
   range has to be known and no outlier spoils it); every bin keeps its count and its exact mean. Where the bins are too
   coarse for a tensor (values crowded around a number other than zero), its values are sorted instead. Bins, or sorted
   values, are then merged into a dozen support points per cluster whose density follows the cube root of the data's
   (Panter & Dite 1951), which adds about ``1 / 12^2`` to the squared error.
2. *Clusters.* The best division of the support for a price per cluster is a shortest path whose edge costs have the
   Monge property, found in ``O(m log m)`` with a queue of candidates (Wilber 1988). The number of clusters falls with
   the price, so the price that gives ``k`` is searched, and where no price does, two neighbouring solutions are spliced
   into one with ``k`` clusters (Aggarwal, Schieber & Tokuyama 1994, "Finding a minimum-weight k-link path").

Everything is deterministic, and the long loops release the interpreter's lock, so threads work on several tensors at
once.
"""

import logging
from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

logger = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., object])
Floats = NDArray[np.float64]
# (m,) points; running sums (m + 1,) of their mass, and of moment and square within a segment; the first point of each
# point's segment (m + 1,), the first entry meaning none.
Sums = tuple[Floats, Floats, Floats, Floats, NDArray[np.int64]]

#: Tensors with at most this many distinct values are clustered exactly.
EXACT_UP_TO = 1024
#: Tensors up to this size are sorted rather than counted into bins.
SORT_UP_TO = 16384
# Share of the squared error that the bins' width may add before the values are sorted.
_COARSE = 0.02
#: Support points per cluster: the squared error grows by about 1/12^2.
SUPPORT_PER_CLUSTER = 12
# Clusters that the upper 16 bits resolve; more need more bits, up to as many as this.
_RESOLVED, _MOST_BITS = 64, 20


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
        ValueError: If a value is NaN or infinite.
    """
    if values.size > max(k, SORT_UP_TO):
        n_bits = min(16 + int(np.ceil(np.log2(max(k / _RESOLVED, 1)))), _MOST_BITS)
        support, weights, width = count_bins(values, n_bits)
        if not np.isfinite(support[[0, -1]]).all():
            raise ValueError("holds NaN or infinite values")
        # Few bins hold few numbers, often repeated (quantised weights), or a crowd: sorting tells them apart.
        if support.size > EXACT_UP_TO:
            centres, error = cluster(*merge(support, weights, SUPPORT_PER_CLUSTER * k), k)
            # Lost by taking a bin's values as one, if they lie evenly in it.
            lost = float((np.maximum(weights - 1, 0) * width**2).sum() / 12)
            if lost <= _COARSE * error:
                return centres[::-1].astype(np.float32)
    found, counts = np.unique(values, return_counts=True)
    support, weights = found.astype(np.float64), counts.astype(np.float64)
    if not np.isfinite(support).all():
        raise ValueError("holds NaN or infinite values")
    if support.size <= k:
        return repeat(support, weights, min(k, values.size))[::-1].astype(np.float32)
    if support.size > EXACT_UP_TO:
        support, weights = merge(support, weights, SUPPORT_PER_CLUSTER * k)
    return cluster(support, weights, k)[0][::-1].astype(np.float32)


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
def _counted(bits: NDArray[np.uint32], n_lower: np.uint32) -> NDArray[np.int64]:
    """(2 ** (32 - n_lower), 2) counts of the leading bits and sums of the last ones, of keys that sort as floats do."""
    found = np.zeros((1 << (32 - n_lower), 2), np.int64)
    mask = (np.uint32(1) << n_lower) - np.uint32(1)
    for word in bits:
        # Negative numbers fall as their bits rise, and come before the others.
        key = word ^ (np.uint32(0xFFFFFFFF) if word >> np.uint32(31) else np.uint32(0x80000000))
        b = np.uint64(key >> n_lower)  # without a sign it needn't be looked at
        found[b, 0] += 1
        found[b, 1] += key & mask
    return found


def count_bins(values: NDArray[np.float32], n_bits: int = 16) -> tuple[Floats, Floats, Floats]:
    """The histogram whose bins are the numbers that share their leading bits.

    Args:
        values: (n,)
        n_bits: How many bits these are.

    Returns:
        Exact mean, count and width of the B occupied bins, ascending, each (B,); those of NaN and infinite values
        aren't finite.
    """
    n_lower = np.uint32(32 - n_bits)
    found = _counted(values.view(np.uint32), n_lower)
    occupied = np.flatnonzero(found[:, 0])
    counts, lower = found[occupied].T.astype(np.float64)
    first = occupied.astype(np.uint32) << n_lower
    last = (np.uint32(1) << n_lower) - np.uint32(1)
    with np.errstate(invalid="ignore"):
        start, end = (
            (key ^ np.where(key >> np.uint32(31), np.uint32(0x80000000), np.uint32(0xFFFFFFFF)))
            .view(np.float32)
            .astype(np.float64)
            for key in (first, first | last)
        )
        # Within a bin a number grows linearly with its last bits, so the mean of these gives the mean of the values.
        return start + (end - start) / float(last) * (lower / counts), counts, end - start


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
def _running(support: Floats, weights: Floats) -> Sums:
    """Running sums of (m,) points, by segments of one sign and within a factor of two.

    Differences of sums over all points would lose the digits of those that lie close together beside far ones, so
    moments and squares are about the first point of each segment.
    """
    m = support.size
    masses, moments, squares = np.zeros(m + 1), np.zeros(m + 1), np.zeros(m + 1)
    segments = np.zeros(m + 1, np.int64)
    begin = 0
    for i in range(m):
        ratio = support[i] / support[begin] if support[begin] != 0.0 else 0.0
        if not 0.5 <= ratio <= 2.0:
            begin = i
        x = support[i] - support[begin]
        # A segment's sums begin with its first point, whose own are zero.
        segments[i + 1] = begin
        masses[i + 1] = masses[i] + weights[i]
        moments[i + 1] = moments[i] + x * weights[i] if i > begin else 0.0
        squares[i + 1] = squares[i] + x * x * weights[i] if i > begin else 0.0
    return support, masses, moments, squares, segments


@compiled  # pragma: no cover
def _cost(sums: Sums, i: int, j: int) -> float:
    """Squared error of the points ``j+1..i`` as one cluster."""
    support, masses, moments, squares, segments = sums
    mass = mean = error = 0.0
    end = i
    while end > j:
        begin = segments[end]
        start = max(j, begin)
        own = masses[end] - masses[start]
        moment, square = moments[end], squares[end]
        if start > begin:
            moment -= moments[start]
            square -= squares[start]
        # Two sets of points together (Chan, Golub and LeVeque 1979).
        step = support[begin] + moment / own - mean
        error += max(square - moment * moment / own, 0.0) + mass * own / (mass + own) * step * step
        mass += own
        mean += step * own / mass
        end = start
    return error


@compiled  # pragma: no cover
def _best_for_price(sums: Sums, price: float) -> NDArray[np.int64]:
    """Borders of the best division when every cluster costs ``price``."""
    m = sums[0].size
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


def _divide(sums: Sums, price: float, k: int) -> NDArray[np.int64]:
    """Borders of the best ``k`` clusters.

    Args:
        sums: Running sums.
        price: First guess of the price of a cluster.
        k: Number of clusters.

    Returns:
        (k + 1,) borders.
    """
    m = sums[0].size
    low, more = float(np.finfo(float).tiny), np.arange(m + 1)  # gives more than k clusters: m of them
    high, fewer = 2.0 * _cost(sums, m, 0), np.array([0, m])  # gives one
    for step in range(200):
        if not low < price < high:
            price = np.sqrt(low) * np.sqrt(high)
        borders = _best_for_price(sums, price)
        found = borders.size - 1
        if found == k:
            return borders
        if found > k:
            low, more = price, borders
        else:
            high, fewer = price, borders
        if high - low <= 1e-14 * high:
            break
        # The number of clusters goes with the price to the power -1/3; where that doesn't lead on, halve.
        price = price * (found / k) ** 3 if step < 6 else np.sqrt(low) * np.sqrt(high)
    return fewer if k == 1 else _splice(fewer, more, k)


def _totals(which: NDArray[np.int64], values: Floats) -> Floats:
    """(K,) sums of (m,) values by the cluster 0..K-1 that each is in, added in their order."""
    return cast(Floats, np.bincount(which, values))


def cluster(support: Floats, weights: Floats, k: int) -> tuple[Floats, float]:
    """The best ``k`` clusters of weighted points.

    Args:
        support: (m,) points in ascending order.
        weights: (m,) their weights.
        k: Number of clusters.

    Returns:
        Centres in ascending order, (k,), or the points themselves if they are fewer, and the squared error.
    """
    if support.size <= k:
        return support.copy(), 0.0
    # With the error of the best k clusters near spread^3 / (12 k^2), its derivative is a first guess of the price.
    spread = float(np.cbrt(0.5 * (weights[:-1] + weights[1:]) * np.diff(support) ** 2).sum())
    borders = _divide(_running(support, weights), spread**3 / (6.0 * k**3), k)
    which = np.repeat(np.arange(k), np.diff(borders))
    first = support[borders[:-1]]
    means = first + _totals(which, (support - first[which]) * weights) / _totals(which, weights)
    return means, float((np.square(support - means[which]) * weights).sum())
