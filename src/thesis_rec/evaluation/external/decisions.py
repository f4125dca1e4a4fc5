"""Choices on a published table: under a demanded throughput, and with a few real runs on the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.evaluation.bootstrap import cluster_bootstrap
from thesis_rec.evaluation.external.leave_out import BenchmarkSettings, training_columns
from thesis_rec.evaluation.external.methods import Method, Task
from thesis_rec.evaluation.external.tables import PublishedTable
from thesis_rec.evaluation.metrics import regret
from thesis_rec.evaluation.probing_simulation import Candidates, simulate
from thesis_rec.knowledge.covariance import Shrinkage, fit_covariance
from thesis_rec.knowledge.posterior import Posterior, Scale

Floats = NDArray[np.floating]


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
