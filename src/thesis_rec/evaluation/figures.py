"""Figures of each method on each dataset, their means with intervals, paired differences and calibration.

Tasks of one family resemble each other, so a family (or a base task) is drawn as a whole: the cluster bootstrap
(Davison & Hinkley 1997, §3.8). Methods are compared by the mean of their differences on the same datasets.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from thesis_rec.evaluation.metrics import LOWER_IS_BETTER, METRICS, interval_score, metric_table
from thesis_rec.evaluation.study import LEAST_MODELS, Floats, Scores, Study
from thesis_rec.knowledge.knowledge import LEVEL

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


def figures_per_dataset(
    study: Study, scores: Mapping[str, Floats], masks: Mapping[str, NDArray[np.bool_]], draws: int = 20
) -> pd.DataFrame:
    """All figures of each method on each dataset of each quadrant.

    Args:
        study: The evaluation.
        scores: (M, N) scores by method.
        masks: (M, N) cells by quadrant.
        draws: Random orders of tied scores.

    Returns:
        ``quadrant, method, dataset_id, n_models, coverage`` (share of the cells that the method ranks) and the
        figures of :data:`~thesis_rec.evaluation.metrics.METRICS`.
    """
    rows = []
    for quadrant, mask in masks.items():
        for j, dataset in enumerate(study.dataset_ids):
            cells = np.flatnonzero(mask[:, j] & np.isfinite(study.values[:, j]))
            if len(cells) < LEAST_MODELS:
                continue
            for method, matrix in scores.items():
                score, rng = matrix[cells, j], np.random.default_rng([study.seed, j])
                row = {"quadrant": quadrant, "method": method, "dataset_id": dataset, "n_models": len(cells)}
                row |= metric_table(study.values[cells, j], score, rng, draws)
                rows.append(row | {"coverage": float(np.mean(~np.isnan(score)))})
    return pd.DataFrame(rows, columns=["quadrant", "method", "dataset_id", "n_models", "coverage", *METRICS])


def summarise(study: Study, figures: pd.DataFrame, *, bootstrap: int = 2000) -> Intervals:
    """Means with bootstrap intervals: quadrant -> method -> figure -> ``mean, low, high, n``.

    A method that doesn't rank every cell has its ``coverage`` beside its figures, which are then of fewer cells.
    """
    found = _intervals(study, figures, (*METRICS, "coverage"), bootstrap)
    for entry in (entry for methods in found.values() for entry in methods.values()):
        if entry["coverage"]["mean"] == 1:
            del entry["coverage"]
    return found


def summarise_groups(study: Study, figures: pd.DataFrame, *, bootstrap: int = 2000) -> dict[str, Intervals]:
    """:func:`summarise` of each group of datasets apart."""
    group = figures["dataset_id"].map(dict(zip(study.dataset_ids, study.groups, strict=True)))
    return {str(name): summarise(study, part, bootstrap=bootstrap) for name, part in figures.groupby(group) if name}


def _intervals(study: Study, table: pd.DataFrame, columns: Iterable[str], bootstrap: int) -> Intervals:
    # A dataset is a cluster of its own, or its family where datasets are unknown.
    families = table["dataset_id"].map(dict(zip(study.dataset_ids, study.families, strict=True)))
    clusters = families.where(table["quadrant"].isin(["Q3", "Q4"]), table["dataset_id"])
    by = ("quadrant", "method")
    return intervals(table.assign(cluster=clusters), by, columns, "cluster", draws=bootstrap, seed=study.seed)


def compare(
    study: Study, figures: pd.DataFrame, method: str, baselines: Iterable[str], bootstrap: int = 2000
) -> Intervals:
    """Paired differences ``method - baseline`` on the same datasets: quadrant -> baseline -> figure -> interval.

    ``better`` says whether the interval excludes zero on the side of the method (for regret that is the lower one).
    A baseline that ranks only some models is compared where both figures exist; its coverage is in the summary.
    """
    both = figures[figures["method"].isin([method, *baselines])]
    gaps = beyond(both, method, "method", ("quadrant", "dataset_id"), METRICS)
    found = _intervals(study, gaps, METRICS, bootstrap)
    for name, entry in (pair for methods in found.values() for pair in methods.items()):
        for metric, gap in entry.items():
            end, sign = ("high", -1) if metric in LOWER_IS_BETTER else ("low", 1)
            better = gap[end] is not None and sign * gap[end] > 0
            entry[metric] = {"method": method, "baseline": name, **gap, "better": better}
    return found


def calibration(study: Study, methods: Mapping[str, Scores], bootstrap: int = 2000) -> Intervals:
    """Coverage, width and interval score of 90 % intervals, and the absolute error of the predicted values.

    For coverage and interval score a measured value below chance counts as chance; errors are of values as measured.

    Returns:
        Quadrant -> method -> ``coverage, width, interval_score, absolute_error`` -> ``mean, low, high, n``; means are
        over datasets.
    """
    # No interval of ours ends below chance: what is measured there by chance counts as chance, for all.
    truth = np.maximum(study.values, [1.0 / max(len(task.class_names), 2) for task in study.tasks])
    parts = []
    for quadrant, mask in study.split.quadrants().items():
        cells = mask & np.isfinite(study.values)
        shown = np.flatnonzero(cells.any(axis=0))
        for name, scores in methods.items():
            if np.isnan(scores.low).all():
                continue
            each = {
                "coverage": (truth >= scores.low) & (truth <= scores.high),
                "width": scores.high - scores.low,
                "interval_score": interval_score(truth, scores.low, scores.high, LEVEL),
                "absolute_error": np.abs(study.values - scores.value),
            }
            means = {k: np.mean(v[:, shown], axis=0, where=cells[:, shown]) for k, v in each.items()}
            datasets = np.array(study.dataset_ids)[shown]
            parts.append(pd.DataFrame({"quadrant": quadrant, "method": name, "dataset_id": datasets, **means}))
    return _intervals(study, pd.concat(parts), list(means), bootstrap) if parts else {}
