"""A published table as a benchmark: methods on what was left out, choices under budgets and with a few real runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from thesis_rec.base.settings import Settings
from thesis_rec.evaluation.bootstrap import Interval, cluster_bootstrap
from thesis_rec.evaluation.external.methods import Method, simple_methods, study_of
from thesis_rec.evaluation.external.tables import SHARED_IMAGES, PublishedTable
from thesis_rec.evaluation.figures import compare, figures_per_dataset, summarise
from thesis_rec.evaluation.metrics import METRICS, regret, weighted_tau
from thesis_rec.evaluation.probing_simulation import Candidates, simulate
from thesis_rec.evaluation.quadrant_evaluation import RECOMMENDER
from thesis_rec.knowledge.quadrants import quadrant_masks

Floats = NDArray[np.floating]

#: The baseline that published systems fail to beat.
PRIOR = "static_mean_rank"


class BenchmarkSettings(Settings):
    """How a published table is evaluated; ``conf/base/parameters/external_benchmark.yml`` explains every field."""

    draws: int = Field(default=20, ge=1)
    bootstrap: int = Field(default=2000, ge=10)
    folds: int = Field(default=5, ge=2)
    seeds: int = Field(default=3, ge=1)
    hidden_cells: float = Field(default=0.2, gt=0, lt=1)
    probes: tuple[int, ...] = (3, 5, 10)
    throughputs: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)
    violations: float = Field(default=0.05, gt=0, lt=1)


def leave_one_out(
    table: PublishedTable, found: Mapping[str, Method], *, strict: bool = False, seed: int = 0
) -> dict[str, Floats]:
    """(M, N) scores of each method on the targets, each target's column being left out; NaN on other datasets.

    Args:
        table: The published table.
        found: Methods.
        strict: Whether datasets that share images with the target are left out too.
        seed: Seed of random methods.
    """
    scores = {name: np.full(table.values.shape, np.nan) for name in found}
    for target in table.targets:
        study, j = study_of(table, [target], strict=strict, seed=seed), table.dataset_ids.index(target)
        for name, method in found.items():
            scores[name][:, j] = method(table, study)[:, j]
    return scores


def quadrants(table: PublishedTable, found: Mapping[str, Method], settings: BenchmarkSettings) -> dict[str, Any]:
    """The four quadrants with model folds instead of unknown families: quadrant -> method -> weighted tau.

    For each seed and fold a part of the models is unknown. Each target in turn is the unknown dataset (Q3, Q4). With
    all datasets known, Q1 is measured on hidden cells of known models and Q2 on the unknown models.
    """
    ids = table.model_ids, table.dataset_ids
    targets = np.isin(table.dataset_ids, table.targets)
    parts = []
    for seed in range(settings.seeds):
        rng = np.random.default_rng(seed)
        fold_of = rng.permutation(len(table.model_ids)) % settings.folds
        hidden = rng.random(table.values.shape) < settings.hidden_cells
        for fold in range(settings.folds):
            known = fold_of != fold
            studies = [(study_of(table, (), known, hidden & known[:, None], seed=seed), ("Q1", "Q2"))]
            studies += [(study_of(table, [target], known, seed=seed), ("Q3", "Q4")) for target in table.targets]
            for study, shown in studies:
                masks = {name: mask & targets for name, mask in quadrant_masks(study.split, *ids).items()}
                scores = {name: method(table, study) for name, method in found.items()}
                chosen = {name: masks[name] for name in shown}
                parts.append(figures_per_dataset(study, scores, chosen, settings.draws))
    keys = ["quadrant", "method", "dataset_id"]
    means = pd.concat(parts).groupby(keys, sort=False)["weighted_tau"].mean()
    rows: dict[str, Any] = {}
    for (quadrant, name), part in means.reset_index().groupby(["quadrant", "method"], sort=False):
        rows.setdefault(str(quadrant), {})[str(name)] = cluster_bootstrap(
            part["weighted_tau"], draws=settings.bootstrap
        )
    return dict(sorted(rows.items()))


def leave_family_out(
    table: PublishedTable, found: Mapping[str, Method], settings: BenchmarkSettings
) -> dict[str, Interval]:
    """Unknown families of models on unknown datasets: each family in turn is left out, its scores put together.

    Returns:
        Method -> weighted tau over the targets, of all models ranked by what was said of them while unknown.
    """
    families = np.asarray(table.families)
    scores = {name: np.full(table.values.shape, np.nan) for name in found}
    for family in np.unique(families):
        known = families != family
        for target in table.targets:
            study, j = study_of(table, [target], known), table.dataset_ids.index(target)
            for name, method in found.items():
                scores[name][~known, j] = method(table, study)[~known, j]
    targets = [table.dataset_ids.index(target) for target in table.targets]
    return {
        name: cluster_bootstrap(
            [weighted_tau(table.values[:, j], matrix[:, j]) for j in targets], draws=settings.bootstrap
        )
        for name, matrix in scores.items()
    }


def budgets(table: PublishedTable, scores: Mapping[str, Floats], settings: BenchmarkSettings) -> dict[str, Any]:
    """Choosing under a demanded throughput that is itself predicted: regret among feasible models, violations.

    Speed on the target is predicted from other datasets' run times (the target's own are from the answer): a model's
    mean distance from the datasets' mean logarithm, made safe by a quantile of its errors on the training datasets.

    Returns:
        Quantile demanded -> method -> ``regret`` and ``violations``.
    """
    assert table.seconds is not None
    speed = -np.log(table.seconds)
    rows = []
    for quantile in settings.throughputs:
        for target in table.targets:
            j = table.dataset_ids.index(target)
            safe = _safe_speed(np.delete(speed, j, axis=1), settings.violations)
            truth, value = speed[:, j] - np.nanmean(speed[:, j]), table.values[:, j]
            measured = np.isfinite(truth) & np.isfinite(value)
            # The demand is stated relative to the dataset, so that it means the same for predicted and true speed.
            demand = np.nanquantile(truth[measured], quantile)
            feasible, predicted = measured & (truth >= demand), measured & (safe >= demand)
            for name, matrix in scores.items():
                usable = predicted & np.isfinite(matrix[:, j])
                if not usable.any():
                    # Nothing is surely fast enough: the surest model is taken.
                    usable = measured & (safe == safe[measured].max())
                choice = np.flatnonzero(usable)[int(np.argmax(np.nan_to_num(matrix[usable, j], nan=-np.inf)))]
                loss = max(float(value[feasible].max() - value[choice]), 0.0)
                rows.append((f"{quantile:g}", name, loss, float(truth[choice] < demand)))
    found: dict[str, Any] = {}
    figures = pd.DataFrame(rows, columns=["quantile", "method", "regret", "violations"])
    for (at, method), part in figures.groupby(["quantile", "method"], sort=False):
        found.setdefault(str(at), {})[str(method)] = {
            key: cluster_bootstrap(part[key], draws=settings.bootstrap) for key in ("regret", "violations")
        }
    return found


def _safe_speed(speed: Floats, violations: float) -> Floats:
    """(M,) speeds relative to a dataset's mean that are missed with probability ``violations`` at most."""
    centred = speed - np.nanmean(speed, axis=0)
    mean = np.nanmean(centred, axis=1)
    count = np.isfinite(centred).sum(axis=1, keepdims=True)
    # Each cell's error of the mean over the other datasets.
    errors = (centred - mean[:, None]) * count / np.maximum(count - 1, 1)
    safe: Floats = mean + np.nanquantile(errors, violations)
    return safe


def probes(table: PublishedTable, settings: BenchmarkSettings) -> dict[str, Any]:
    """A few real runs on each dataset, unknown until then: active probing against trying one's own top.

    Returns:
        Policy -> number of runs -> ``regret``, and ``without``: that of the first choice without any.
    """
    rows: dict[str, dict[str, list[float]]] = {}
    first = []
    for j, target in enumerate(table.dataset_ids):
        study = study_of(table, [target])
        present = np.flatnonzero(np.isfinite(table.values[:, j]))
        belief = study.knowledge().posterior(table.models.select(present), table.tokens[j])
        truth, alike = table.values[present, j], np.ones(len(present))
        # Of what was really tried the best is taken; the truth has no repeats, so no belief can correct it.
        candidates = Candidates(belief, truth, truth, 0.005, alike, np.nan * alike, alike)
        first.append(regret(truth, belief.mean, 1))
        for policy in ("active", "own_top"):
            outcomes = simulate(candidates, policy, settings.probes, np.random.default_rng(0))
            for outcome, number in zip(outcomes, sorted(settings.probes), strict=False):
                rows.setdefault(policy, {}).setdefault(str(number), []).append(outcome.regret)
    return {
        "without": cluster_bootstrap(first, draws=settings.bootstrap),
        "policies": {
            policy: {number: cluster_bootstrap(values, draws=settings.bootstrap) for number, values in entry.items()}
            for policy, entry in rows.items()
        },
    }


def judge(table: PublishedTable, scores: Mapping[str, Floats], settings: BenchmarkSettings) -> dict[str, Any]:
    """Figures of each method, means over targets with intervals, and differences to :data:`PRIOR`.

    Returns:
        ``methods`` (method -> figure -> ``mean, low, high, n``), ``per_dataset`` (method -> figure -> target -> value),
        ``paired`` (method -> figure -> difference), and ``groups`` (natural and other targets apart).
    """
    study = study_of(table)
    targets = {"targets": np.isfinite(table.values) & np.isin(table.dataset_ids, table.targets)}
    figures = figures_per_dataset(study, scores, targets, settings.draws)

    def means(part: pd.DataFrame) -> dict[str, Any]:
        return summarise(study, part, bootstrap=settings.bootstrap)["targets"]

    group = figures["dataset_id"].map(dict(zip(table.dataset_ids, study.groups, strict=True)))
    return {
        "methods": means(figures),
        "per_dataset": {
            name: {
                metric: {key: None if np.isnan(value) else value for key, value in part[metric].items()}
                for metric in METRICS
            }
            for name, part in figures.set_index("dataset_id").groupby("method", sort=False)
        },
        "paired": {
            name: compare(study, figures, name, {"targets": [PRIOR]}, settings.bootstrap)["targets"][PRIOR]
            for name in scores
            if name != PRIOR and PRIOR in scores
        },
        "groups": {str(name): means(part) for name, part in figures.groupby(group)},
    }


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
    simple = simple_methods(table)
    scores = leave_one_out(table, {**simple, **(networks or {})})
    # Published predictions and transferability scores are compared with, on the cells that they exist for.
    scores |= table.scores | {f"published/{name}": matrix for name, matrix in table.predictions.items()}
    result: dict[str, Any] = {
        "benchmark": table.name,
        "models": len(table.model_ids),
        "datasets": len(table.dataset_ids),
        "targets": table.targets,
        "baseline": PRIOR,
        **judge(table, scores, settings),
        "quadrants": quadrants(table, simple, settings),
        "probes": probes(table, settings),
    }
    if any(target in SHARED_IMAGES for target in table.targets):
        result["strict"] = judge(table, leave_one_out(table, simple, strict=True), settings)["methods"]
    if "logme" in table.scores:
        there = np.isfinite(table.scores["logme"])
        shared = {name: np.where(there, matrix, np.nan) for name, matrix in scores.items()}
        result["where_logme_exists"] = judge(table, shared, settings)["methods"]
    for name, rows in table.sub_zoos.items():
        part = table.select(rows)
        within = judge(part, leave_one_out(part, simple_methods(part)), settings)["methods"]
        result.setdefault("sub_zoos", {})[name] = within
    if table.name == "model_spider":
        tried = {name: simple[name] for name in ("metadata_ridge", PRIOR, RECOMMENDER)}
        result["source_left_out"] = leave_family_out(table, tried, settings)
        if folder is not None:
            result["own_convention"] = model_spider_convention(folder)
    if table.seconds is not None:
        result["budgets"] = budgets(table, {name: scores[name] for name in simple}, settings)
    return result


def model_spider_convention(folder: Path) -> dict[str, float]:
    """Mean weighted tau on the 10 x 8 table by its authors' convention: weights by the truth's order alone.

    Returns:
        LogME's, the published scores', and the static mean accuracy's figure (mean over the other datasets).
    """
    from scipy.stats import weightedtau

    accuracy = pd.read_csv(folder / "model_spider" / "single_source_accuracy.csv")
    accuracy = accuracy[accuracy["metric"] == "finetune_accuracy"]
    wide = accuracy.pivot_table(index="model_id", columns="dataset_id", values="value")
    tables = {"static_mean_accuracy": pd.DataFrame({d: wide.drop(columns=d).mean(axis=1) for d in wide})}
    scores = pd.read_csv(folder / "model_spider" / "single_source_scores.csv")
    for metric, part in scores.groupby("metric"):
        tables[str(metric)] = part.pivot_table(index="model_id", columns="dataset_id", values="value")
    own = partial(weightedtau, rank=None)
    found = {}
    for name, table in tables.items():
        there = table.reindex(wide.index)
        shared = [d for d in wide if d in there and there[d].notna().all()]
        if shared:
            found[name] = float(np.mean([own(wide[d].to_numpy(), there[d].to_numpy()).statistic for d in shared]))
    return found
