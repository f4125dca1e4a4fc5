"""Intervals of means over datasets that aren't independent.

Tasks of one family resemble each other, so a family (or a base task) is drawn as a whole: the cluster bootstrap
(Davison & Hinkley 1997, §3.8). Methods are compared by the mean of their differences on the same datasets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

#: A mean with its bootstrap bounds over ``n`` datasets, as JSON holds it: ``mean, low, high, n``, None where undefined.
Interval = dict[str, Any]
#: Intervals by two levels of groups and by figure.
Intervals = dict[str, dict[str, dict[str, Interval]]]


def cluster_bootstrap(
    values: ArrayLike, clusters: Sequence[str] | None = None, *, draws: int = 2000, seed: int = 0
) -> Interval:
    """Mean over datasets and its 95 % percentile interval; no bounds where one cluster is all there is.

    Args:
        values: (N,) one figure per dataset; undefined ones (NaN) are left out.
        clusters: Cluster of each dataset, by default its own.
        draws: Number of resamples.
        seed: Seed of the resamples; the same for all methods, so that comparisons are paired.
    """
    data = np.asarray(values, dtype=np.float64)
    names = np.arange(len(data)).astype(str) if clusters is None else np.asarray(clusters, dtype=str)
    present = np.isfinite(data)
    data, names = data[present], names[present]
    groups, member = np.unique(names, return_inverse=True)
    mean = float(data.mean()) if len(data) else None
    if mean is None or len(groups) == 1:
        return {"mean": mean, "low": None, "high": None, "n": len(data)}
    # A ratio of sums, because clusters differ in size.
    times = _times_drawn(len(groups), draws, seed)
    means = (times @ np.bincount(member, weights=data)) / (times @ np.bincount(member).astype(np.float64))
    low, high = np.quantile(means, [0.025, 0.975])
    # The percentile interval of a skewed sample may miss its own mean by a hair.
    return {"mean": mean, "low": min(float(low), mean), "high": max(float(high), mean), "n": len(data)}


def intervals(
    table: pd.DataFrame, by: tuple[str, str], columns: Iterable[str], clusters: str | None = None, **how: Any
) -> Intervals:
    """Two levels of groups -> column -> interval, as :func:`cluster_bootstrap` has it.

    Args:
        table: One row per dataset and group.
        by: The columns that say the groups.
        columns: What is averaged.
        clusters: Column of clusters; each row its own by default.
        **how: Draws and seed.
    """
    found: Intervals = {}
    for (first, second), part in table.groupby(list(by), sort=False):
        names = None if clusters is None else part[clusters].tolist()
        figures = {column: cluster_bootstrap(part[column], names, **how) for column in columns}
        found.setdefault(str(first), {})[str(second)] = figures
    return found


def beyond(table: pd.DataFrame, one: str, of: str, on: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """The rows of all others, and in their columns by how much those of one exceed them.

    Args:
        table: One row per dataset and method.
        one: The method that is compared with all others.
        of: The column that says the method.
        on: The columns that say the dataset.
        columns: What is compared; undefined where either hasn't it.
    """
    own, rest = table[table[of] == one].set_index([*on])[[*columns]], table[table[of] != one].copy()
    rest[[*columns]] = own.reindex(pd.MultiIndex.from_frame(rest[[*on]])).to_numpy() - rest[[*columns]]
    return rest


@lru_cache(maxsize=64)
def _times_drawn(clusters: int, draws: int, seed: int) -> NDArray[np.float64]:
    """(draws, clusters) how often each cluster is in each resample; the same for every figure of the same datasets."""
    picked = np.random.default_rng(seed).integers(0, clusters, size=(draws, clusters))
    flat = np.bincount((picked + clusters * np.arange(draws)[:, None]).ravel(), minlength=draws * clusters)
    times = flat.reshape(draws, clusters).astype(np.float64)
    times.flags.writeable = False
    return times
