"""Figures of each method on each dataset, their means with intervals, paired differences and calibration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.evaluation.bootstrap import cluster_bootstrap, paired_difference
from thesis_rec.evaluation.metrics import LOWER_IS_BETTER, METRICS, interval_score, metric_table
from thesis_rec.evaluation.study import LEVEL, Floats, Scores, Study
from thesis_rec.knowledge.quadrants import quadrant_masks

#: Fewer models than this in a dataset's cells have no order worth a figure.
_LEAST_MODELS = 3


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
    unordered: dict[tuple[str, int], dict[str, float]] = {}
    for quadrant, mask in masks.items():
        for j, dataset in enumerate(study.dataset_ids):
            cells = np.flatnonzero(mask[:, j] & np.isfinite(study.values[:, j]))
            if len(cells) < _LEAST_MODELS:
                continue
            truth = study.values[cells, j]
            for method, matrix in scores.items():
                score = matrix[cells, j]
                ranked = ~np.isnan(score)
                seed = [study.seed, j]
                constant = bool(ranked.all() and score.max() == score.min())
                if constant and (quadrant, j) in unordered:
                    # Methods that say nothing all say the same; twenty random orders need not be drawn again.
                    figures = unordered[quadrant, j]
                else:
                    figures = metric_table(truth, score, np.random.default_rng(seed), draws)
                if constant:
                    unordered[quadrant, j] = figures
                rows.append(
                    {
                        "quadrant": quadrant,
                        "method": method,
                        "dataset_id": dataset,
                        "n_models": len(cells),
                        "coverage": float(ranked.mean()),
                        **figures,
                    }
                )
    columns = ["quadrant", "method", "dataset_id", "n_models", "coverage", *METRICS]
    return pd.DataFrame(rows, columns=columns)


def summarise(
    study: Study, figures: pd.DataFrame, *, bootstrap: int = 2000, datasets: Iterable[str] | None = None
) -> dict[str, dict[str, dict[str, dict[str, float | int | None]]]]:
    """Means with bootstrap intervals: quadrant -> method -> figure -> ``mean, low, high, n``.

    A method that doesn't rank every cell has its ``coverage`` beside its figures, which are then of fewer cells.
    """
    chosen = figures if datasets is None else figures[figures["dataset_id"].isin(set(datasets))]
    found: dict[str, dict[str, dict[str, dict[str, float | int | None]]]] = {}
    for (quadrant, method), part in chosen.groupby(["quadrant", "method"], sort=False):
        cluster = dict(zip(study.dataset_ids, study.clusters(str(quadrant)), strict=True))
        names = [cluster[dataset] for dataset in part["dataset_id"]]
        entry = {
            metric: cluster_bootstrap(part[metric], names, draws=bootstrap, seed=study.seed).as_dict()
            for metric in METRICS
        }
        if part["coverage"].min() < 1:
            entry["coverage"] = cluster_bootstrap(part["coverage"], names, draws=bootstrap, seed=study.seed).as_dict()
        found.setdefault(str(quadrant), {})[str(method)] = entry
    return found


def compare(
    study: Study, figures: pd.DataFrame, method: str, baselines: Mapping[str, Iterable[str]], bootstrap: int = 2000
) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """Paired differences ``method - baseline`` on the same datasets: quadrant -> baseline -> figure -> interval.

    ``better`` says whether the interval excludes zero on the side of the method (for regret that is the lower one).
    A baseline that ranks only some models is compared where both figures exist; its coverage is in the summary.
    """
    found: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for quadrant, names in baselines.items():
        part = figures[figures["quadrant"] == quadrant]
        cluster = dict(zip(study.dataset_ids, study.clusters(quadrant), strict=True))
        own = part[part["method"] == method].set_index("dataset_id")
        for name in names:
            other = part[part["method"] == name].set_index("dataset_id").reindex(own.index)
            clusters = [cluster[dataset] for dataset in own.index]
            entry: dict[str, dict[str, Any]] = {}
            for metric in METRICS:
                interval = paired_difference(own[metric], other[metric], clusters, draws=bootstrap, seed=study.seed)
                better = interval.high < 0 if metric in LOWER_IS_BETTER else interval.low > 0
                entry[metric] = {"method": method, "baseline": name, **interval.as_dict(), "better": bool(better)}
            found.setdefault(quadrant, {})[name] = entry
    return found


def calibration(
    study: Study, methods: Mapping[str, Scores], bootstrap: int = 2000
) -> dict[str, dict[str, dict[str, dict[str, float | int | None]]]]:
    """Coverage, width and interval score of 90 % intervals, and the absolute error of the predicted values.

    For coverage and interval score a measured value below chance counts as chance; errors are of values as measured.

    Returns:
        Quadrant -> method -> ``coverage, width, interval_score, absolute_error`` -> ``mean, low, high, n``; means are
        over datasets.
    """
    masks = quadrant_masks(study.split, study.models.model_ids, study.dataset_ids)
    found: dict[str, dict[str, dict[str, dict[str, float | int | None]]]] = {}
    for quadrant, mask in masks.items():
        cells = mask & np.isfinite(study.values)
        columns = np.flatnonzero(cells.any(axis=0))
        clusters = [study.clusters(quadrant)[j] for j in columns]
        for name, scores in methods.items():
            if scores.value is None or scores.low is None or scores.high is None:
                continue
            rows: dict[str, list[float]] = {
                key: [] for key in ("coverage", "width", "interval_score", "absolute_error")
            }
            for j in columns:
                at = np.flatnonzero(cells[:, j])
                truth, low, high = study.values[at, j], scores.low[at, j], scores.high[at, j]
                # No interval of ours ends below chance: what is measured there by chance counts as chance, for all.
                truth = np.maximum(truth, 1.0 / max(len(study.tasks[j].class_names), 2))
                rows["coverage"].append(float(((truth >= low) & (truth <= high)).mean()))
                rows["width"].append(float((high - low).mean()))
                rows["interval_score"].append(float(interval_score(truth, low, high, LEVEL).mean()))
                rows["absolute_error"].append(float(np.abs(study.values[at, j] - scores.value[at, j]).mean()))
            if len(columns):
                found.setdefault(quadrant, {})[name] = {
                    key: cluster_bootstrap(values, clusters, draws=bootstrap, seed=study.seed).as_dict()
                    for key, values in rows.items()
                }
    return found
