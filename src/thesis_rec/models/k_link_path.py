"""The best division of weighted points on a line into ``k`` clusters, as a shortest path of ``k`` links."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from thesis_rec.models.compiled import compiled

# Coverage can't see into compiled functions, hence their pragma; the tests compare their results with a plain solution.
Floats = NDArray[np.float64]
# Running sums (m + 1,) of mass and moment about the mean. For points in several segments, the sums of squares as well,
# moments and squares about the mean of each point's segment; then each point's segment (m + 1,), the first entry
# meaning none, and the n segments' borders (n + 1,) and means.
Plain = tuple[Floats, Floats]
Sums = tuple[Floats, Floats, Floats, NDArray[np.int64], NDArray[np.int64], Floats]
# A segment's squared error is at most this many times that of the best clusters: its sums then leave half the digits.
_MOST = 1e7


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


def totals(which: NDArray[np.int64], values: Floats) -> Floats:
    """(K,) sums of (m,) values by the cluster 0..K-1 that each is in, added in their order."""
    return cast(Floats, np.bincount(which, values))


def _of_each(support: Floats, weights: Floats, borders: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Mass, mean and squared error of each of the K clusters between ``borders``, each (K,)."""
    which = np.repeat(np.arange(borders.size - 1), np.diff(borders))
    first = support[borders[:-1]]
    masses = totals(which, weights)
    means = first + totals(which, (support - first[which]) * weights) / masses
    return masses, means, totals(which, (support - means[which]) ** 2 * weights)


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
