"""Figures on a published table: every method on every target, each left out in turn, with intervals and differences."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.evaluation.bootstrap import cluster_bootstrap, finite_or_none, paired_difference
from thesis_rec.evaluation.external import methods
from thesis_rec.evaluation.external.decisions import budgets, probes
from thesis_rec.evaluation.external.leave_out import BenchmarkSettings, leave_family_out, leave_one_out, quadrants
from thesis_rec.evaluation.external.methods import Method, SmoothedRanks
from thesis_rec.evaluation.external.tables import NATURAL, SHARED_IMAGES, PublishedTable
from thesis_rec.evaluation.metrics import LOWER_IS_BETTER, METRICS, metric_table

Floats = NDArray[np.floating]

#: The baseline that published systems fail to beat.
PRIOR = "static_mean_rank"

#: The method that stands for the project where no network is trained: a fixed mean of views. One view, chosen on the
#: training datasets, was no better (.667, .737 and .691 on the three tables; the mean has .677, .719 and .695).
OURS = "smoothed_ranks"


def simple_methods(table: PublishedTable) -> dict[str, Method]:
    """Baselines that the table has the data for."""
    found: dict[str, Method] = {
        "random": methods.random_order,
        "static_mean_accuracy": methods.static_mean_accuracy,
        "static_mean_z": methods.static_mean_z,
        "static_mean_rank": methods.static_mean_rank,
        "matrix_factorisation": methods.factorisation,
        "metadata_ridge": methods.metadata_ridge,
    }
    if np.isfinite(table.n_parameters).any():
        found["parameter_count"] = methods.parameter_count
    if table.distances is not None:
        found["nearest_dataset"] = methods.nearest_dataset
    return found


def our_method(table: PublishedTable) -> Method:
    """The mean of views."""
    return SmoothedRanks((np.inf,) if table.distances is None else (0.5, 1.0, np.inf))


def judge(
    table: PublishedTable, scores: Mapping[str, Floats], settings: BenchmarkSettings, baseline: str = PRIOR
) -> dict[str, Any]:
    """Figures of each method, means over targets with intervals, and differences to ``baseline``.

    Returns:
        ``methods`` (method -> figure -> ``mean, low, high, n``), ``per_dataset`` (method -> figure -> target -> value),
        ``paired`` (method -> figure -> difference), and ``groups`` (natural and other targets apart).
    """
    columns = [table.dataset_ids.index(target) for target in table.targets]
    per: dict[str, pd.DataFrame] = {}
    for name, matrix in scores.items():
        rows = [
            metric_table(table.values[:, j], matrix[:, place], np.random.default_rng([0, j]), settings.draws)
            for place, j in enumerate(columns)
        ]
        per[name] = pd.DataFrame(rows, index=table.targets)
    natural = [target for target in table.targets if target.lower() in NATURAL]
    groups = {"natural": natural, "specialised": [target for target in table.targets if target not in natural]}

    def means(frame: pd.DataFrame) -> dict[str, Any]:
        return {name: cluster_bootstrap(frame[name], draws=settings.bootstrap).as_dict() for name in METRICS}

    return {
        "methods": {name: means(frame) for name, frame in per.items()},
        "per_dataset": {name: {metric: _floats(frame[metric]) for metric in METRICS} for name, frame in per.items()},
        "paired": {
            name: {
                metric: _better(
                    paired_difference(frame[metric], per[baseline][metric], draws=settings.bootstrap).as_dict(), metric
                )
                for metric in METRICS
            }
            for name, frame in per.items()
            if name != baseline and baseline in per
        },
        "groups": {
            group: {name: means(frame.loc[members]) for name, frame in per.items()}
            for group, members in groups.items()
            if members
        },
    }


def sub_zoos(table: PublishedTable, settings: BenchmarkSettings) -> dict[str, Any]:
    """The simple methods and ours within each part of the zoo."""
    found: dict[str, Any] = {}
    for name, rows in table.sub_zoos.items():
        part = table.select(rows)
        tried = {**simple_methods(part), OURS: our_method(part)}
        found[name] = judge(part, leave_one_out(part, tried), settings)["methods"]
    return found


def _floats(column: pd.Series) -> dict[str, float | None]:
    return {str(name): finite_or_none(value) for name, value in column.items()}


def _better(interval: dict[str, Any], metric: str) -> dict[str, Any]:
    low, high = interval["low"], interval["high"]
    sure = high is not None and high < 0 if metric in LOWER_IS_BETTER else low is not None and low > 0
    return {**interval, "better": bool(sure)}


def run_benchmark(
    table: PublishedTable,
    settings: BenchmarkSettings,
    networks: Mapping[str, Method] | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Everything that one table allows, as one document.

    Args:
        table: The published table.
        settings: How it is evaluated.
        networks: Further methods, such as a trained ranker; too slow for the quadrants' many fits.
        folder: Where the single-source table of Model Spider lies, for its own convention; None leaves it out.
    """
    simple, ours = simple_methods(table), our_method(table)
    tried = {**simple, OURS: ours, **(networks or {})}
    scores = leave_one_out(table, tried)
    # Published predictions and transferability scores are compared with, on the cells that they exist for.
    columns = [table.dataset_ids.index(target) for target in table.targets]
    for name, matrix in {**table.scores, **{f"published/{n}": m for n, m in table.predictions.items()}}.items():
        scores[name] = matrix[:, columns]
    result: dict[str, Any] = {
        "benchmark": table.name,
        "models": len(table.model_ids),
        "datasets": len(table.dataset_ids),
        "targets": table.targets,
        "unit": table.unit,
        "baseline": PRIOR,
        **judge(table, scores, settings),
        "quadrants": quadrants(table, {**simple, OURS: ours}, settings),
        "probes": probes(table, ours, settings),
    }
    if any(target in SHARED_IMAGES for target in table.targets):
        result["strict"] = judge(table, leave_one_out(table, {**simple, OURS: ours}, strict=True), settings)["methods"]
    if "logme" in table.scores:
        result["where_logme_exists"] = judge(table, _where(scores, table.scores["logme"][:, columns]), settings)[
            "methods"
        ]
    if table.sub_zoos:
        result["sub_zoos"] = sub_zoos(table, settings)
    if table.name == "model_spider":
        result["source_left_out"] = leave_family_out(table, {n: simple[n] for n in ("metadata_ridge", PRIOR)}, settings)
        if folder is not None:
            result["own_convention"] = model_spider_convention(folder)
    if table.seconds is not None:
        result["budgets"] = budgets(table, {name: scores[name] for name in (*simple, OURS)}, settings)
    return result


def _where(scores: Mapping[str, Floats], reference: Floats) -> dict[str, Floats]:
    """Scores on the cells where ``reference`` exists."""
    return {name: np.where(np.isfinite(reference), matrix, np.nan) for name, matrix in scores.items()}


def model_spider_convention(folder: Path) -> dict[str, float]:
    """Mean weighted tau on the 10 x 8 table by its authors' convention: weights by the truth's order alone.

    Returns:
        LogME's, the published scores', and the static mean accuracy's figure (mean over the other datasets).
    """
    from scipy.stats import weightedtau

    accuracy = pd.read_csv(folder / "model_spider" / "single_source_accuracy.csv")
    accuracy = accuracy[accuracy["metric"] == "finetune_accuracy"]
    wide = accuracy.pivot_table(index="model_id", columns="dataset_id", values="value")
    own = partial(weightedtau, rank=None)
    found = {
        "static_mean_accuracy": float(
            np.mean([own(wide[d].to_numpy(), wide.drop(columns=d).mean(axis=1).to_numpy()).statistic for d in wide])
        )
    }
    scores = pd.read_csv(folder / "model_spider" / "single_source_scores.csv")
    for metric, part in scores.groupby("metric"):
        table = part.pivot_table(index="model_id", columns="dataset_id", values="value").reindex(wide.index)
        shared = [d for d in wide if d in table and table[d].notna().all()]
        if shared:
            taus = [own(wide[d].to_numpy(), table[d].to_numpy()).statistic for d in shared]
            found[str(metric)] = float(np.mean(taus))
    return found
