"""The best division of weighted points on a line into ``k`` clusters, as a shortest path of ``k`` links."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from thesis_rec.models.compiled import compiled

# Coverage can't see into compiled functions, hence their pragma; the tests compare their results with a plain solution.
Floats = NDArray[np.float64]
# Running sums (m + 1,) of mass and moment. For points in several segments, about their segment's origin, with the sums
# of squares; all three up to a point and before the next one (zero where that begins a segment), then each point's
# segment (m + 1,), the first entry meaning none, and segments' origins and last points.
Plain = tuple[Floats, Floats]
Sums = tuple[Floats, Floats, Floats, Floats, Floats, Floats, NDArray[np.int64], Floats, NDArray[np.int64]]
# Points whose distances from the median differ by more than this factor are summed up apart.
_ORDER = 4096.0


@compiled  # pragma: no cover
def _segments(support: Floats, weights: Floats) -> NDArray[np.int64]:
    """Which order of magnitude each point is of, by its distance from the median in units of the quartiles' distance.

    Sums over points of one segment keep their digits; those over all points lose the bulk's beside an outlier.

    Returns:
        (m,) numbers that ascend from 0; all 0 for points of one order.
    """
    m = support.size
    quarter = 0.25 * weights.sum()
    below = 0.0
    places = np.zeros(3, np.int64)
    found = 0
    for i in range(m):
        below += weights[i]
        while found < 3 and below >= (found + 1) * quarter:
            places[found] = i
            found += 1
    median = support[places[1]]
    unit = support[places[2]] - support[places[0]]
    if unit == 0.0:
        # More than half of the points are one number: the next one gives the unit.
        unit = np.inf
        for i in range(m):
            if support[i] != median:
                unit = min(unit, abs(support[i] - median))
    out = np.zeros(m, np.int64)
    before = 0
    for i in range(m):
        distance = abs(support[i] - median) / unit
        order = 0
        while distance > _ORDER:
            distance /= _ORDER
            order += 1
        signed = -order if support[i] < median else order
        if i:
            out[i] = out[i - 1] + (1 if signed != before else 0)
        before = signed
    return out


@compiled  # pragma: no cover
def _merged(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float, float]:
    # Mass, mean and squared error of two sets of points together (Chan, Golub and LeVeque 1979).
    mass = one[0] + other[0]
    step = other[1] - one[1]
    return mass, one[1] + step * other[0] / mass, one[2] + other[2] + one[0] * other[0] / mass * step * step


@compiled  # pragma: no cover
def _part(sums: Sums, start: int, end: int, segment: int) -> tuple[float, float, float]:
    """Mass, mean and squared error of the points ``start+1..end``, which lie in one segment."""
    masses, moments, squares, masses_0, moments_0, squares_0, _, origins, _ = sums
    mass = masses[end] - masses_0[start]
    moment = moments[end] - moments_0[start]
    error = squares[end] - squares_0[start] - moment * moment / mass
    return mass, origins[segment] + moment / mass, max(error, 0.0)


@compiled  # pragma: no cover
def _whole(sums: Sums, i: int, j: int) -> tuple[float, float, float]:
    """Mass, mean and squared error of the points ``j+1..i``, which may lie in several segments."""
    segments, ends = sums[6], sums[8]
    start = j
    found = (0.0, 0.0, 0.0)
    while start < i:
        segment = segments[start + 1]
        end = min(i, ends[segment])
        part = _part(sums, start, end, segment)
        found = part if start == j else _merged(found, part)
        start = end
    return found


@compiled  # pragma: no cover
def _cost_apart(sums: Sums, i: int, j: int) -> float:
    # Squared error of a cluster of the points j+1..i.
    segments = sums[6]
    if segments[i] != segments[j + 1]:
        return _whole(sums, i, j)[2]
    return _part(sums, j, i, segments[i])[2]


@compiled  # pragma: no cover
def _cost_plain(sums: Plain, i: int, j: int) -> float:
    # The same less the points' squares, which all divisions share: its moment squared by its mass.
    moment = sums[1][i] - sums[1][j]
    return -(moment * moment / (sums[0][i] - sums[0][j]))


def _cost(sums: Plain | Sums, i: int, j: int) -> float:
    """Either of them; the compiler chooses by the type of ``sums``."""
    return _cost_plain(sums, i, j) if len(sums) == 2 else _cost_apart(sums, i, j)


@overload(_cost)
def _typed_cost(sums: Any, i: Any, j: Any) -> Any:
    # Numba wants the signatures to be alike to the letter.
    def plain(sums: Any, i: Any, j: Any) -> Any:
        return _cost_plain(sums, i, j)

    def apart(sums: Any, i: Any, j: Any) -> Any:
        return _cost_apart(sums, i, j)

    return plain if len(sums) == 2 else apart


@compiled  # pragma: no cover
def _best_for_price(
    sums: Sums,
    price: float,
    value: Floats,
    before: NDArray[np.int64],
    links: NDArray[np.int64],
    queue: NDArray[np.int64],
    since: NDArray[np.int64],
) -> int:
    """Best division when every cluster costs ``price``; fills ``before`` with borders and returns how many clusters."""
    m = value.size - 1
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
            # Clusters are short, so the crossing is near: double the step, then halve it.
            low = first
            step = 4
            high = m + 1
            while low + step <= m:
                probe = low + step
                if value[i] + _cost(sums, probe, i) < value[old] + _cost(sums, probe, old):
                    high = probe
                    break
                low = probe
                step *= 2
            while high - low > 1:
                probe = (low + high) // 2
                if value[i] + _cost(sums, probe, i) < value[old] + _cost(sums, probe, old):
                    high = probe
                else:
                    low = probe
            if high <= m:
                tail += 1
                queue[tail] = i
                since[tail] = high
            break
    return links[m]


@compiled  # pragma: no cover
def _borders(before: NDArray[np.int64], clusters: int) -> NDArray[np.int64]:
    borders = np.empty(clusters + 1, np.int64)
    i = before.size - 1
    for at in range(clusters, -1, -1):
        borders[at] = i
        i = before[i]
    return borders


@compiled  # pragma: no cover
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


@compiled  # pragma: no cover
def _divide(sums: Any, power: float, price: float, k: int) -> NDArray[np.int64]:
    """Borders of the best ``k`` clusters, (k + 1,); ``power`` the error of one cluster, ``price`` a first guess."""
    m = sums[0].size - 1
    value = np.empty(m + 1, np.float64)
    before = np.zeros(m + 1, np.int64)
    links = np.empty(m + 1, np.int64)
    queue = np.empty(m + 2, np.int64)
    since = np.empty(m + 2, np.int64)
    low = 0.0  # gives more than k clusters: m of them
    high = 2.0 * power + 1e-300  # gives one
    more = np.arange(m + 1)
    fewer = np.array([0, m])
    for step in range(200):
        if not low < price < high:
            price = 0.5 * (low + high) if low == 0.0 else np.sqrt(low * high)
        if not low < price < high:
            break
        found = _best_for_price(sums, price, value, before, links, queue, since)
        if found == k:
            return _borders(before, found)
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
    return fewer if k == 1 else _splice(fewer, more, k)


@compiled  # pragma: no cover
def cluster(support: Floats, weights: Floats, k: int) -> tuple[Floats, float]:
    """The best ``k`` clusters of weighted points.

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
    # Centred and scaled, so that the differences of sums keep their digits; each order of magnitude by itself.
    own = _segments(support, weights)
    n = own[m - 1] + 1
    mass = np.zeros(n, np.float64)
    origins = np.zeros(n, np.float64)
    ends = np.zeros(n, np.int64)
    for i in range(m):
        ends[own[i]] = i + 1
        mass[own[i]] += weights[i]
        origins[own[i]] += support[i] * weights[i]
    origins /= mass
    scale = max(support[m - 1] - origins[n - 1], origins[0] - support[0], origins[n - 1] - origins[0])
    segments = np.empty(m + 1, np.int64)
    segments[0] = -1
    segments[1:] = own
    masses, moments, squares = np.zeros(m + 1), np.zeros(m + 1), np.zeros(m + 1)
    masses_0, moments_0, squares_0 = np.zeros(m + 1), np.zeros(m + 1), np.zeros(m + 1)
    spread = 0.0
    for i in range(m):
        x = (support[i] - origins[own[i]]) / scale
        masses[i + 1] = masses_0[i] + weights[i]
        moments[i + 1] = moments_0[i] + x * weights[i]
        squares[i + 1] = squares_0[i] + x * x * weights[i]
        if i + 1 < m and own[i + 1] == own[i]:
            masses_0[i + 1], moments_0[i + 1], squares_0[i + 1] = masses[i + 1], moments[i + 1], squares[i + 1]
        if i:
            gap = (support[i] - support[i - 1]) / scale
            spread += np.cbrt(0.5 * (weights[i] + weights[i - 1]) * gap * gap)
    # With the error of the best k clusters near spread^3 / (12 k^2), its derivative is a first guess of the price.
    price = spread**3 / (6.0 * k**3)
    sums = (masses, moments, squares, masses_0, moments_0, squares_0, segments, origins / scale, ends)
    borders = (
        _divide((masses, moments), squares[m], price, k) if n == 1 else _divide(sums, _whole(sums, m, 0)[2], price, k)
    )
    centres = np.empty(k, np.float64)
    error = 0.0
    for c in range(k):
        a = borders[c]
        b = borders[c + 1]
        error += _cost_apart(sums, b, a)
        if b - a == 1:
            centres[c] = support[a]
        elif segments[b] != segments[a + 1]:
            centres[c] = _whole(sums, b, a)[1] * scale
        else:
            centres[c] = origins[segments[b]] + scale * (moments[b] - moments_0[a]) / (masses[b] - masses_0[a])
    return centres, error * scale * scale
