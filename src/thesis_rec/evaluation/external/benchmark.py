"""A published table as a benchmark: methods on what was left out, choices under budgets and with a few real runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.evaluation.bootstrap import cluster_bootstrap, finite_or_none, paired_difference
from thesis_rec.evaluation.external import methods
from thesis_rec.evaluation.external.methods import Method, SmoothedRanks, Task
from thesis_rec.evaluation.external.tables import NATURAL, SHARED_IMAGES, PublishedTable
from thesis_rec.evaluation.metrics import LOWER_IS_BETTER, METRICS, metric_table, regret, weighted_tau
from thesis_rec.evaluation.probing_simulation import Candidates, simulate
from thesis_rec.knowledge.covariance import Shrinkage, fit_covariance
from thesis_rec.knowledge.posterior import Posterior, Scale

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class BenchmarkSettings:
    """How a published table is evaluated.

    Attributes:
        draws: Random orders of tied scores.
        bootstrap: Resamples of an interval.
        folds: Model folds of the quadrants.
        seeds: Divisions into model folds.
        hidden_cells: Share of the known models' cells that Q1 is measured on.
        probes: Numbers of real runs.
        throughputs: Quantiles of throughput that a budget demands.
        violations: Largest share of chosen models that may miss a demanded throughput.
    """

    draws: int = 20
    bootstrap: int = 2000
    folds: int = 5
    seeds: int = 3
    hidden_cells: float = 0.2
    probes: tuple[int, ...] = (3, 5, 10)
    throughputs: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)
    violations: float = 0.05


def leave_one_out(
    table: PublishedTable, found: Mapping[str, Method], *, strict: bool = False, seed: int = 0
) -> dict[str, Floats]:
    """(M, T) scores of each method on the targets, each target's column being left out.

    Args:
        table: The published table.
        found: Methods.
        strict: Whether datasets that share images with the target are left out too.
        seed: Seed of random methods.
    """
    scores = {name: np.full((len(table.model_ids), len(table.targets)), np.nan) for name in found}
    known = np.ones(len(table.model_ids), dtype=bool)
    for place, target in enumerate(table.targets):
        task = Task(table, table.dataset_ids.index(target), training_columns(table, target, strict), known, seed=seed)
        for name, method in found.items():
            scores[name][:, place] = method(task)
    return scores


def quadrants(table: PublishedTable, found: Mapping[str, Method], settings: BenchmarkSettings) -> dict[str, Any]:
    """The four quadrants with model folds instead of unknown families: quadrant -> method -> weighted tau.

    For each seed and fold a part of the models is unknown. Each target in turn is the unknown dataset (Q3, Q4). Known
    datasets (Q1, Q2) are measured with the target's column among the training columns: Q1 on hidden cells of known
    models, Q2 on the unknown models.
    """
    rows: dict[str, dict[str, dict[str, list[float]]]] = {}

    def note(quadrant: str, name: str, target: str, truth: Floats, score: Floats) -> None:
        figure = metric_table(truth, score, 0, settings.draws)["weighted_tau"]
        rows.setdefault(quadrant, {}).setdefault(name, {}).setdefault(target, []).append(figure)

    everything = np.arange(len(table.dataset_ids))
    for seed in range(settings.seeds):
        rng = np.random.default_rng(seed)
        fold_of = rng.permutation(len(table.model_ids)) % settings.folds
        hidden = rng.random(table.values.shape) < settings.hidden_cells
        for fold in range(settings.folds):
            known = fold_of != fold
            for target in table.targets:
                j = table.dataset_ids.index(target)
                unseen = Task(table, j, training_columns(table, target, False), known, seed=seed)
                seen = Task(table, j, everything, known, hidden, seed)
                for name, method in found.items():
                    score = method(unseen)
                    note("Q3", name, target, table.values[known, j], score[known])
                    note("Q4", name, target, table.values[~known, j], score[~known])
                    # The target's own column may be looked at, except hidden cells and unknown models.
                    score = method(seen)
                    at = known & hidden[:, j]
                    note("Q1", name, target, table.values[at, j], score[at])
                    note("Q2", name, target, table.values[~known, j], score[~known])
    return {
        quadrant: {
            name: cluster_bootstrap(
                [float(np.nanmean(v)) if np.isfinite(v).any() else np.nan for v in targets.values()],
                draws=settings.bootstrap,
            ).as_dict()
            for name, targets in entry.items()
        }
        for quadrant, entry in sorted(rows.items())
    }


def leave_family_out(table: PublishedTable, found: Mapping[str, Method], settings: BenchmarkSettings) -> dict[str, Any]:
    """Unknown families of models on unknown datasets: each family in turn is left out, its scores put together.

    Returns:
        Method -> weighted tau over the targets, of all models ranked by what was said of them while unknown.
    """
    families = np.asarray(table.families)
    scores = {name: np.full((len(families), len(table.targets)), np.nan) for name in found}
    for family in np.unique(families):
        known = families != family
        for place, target in enumerate(table.targets):
            columns = training_columns(table, target, False)
            task = Task(table, table.dataset_ids.index(target), columns, known)
            for name, method in found.items():
                scores[name][~known, place] = method(task)[~known]
    targets = [table.dataset_ids.index(target) for target in table.targets]
    return {
        name: cluster_bootstrap(
            [weighted_tau(table.values[:, j], matrix[:, place]) for place, j in enumerate(targets)],
            draws=settings.bootstrap,
        ).as_dict()
        for name, matrix in scores.items()
    }


def training_columns(table: PublishedTable, target: str, strict: bool) -> NDArray[np.intp]:
    """Positions of the datasets that may be looked at for a target: all others.

    Args:
        table: The published table.
        target: Name of the target.
        strict: Whether datasets that share images with it are left out too.
    """
    excluded = {target, *(SHARED_IMAGES.get(target, ()) if strict else ())}
    return np.array([j for j, name in enumerate(table.dataset_ids) if name not in excluded], dtype=int)


def budgets(table: PublishedTable, scores: Mapping[str, Floats], settings: BenchmarkSettings) -> dict[str, Any]:
    """Choosing under a demanded throughput that is itself predicted: regret among feasible models, violations.

    Speed on the target is predicted from other datasets' run times (the target's own are from the answer): a model's
    mean distance from the datasets' mean logarithm, made safe by a quantile of its errors on the training datasets.

    Returns:
        Quantile demanded -> method -> ``regret`` and ``violations``.
    """
    assert table.seconds is not None
    speed = -np.log(table.seconds)
    found: dict[str, Any] = {}
    columns = [table.dataset_ids.index(target) for target in table.targets]
    for quantile in settings.throughputs:
        rows: dict[str, list[tuple[float, float]]] = {}
        for place, j in enumerate(columns):
            training = training_columns(table, table.targets[place], False)
            safe = _safe_speed(speed[:, training], settings.violations)
            truth, value = speed[:, j] - np.nanmean(speed[:, j]), table.values[:, j]
            measured = np.isfinite(truth) & np.isfinite(value)
            # The demand is stated relative to the dataset, so that it means the same for predicted and true speed.
            demand = np.nanquantile(truth[measured], quantile)
            feasible, predicted = measured & (truth >= demand), measured & (safe >= demand)
            for name, matrix in scores.items():
                usable = predicted & np.isfinite(matrix[:, place])
                if not usable.any():
                    # Nothing is surely fast enough: the surest model is taken.
                    usable = measured & (safe == safe[measured].max())
                choice = np.flatnonzero(usable)[int(np.argmax(np.nan_to_num(matrix[usable, place], nan=-np.inf)))]
                broken = float(truth[choice] < demand)
                loss = max(float(value[feasible].max() - value[choice]), 0.0)
                rows.setdefault(name, []).append((loss, broken))
        found[f"{quantile:g}"] = {
            name: {
                "regret": cluster_bootstrap([a for a, _ in pairs], draws=settings.bootstrap).as_dict(),
                "violations": cluster_bootstrap([b for _, b in pairs], draws=settings.bootstrap).as_dict(),
            }
            for name, pairs in rows.items()
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


def probes(table: PublishedTable, method: Method, settings: BenchmarkSettings) -> dict[str, Any]:
    """A few real runs on the target: active probing against trying the prior's top.

    Returns:
        Policy -> number of runs -> ``regret`` (in the table's unit), and ``without``: the prior's first choice.
    """
    known = np.ones(len(table.model_ids), dtype=bool)
    rows: dict[str, dict[str, list[float]]] = {}
    first: list[float] = []
    for target in table.dataset_ids:
        columns = training_columns(table, target, False)
        j = table.dataset_ids.index(target)
        # How well the method does on each training dataset without it: level, spread and errors are theirs alone.
        residuals, values, spread = [], [], []
        for column in columns:
            inner = np.array([k for k in columns if k != column])
            truth = _without_failures(table.values[:, column])
            centred = truth - np.nanmean(truth)
            score = method(Task(table, int(column), inner, known))
            shaped = _shape(score, centred)
            residuals.append(centred - shaped)
            spread.append(float(np.nanstd(shaped)))
            values.append(float(np.nanmean(truth)))
        score = method(Task(table, j, columns, known))
        present = np.flatnonzero(np.isfinite(table.values[:, j]) & np.isfinite(score))
        level, spread_ = float(np.mean(values)), float(np.median(spread))
        learned = fit_covariance(np.stack(residuals) / spread_, shrinkage=Shrinkage(mean=1e9))
        scale = Scale(0.0)
        mean = np.clip((level + spread_ * _unit(score)[present]) / table.unit, 0.0, 1.0)
        # From the table's unit to the scale, and the level's uncertainty on top.
        slope = scale.slope(mean) / table.unit
        factor = np.column_stack([spread_ * learned.factor[present], np.full(len(present), np.std(values))])
        names = [table.model_ids[row] for row in present]
        own = np.square(slope * spread_) * learned.own[present]
        truth = table.values[present, j].astype(np.float64) / table.unit
        candidates = Candidates(
            Posterior(names, scale.latent(mean), slope[:, None] * factor, own, scale),
            truth=truth,
            observed=truth,
            noise=0.005,
            probe_seconds=np.ones(len(present)),
            cheap=np.full(len(present), np.nan),
            cheap_seconds=np.ones(len(present)),
        )
        first.append(table.unit * regret(truth, score[present], 1))
        for policy in ("active", "own_top"):
            outcomes = simulate(candidates, policy, settings.probes, np.random.default_rng(0))
            for outcome, number in zip(outcomes, sorted(settings.probes), strict=False):
                # Of what was really tried the best is taken; the truth has no repeats, so no belief can correct it.
                rows.setdefault(policy, {}).setdefault(str(number), []).append(table.unit * outcome.regret)
    return {
        "without": cluster_bootstrap(first, draws=settings.bootstrap).as_dict(),
        "policies": {
            policy: {
                number: cluster_bootstrap(values, draws=settings.bootstrap).as_dict()
                for number, values in entry.items()
            }
            for policy, entry in rows.items()
        },
    }


def _without_failures(values: Floats) -> Floats:
    """Values below the first quartile by more than 1.5 interquartile ranges are brought up to there (Tukey's fence).

    A run that failed is bad whichever way; how far it fell says nothing about which model is best.
    """
    low, high = np.nanquantile(values, [0.25, 0.75])
    return np.maximum(values, low - 1.5 * (high - low))


def _unit(score: Floats) -> Floats:
    spread = float(np.nanstd(score))
    return (score - np.nanmean(score)) / (spread if spread > 0 else 1.0)


def _shape(score: Floats, truth: Floats) -> Floats:
    """Scores on the scale of the truth, by regression over the models that have both."""
    unit = _unit(score)
    both = np.isfinite(unit) & np.isfinite(truth)
    slope = float(unit[both] @ truth[both] / max(float(unit[both] @ unit[both]), 1e-12))
    return max(slope, 0.0) * unit


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
