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

Step 1 is in :mod:`thesis_rec.models.kmeans_support`, step 2 in :mod:`thesis_rec.models.k_link_path`.
Everything is deterministic and releases the interpreter's lock, so threads work on several tensors at once.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from thesis_rec.models.k_link_path import cluster
from thesis_rec.models.kmeans_support import (
    SUPPORT_PER_CLUSTER,
    bin_error,
    bins_as_support,
    count_bins,
    count_finer,
    distinct_at_most,
    merge,
    repeat,
    runs,
)

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
