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

Everything is deterministic and releases the interpreter's lock, so threads work on several tensors at once.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Coverage can't see into compiled functions, hence their pragma; the tests compare their results with a plain solution.
Floats = NDArray[np.float64]

#: Tensors with at most this many distinct values are clustered exactly.
EXACT_UP_TO = 1024
#: Support points per cluster: the squared error grows by about 1/12^2.
SUPPORT_PER_CLUSTER = 12
#: Tensors up to this size are sorted rather than counted into bins.
SORT_UP_TO = 16384
# Share of the squared error that the bins' width may add before they are divided.
_COARSE = 0.02
# Logarithm of the largest number of bins: their table should stay in a processor's cache.
_MOST_BINS = 20

# A bin's 64-bit accumulator holds a count in the upper 24 bits and the sum of lower halves in the lower 40.
_CHUNK = (1 << 24) - 1


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
    bins, counts, lower = _count_bins(bits)
    if bins.size and ((bins & 0x7FFF) >= 0x7F80).any():
        raise NotFiniteError("NaN or infinite value")
    support, weights, width = _bins_as_support(bins << np.uint32(16), counts, lower, 16)
    if not lower.any():
        # Every bin is one number, as in bfloat16.
        return _finish(support, weights, k)
    # Few numbers, often repeated (quantised weights): sorting finds them, and the result is exact.
    if support.size <= _exact_up_to(k) and _distinct_at_most(bits, _exact_up_to(k)):
        return _sorted_path(values, k)
    centres, error = _cluster(*_merge(support, weights, SUPPORT_PER_CLUSTER * k), k)
    excess = _bin_error(weights, width)
    if excess > _COARSE * error:
        # Halving a bin's width takes its error down to a quarter.
        wanted = np.log2(excess / (_COARSE * error)) / 2 + 1 if error > 0 else 16.0
        finer = int(max(1, min(np.ceil(wanted), 16, _MOST_BINS - np.ceil(np.log2(bins.size)))))
        prefixes, counts, lower = _count_finer(bits, bins, finer)
        support, weights, width = _bins_as_support(prefixes, counts, lower, 16 - finer)
        if not lower.any():
            return _finish(support, weights, k)
        centres, error = _cluster(*_merge(support, weights, SUPPORT_PER_CLUSTER * k), k)
        if _bin_error(weights, width) > _COARSE * error:
            return _sorted_path(values, k)
    return cast(NDArray[np.float32], centres[::-1].astype(np.float32))


def squared_error(values: NDArray[np.floating[Any]], centres: NDArray[np.floating[Any]]) -> float:
    """Sum of squared distances of ``values`` ``(n,)`` to their nearest centre."""
    ordered = np.sort(np.asarray(centres, dtype=np.float64))
    borders = (ordered[1:] + ordered[:-1]) / 2
    exact = np.asarray(values, dtype=np.float64)
    return float(((exact - ordered[np.searchsorted(borders, exact)]) ** 2).sum())


def _sorted_path(values: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    ordered = np.sort(values)
    # NaN sorts last, infinities at the ends.
    if ordered.size and not (np.isfinite(ordered[0]) and np.isfinite(ordered[-1])):
        raise NotFiniteError("NaN or infinite value")
    if ordered.size <= k:
        return ordered[::-1].copy()
    return _finish(*_runs(ordered), k)


def _finish(support: Floats, weights: Floats, k: int) -> NDArray[np.float32]:
    if support.size <= k:
        return cast(NDArray[np.float32], _repeat(support, weights, k)[::-1].astype(np.float32))
    if support.size > _exact_up_to(k):
        support, weights = _merge(support, weights, SUPPORT_PER_CLUSTER * k)
    centres, _ = _cluster(support, weights, k)
    return cast(NDArray[np.float32], centres[::-1].astype(np.float32))


def _exact_up_to(k: int) -> int:
    return max(EXACT_UP_TO, SUPPORT_PER_CLUSTER * k)


@njit(nogil=True, cache=True)  # pragma: no cover
def _count_bins(bits: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int64], Floats]:
    """Occupied bins in ascending order of their values, their counts, and the sums of the lower halves in them."""
    counts = np.zeros(1 << 16, np.int64)
    lower = np.zeros(1 << 16, np.float64)
    packed = np.zeros(1 << 16, np.uint64)
    start = 0
    while start < bits.size:
        end = min(start + _CHUNK, bits.size)
        for i in range(start, end):
            word = bits[i]
            packed[word >> np.uint32(16)] += (np.uint64(1) << np.uint64(40)) | np.uint64(word & np.uint32(0xFFFF))
        for b in range(1 << 16):
            if packed[b]:
                counts[b] += np.int64(packed[b] >> np.uint64(40))
                lower[b] += float(packed[b] & np.uint64((1 << 40) - 1))
                packed[b] = np.uint64(0)
        start = end
    n = 0
    for b in range(1 << 16):
        if counts[b]:
            n += 1
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


def _bins_as_support(
    prefixes: NDArray[np.uint32], counts: NDArray[np.int64], lower: Floats, n_lower: int
) -> tuple[Floats, Floats, Floats]:
    """Exact mean, count and width of bins whose numbers share all but their ``n_lower`` last bits."""
    # Within a bin a number grows linearly with its last bits, so the mean of these gives the mean of the values.
    last = np.uint32((1 << n_lower) - 1)
    start = prefixes.view(np.float32).astype(np.float64)
    end = (prefixes | last).view(np.float32).astype(np.float64)
    slope = (end - start) / max(int(last), 1)
    return start + slope * (lower / counts), counts.astype(np.float64), np.abs(end - start)


@njit(nogil=True, cache=True)  # pragma: no cover
def _count_finer(
    bits: NDArray[np.uint32], bins: NDArray[np.uint32], finer: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64], Floats]:
    """As :func:`_count_bins`, with each of ``bins`` (ascending by value) divided into ``2 ** finer``.

    The bins are returned by the bits that their numbers share, the others being zero.
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
        for b in range(packed.size):
            if packed[b]:
                counts[b] += np.int64(packed[b] >> np.uint64(40))
                lower[b] += float(packed[b] & np.uint64((1 << 40) - 1))
                packed[b] = np.uint64(0)
        start = end
    n = 0
    for b in range(packed.size):
        if counts[b]:
            n += 1
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


def _bin_error(weights: Floats, width: Floats) -> float:
    """Squared error that is lost by taking a bin's values as one, if they lie evenly in it."""
    return float((np.maximum(weights - 1, 0) * width**2).sum() / 12)


@njit(nogil=True, cache=True)  # pragma: no cover
def _distinct_at_most(bits: NDArray[np.uint32], limit: int) -> bool:
    """Whether there are at most ``limit`` different words; stops as soon as there are more."""
    size = 1
    while size < 4 * limit:
        size *= 2
    table = np.zeros(size, np.uint32)
    used = np.zeros(size, np.bool_)
    n = 0
    for word in bits:
        # Multiplicative hashing (Knuth).
        place = np.int64((np.uint64(word) * np.uint64(2654435769)) >> np.uint64(8)) & (size - 1)
        while used[place] and table[place] != word:
            place = (place + 1) & (size - 1)
        if not used[place]:
            if n == limit:
                return False
            used[place] = True
            table[place] = word
            n += 1
    return True


@njit(nogil=True, cache=True)  # pragma: no cover
def _runs(ordered: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Distinct values of sorted ones, and how often each occurs."""
    n = min(ordered.size, 1)
    for i in range(1, ordered.size):
        if ordered[i] != ordered[i - 1]:
            n += 1
    support = np.empty(n, np.float64)
    weights = np.zeros(n, np.float64)
    at = -1
    for i in range(ordered.size):
        if i == 0 or ordered[i] != ordered[i - 1]:
            at += 1
            support[at] = ordered[i]
        weights[at] += 1
    return support, weights


@njit(nogil=True, cache=True)  # pragma: no cover
def _repeat(support: Floats, weights: Floats, k: int) -> Floats:
    """At most ``k`` points as ``k`` of them, each as often as its share of the weight asks for, at least once."""
    times = np.ones(support.size, np.int64)
    for _ in range(k - support.size):
        # The point that is the most under-represented (the divisor method of Jefferson).
        best = 0
        for i in range(1, support.size):
            if weights[i] * (times[best] + 1) > weights[best] * (times[i] + 1):
                best = i
        times[best] += 1
    out = np.empty(k, np.float64)
    at = 0
    for i in range(support.size):
        for _ in range(times[i]):
            out[at] = support[i]
            at += 1
    return out


@njit(nogil=True, cache=True)  # pragma: no cover
def _merge(support: Floats, weights: Floats, m: int) -> tuple[Floats, Floats]:
    """Merge neighbours into at most ``m`` weighted means whose density follows the cube root of the data's."""
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
    # A gap can be cut once only, so what it has beyond one segment is given to the others.
    for _ in range(3):
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


@njit(nogil=True, cache=True)  # pragma: no cover
def _gain(moments: Floats, masses: Floats, i: int, j: int) -> float:
    # What a cluster of the points j+1..i takes off the squared error: its moment squared by its mass.
    moment = moments[i] - moments[j]
    return moment * moment / (masses[i] - masses[j])


@njit(nogil=True, cache=True)  # pragma: no cover
def _best_for_price(
    moments: Floats,
    masses: Floats,
    price: float,
    value: Floats,
    before: NDArray[np.int64],
    links: NDArray[np.int64],
    queue: NDArray[np.int64],
    since: NDArray[np.int64],
) -> int:
    """Best division when every cluster costs ``price``; fills ``before`` with borders and returns how many clusters."""
    m = moments.size - 1
    value[0] = 0.0
    links[0] = 0
    head = 0
    tail = 0
    queue[0] = 0
    since[0] = 1
    for i in range(1, m + 1):
        while head < tail and since[head + 1] <= i:
            head += 1
        j = queue[head]
        value[i] = value[j] + _gain(moments, masses, i, j) - price
        before[i] = j
        links[i] = links[j] + 1
        if i == m:
            break
        # From which end point on is i a better last border than the newest candidate? If always, that one is out.
        while True:
            old = queue[tail]
            first = max(since[tail], i + 1)
            if value[i] + _gain(moments, masses, first, i) > value[old] + _gain(moments, masses, first, old):
                if tail == head:
                    queue[tail] = i
                    since[tail] = i + 1
                    break
                tail -= 1
                continue
            # Clusters are short, so the crossing is near: double the step, then halve it.
            low = first
            step = 4
            high = m + 1
            while low + step <= m:
                probe = low + step
                if value[i] + _gain(moments, masses, probe, i) > value[old] + _gain(moments, masses, probe, old):
                    high = probe
                    break
                low = probe
                step *= 2
            while high - low > 1:
                probe = (low + high) // 2
                if value[i] + _gain(moments, masses, probe, i) > value[old] + _gain(moments, masses, probe, old):
                    high = probe
                else:
                    low = probe
            if high <= m:
                tail += 1
                queue[tail] = i
                since[tail] = high
            break
    return links[m]


@njit(nogil=True, cache=True)  # pragma: no cover
def _borders(before: NDArray[np.int64], clusters: int) -> NDArray[np.int64]:
    borders = np.empty(clusters + 1, np.int64)
    i = before.size - 1
    for at in range(clusters, -1, -1):
        borders[at] = i
        i = before[i]
    return borders


@njit(nogil=True, cache=True)  # pragma: no cover
def _splice(fewer: NDArray[np.int64], more: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """One division into ``k`` clusters out of two that are both optimal for one price."""
    shift = k - (fewer.size - 1)
    for i in range(fewer.size - 1):
        if fewer[i] <= more[i + shift] and more[i + shift + 1] <= fewer[i + 1]:
            break
    out = np.empty(k + 1, np.int64)
    out[: i + shift + 1] = more[: i + shift + 1]
    out[i + shift + 1 :] = fewer[i + 1 :]
    return out


@njit(nogil=True, cache=True)  # pragma: no cover
def _cluster(support: Floats, weights: Floats, k: int) -> tuple[Floats, float]:
    """Centres of the best ``k`` clusters of weighted points, ascending, and their squared error; points if fewer."""
    m = support.size
    if m <= k:
        return support.copy(), 0.0
    # Centred and scaled, so that the differences of sums keep their digits.
    middle = (support * weights).sum() / weights.sum()
    scale = max(support[m - 1] - middle, middle - support[0])
    moments = np.zeros(m + 1, np.float64)
    masses = np.zeros(m + 1, np.float64)
    power = 0.0
    spread = 0.0
    for i in range(m):
        x = (support[i] - middle) / scale
        moments[i + 1] = moments[i] + x * weights[i]
        masses[i + 1] = masses[i] + weights[i]
        power += x * x * weights[i]
        if i:
            gap = (support[i] - support[i - 1]) / scale
            spread += np.cbrt(0.5 * (weights[i] + weights[i - 1]) * gap * gap)
    value = np.empty(m + 1, np.float64)
    before = np.zeros(m + 1, np.int64)
    links = np.empty(m + 1, np.int64)
    queue = np.empty(m + 2, np.int64)
    since = np.empty(m + 2, np.int64)
    # With the error of the best k clusters near spread^3 / (12 k^2), its derivative is a first guess of the price.
    price = spread**3 / (6.0 * k**3)
    low = 0.0  # gives more than k clusters: m of them
    high = 2.0 * power + 1e-300  # gives one
    more = np.arange(m + 1)
    fewer = np.array([0, m])
    borders = fewer
    for step in range(200):
        if not low < price < high:
            price = 0.5 * (low + high) if low == 0.0 else np.sqrt(low * high)
        if not low < price < high:
            break
        found = _best_for_price(moments, masses, price, value, before, links, queue, since)
        if found == k:
            borders = _borders(before, found)
            break
        if found > k:
            low = price
            more = _borders(before, found)
        else:
            high = price
            fewer = _borders(before, found)
        if high - low <= 1e-14 * high:
            break
        # The number of clusters goes with the price to the power -1/3; where that doesn't lead on, halve.
        price = price * (found / k) ** 3 if step < 6 else np.sqrt(max(low, 1e-12 * high) * high)
    if borders.size != k + 1:
        borders = fewer if k == 1 else _splice(fewer, more, k)
    centres = np.empty(k, np.float64)
    kept = 0.0
    for c in range(k):
        a = borders[c]
        b = borders[c + 1]
        kept += _gain(moments, masses, b, a)
        if b - a == 1:
            centres[c] = support[a]
        else:
            centres[c] = middle + scale * (moments[b] - moments[a]) / (masses[b] - masses[a])
    return centres, max(power - kept, 0.0) * scale * scale
