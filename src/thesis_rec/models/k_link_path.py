"""The best division of weighted points on a line into ``k`` clusters, as a shortest path of ``k`` links."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thesis_rec.models.compiled import compiled

# Coverage can't see into compiled functions, hence their pragma; the tests compare their results with a plain solution.
Floats = NDArray[np.float64]


@compiled  # pragma: no cover
def _gain(moments: Floats, masses: Floats, i: int, j: int) -> float:
    # What a cluster of the points j+1..i takes off the squared error: its moment squared by its mass.
    moment = moments[i] - moments[j]
    return moment * moment / (masses[i] - masses[j])


@compiled  # pragma: no cover
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
