"""Every method on the same cells: rankings, figures with intervals, paired differences, calibration, probing.

The unit is one base task within one quadrant: its cells are ranked, the figures are computed, and only then averaged.
Sub-tasks serve for training alone. Choices (which simple baseline to compare with) are made on validation data: hidden
families of known models, validation datasets and withheld validation cells stand for the four quadrants there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.errors import ItemError
from thesis_rec.ranking.active import (
    POLICIES,
    Candidates,
    Fidelity,
    fit_fidelity,
    rbf_kernel,
    residual_covariance,
    scale_to,
    simulate,
)
from thesis_rec.ranking.baselines import (
    SIMPLE,
    TrainingSet,
    fill_by_family,
    make_baseline,
    row_means,
    score_matrix,
    seconds_per_dataset,
)
from thesis_rec.ranking.baselines.features import model_coordinates
from thesis_rec.ranking.baselines.regression import KernelRidge
from thesis_rec.ranking.bootstrap import cluster_bootstrap, paired_difference
from thesis_rec.ranking.data import ModelTable, TaskTokens
from thesis_rec.ranking.metrics import LOWER_IS_BETTER, METRICS, interval_score, metric_table
from thesis_rec.ranking.quadrants import QUADRANTS, Split, quadrant_masks, training_mask
from thesis_rec.ranking.recommender import Recommender

logger = logging.getLogger(__name__)

Floats = NDArray[np.floating]

#: Name of the method that every claim is about.
RECOMMENDER = "recommender"

#: Fewer models than this in a dataset's cells have no order worth a figure.
_LEAST_MODELS = 3

_RANKING_COLUMNS = (
    "dataset_id", "model_id", "quadrant", "score", "rank", "predicted_value", "predicted_std", "method",
)  # fmt: skip

_LEVEL = 0.9
#: Standard deviations from the mean to the bounds of a central 90 % interval.
_Z = 1.6448536269514722


@dataclass(frozen=True)
class Scores:
    """What a method says about M models on N datasets.

    Attributes:
        score: (M, N), NaN where it can't say anything.
        value: (M, N) predicted performance, if it predicts any.
        low: (M, N) lower bound of its 90 % interval.
        high: (M, N) upper bound.
        seconds: Cost of ranking all models for one dataset, training not included.
    """

    score: Floats
    value: Floats | None = None
    low: Floats | None = None
    high: Floats | None = None
    seconds: float = float("nan")


@dataclass(frozen=True)
class Study:
    """What an evaluation is about.

    Attributes:
        models: M candidates, known and unknown.
        tasks: N base tasks with tokens, of any role.
        values: (M, N) measured performance, NaN where none was measured.
        split: Who is known.
        families: N dataset families, the clusters of Q3 and Q4.
        groups: N groups (natural, structured, real), reported apart.
        spread: (M, N) standard deviation between repeats, NaN or 0 where unknown.
        seed: Seed of everything random.
    """

    models: ModelTable
    tasks: list[TaskTokens]
    values: Floats
    split: Split
    families: list[str]
    groups: list[str]
    spread: Floats | None = None
    seed: int = 0

    @property
    def dataset_ids(self) -> list[str]:
        """N identifiers."""
        return [task.dataset_id for task in self.tasks]

    def columns(self, role: str) -> NDArray[np.intp]:
        """Positions of the datasets of one role."""
        return np.flatnonzero([self.split.datasets.get(dataset) == role for dataset in self.dataset_ids])

    def training_set(self, hidden: NDArray[np.bool_] | None = None) -> TrainingSet:
        """What baselines may learn from; ``hidden`` (M,) models are treated as unknown on top."""
        columns = self.columns("train")
        ids = [self.dataset_ids[j] for j in columns]
        mask = training_mask(self.split, self.models.model_ids, ids)
        known = self.split.known_models(self.models.model_ids)
        if hidden is not None:
            mask, known = mask & ~hidden[:, None], known & ~hidden
        return TrainingSet(
            self.models,
            known,
            ids,
            np.where(mask, self.values[:, columns], np.nan),
            [self.tasks[j] for j in columns],
            [self.families[j] for j in columns],
            self.seed,
        )

    def clusters(self, quadrant: str) -> list[str]:
        """The N datasets' bootstrap clusters: base tasks, or families where datasets are unknown."""
        return self.families if quadrant in ("Q3", "Q4") else self.dataset_ids


# --- what methods say --------------------------------------------------------------------------------------------


def baseline_scores(study: Study, names: Iterable[str], training: TrainingSet | None = None) -> dict[str, Scores]:
    """Fit each baseline on the training cells and rank all models for all datasets."""
    data = training or study.training_set()
    found: dict[str, Scores] = {}
    for name in names:
        baseline = make_baseline(name).fit(data)
        started = time.perf_counter()
        score = baseline.predict(study.tasks)
        seconds = (time.perf_counter() - started) / max(len(study.tasks), 1)
        if name == "static_mean_accuracy":
            low, high = _static_bounds(data, score)
            found[name] = Scores(score, score, low, high, seconds)
        else:
            found[name] = Scores(score, seconds=seconds)
        logger.debug("%s fitted", name)
    return found


def recommender_scores(study: Study, recommender: Recommender) -> dict[str, Scores]:
    """Each network's ensemble apart, and under the name ``recommender`` the one chosen on validation data."""
    found: dict[str, Scores] = {}
    for name in recommender.names:
        started = time.perf_counter()
        predictions = recommender.predict_many(study.models, study.tasks, name)
        seconds = (time.perf_counter() - started) / max(len(study.tasks), 1)
        value = np.stack([p.value for p in predictions], axis=1)
        std = np.stack([p.std for p in predictions], axis=1)
        score = np.stack([p.score for p in predictions], axis=1)
        found["ensemble" if name == "both" else name] = Scores(
            score, value, value - _Z * std, value + _Z * std, seconds
        )
    selected = "ensemble" if recommender.selected == "both" else recommender.selected
    found[RECOMMENDER] = found[selected]
    return found


def member_scores(study: Study, recommender: Recommender) -> dict[str, list[Floats]]:
    """(M, N) scores of each training seed's network alone, by network."""
    found: dict[str, list[Floats]] = {}
    for name, members in recommender.networks.items():
        for member in members:
            alone = Recommender(recommender.inputs, {name: [member]}, name, {}, recommender.configs)
            predictions = alone.predict_many(study.models, study.tasks, name)
            found.setdefault(name, []).append(np.stack([p.score for p in predictions], axis=1))
    return found


def _static_bounds(training: TrainingSet, score: Floats) -> tuple[Floats, Floats]:
    """The static prior's 90 % interval: its value plus the quantiles of its errors on the training datasets.

    Errors are of predictions without the dataset's family. Known and unknown models have quantiles of their own; an
    unknown model's value is its family's mean, so its errors are those of left-out models' family means.
    """
    values = training.values
    families = np.asarray(training.families())
    known_error = np.full_like(values, np.nan)
    for family in np.unique(families):
        inside = families == family
        if inside.all():
            continue
        known_error[:, inside] = values[:, inside] - row_means(values[:, ~inside])[:, None]
    own = row_means(values)
    stand_in = np.full(len(own), np.nan)
    names = training.models.families
    for row in np.flatnonzero(np.isfinite(own)):
        others = own.copy()
        others[row] = np.nan
        stand_in[row] = fill_by_family(others[:, None], names)[row, 0]
    unknown_error = values - stand_in[:, None]
    bounds = []
    for quantile in ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2):
        shift = [
            float(np.nanquantile(error, quantile)) if np.isfinite(error).any() else 0.0
            for error in (known_error, unknown_error)
        ]
        bounds.append(np.clip(score + np.where(training.known, shift[0], shift[1])[:, None], 0.0, 1.0))
    return bounds[0], bounds[1]


# --- figures -----------------------------------------------------------------------------------------------------


def rankings_table(study: Study, methods: Mapping[str, Scores]) -> pd.DataFrame:
    """One row per evaluated cell and method, as in the contract of ``rankings``; rank 1 is best within its cell set."""
    masks = quadrant_masks(study.split, study.models.model_ids, study.dataset_ids)
    parts: dict[str, list[Any]] = {name: [] for name in _RANKING_COLUMNS}
    nothing = np.full(study.values.shape, np.nan)
    for name, scores in methods.items():
        value, spread = nothing if scores.value is None else scores.value, nothing
        if scores.low is not None and scores.high is not None:
            spread = (scores.high - scores.low) / (2 * _Z)
        for quadrant, mask in masks.items():
            cells = mask & np.isfinite(study.values)
            for j in np.flatnonzero(cells.any(axis=0)):
                rows = np.flatnonzero(cells[:, j])
                score = scores.score[rows, j]
                # What a method says nothing about comes last.
                order = np.argsort(np.where(np.isnan(score), np.inf, -score), kind="stable")
                rank = np.empty(len(rows), dtype=np.int64)
                rank[order] = np.arange(1, len(rows) + 1)
                found = (j, rows, quadrant, score, rank, value[rows, j], spread[rows, j], name)
                for column, part in zip(_RANKING_COLUMNS, found, strict=True):
                    parts[column].append(part if isinstance(part, np.ndarray) else np.full(len(rows), part))
    if not parts["rank"]:
        return pd.DataFrame(columns=[*_RANKING_COLUMNS, "seed"])
    table = pd.DataFrame({name: np.concatenate(arrays) for name, arrays in parts.items()})
    table["dataset_id"] = np.asarray(study.dataset_ids, dtype=object)[table["dataset_id"]]
    table["model_id"] = np.asarray(study.models.model_ids, dtype=object)[table["model_id"]]
    for column in ("dataset_id", "model_id", "quadrant", "method"):
        table[column] = table[column].astype("string")
    return table.assign(seed=study.seed)


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
        figures of :data:`~thesis_rec.ranking.metrics.METRICS`.
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


def choose_baselines(study: Study, names: Sequence[str] = SIMPLE, share: float = 0.2) -> dict[str, str]:
    """For each quadrant the baseline with the highest weighted tau on validation data.

    A fifth of the known models, in whole families, is hidden from the baselines. They stand for the unknown models;
    validation datasets stand for the unknown datasets, withheld validation cells for Q1.
    """
    models = study.models
    known = study.split.known_models(models.model_ids)
    rng = np.random.default_rng([study.seed, 7])
    hidden = np.zeros(len(models), dtype=bool)
    families = np.asarray(models.families)
    pool = np.unique(families[known])
    for family in rng.permutation(pool):
        if hidden.sum() >= share * known.sum() or len(pool) < 2:
            break
        candidates = hidden | (known & (families == family))
        if candidates.sum() <= known.sum() / 2:
            hidden = candidates
    training = study.training_set(hidden)
    validation = quadrant_masks(study.split, models.model_ids, study.dataset_ids, "validation")
    roles = [study.split.datasets.get(dataset) for dataset in study.dataset_ids]
    on_training = np.array([role == "train" for role in roles])[None, :]
    on_validation = np.array([role == "validation" for role in roles])[None, :]
    masks = {
        "Q1": validation["Q1"] & ~hidden[:, None],
        "Q2": hidden[:, None] & on_training,
        "Q3": (known & ~hidden)[:, None] & on_validation,
        "Q4": hidden[:, None] & on_validation,
    }
    scores = {name: found.score for name, found in baseline_scores(study, names, training).items()}
    figures = figures_per_dataset(study, scores, masks)
    chosen: dict[str, str] = {}
    for quadrant in QUADRANTS:
        means = figures[figures["quadrant"] == quadrant].groupby("method")["weighted_tau"].mean().dropna()
        if means.empty:
            means = figures.groupby("method")["weighted_tau"].mean().dropna()
        ordered = sorted(means.index, key=lambda name: (-means[name], names.index(name)))
        chosen[quadrant] = str(ordered[0]) if ordered else names[0]
    return chosen


def calibration(
    study: Study, methods: Mapping[str, Scores], bootstrap: int = 2000
) -> dict[str, dict[str, dict[str, dict[str, float | int | None]]]]:
    """Coverage, width and interval score of 90 % intervals, and the absolute error of the predicted values.

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
                rows["coverage"].append(float(((truth >= low) & (truth <= high)).mean()))
                rows["width"].append(float((high - low).mean()))
                rows["interval_score"].append(float(interval_score(truth, low, high, _LEVEL).mean()))
                rows["absolute_error"].append(float(np.abs(truth - scores.value[at, j]).mean()))
            if len(columns):
                found.setdefault(quadrant, {})[name] = {
                    key: cluster_bootstrap(values, clusters, draws=bootstrap, seed=study.seed).as_dict()
                    for key, values in rows.items()
                }
    return found


# --- active probing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProbingSettings:
    """How probing is simulated.

    Attributes:
        counts: Numbers of probes after which a policy is looked at.
        shares: Shares of the candidates after which it is looked at as well.
        probe_cost: Seconds of a probe per second of LogME: both are mostly the forward passes over the images.
        cheap: Which transferability score is the cheap fidelity.
        repeats: Simulations with different noise of the probes.
    """

    counts: tuple[int, ...] = (1, 3, 6, 12, 25)
    shares: tuple[float, ...] = (0.05, 0.1)
    probe_cost: float = 1.0
    cheap: str = "logme"
    repeats: int = 3


@dataclass(frozen=True)
class ErrorModel:
    """What earlier tasks say about a prediction's errors.

    Attributes:
        covariance: (M, M) between all models.
        noise_std: Of one probe.
        fidelity: Of the cheap score, None where there is none.
        n_tasks: Tasks that it was estimated from.
    """

    covariance: Floats
    noise_std: float
    fidelity: Fidelity | None = None
    n_tasks: int = 0


def shaped_values(scores: Scores) -> Floats:
    """(M, N) predicted values whose order is that of the score and whose level and spread are the value's.

    The score is trained to order, the value to be right on average; the mean of a posterior wants both.
    """
    assert scores.value is not None
    centre = scores.value.mean(axis=0, keepdims=True)
    spread = scores.value.std(axis=0, keepdims=True)
    standard = scores.score - scores.score.mean(axis=0, keepdims=True)
    standard = standard / np.maximum(scores.score.std(axis=0, keepdims=True), 1e-12)
    return np.clip(centre + spread * standard, 0.0, 1.0)


def fit_error_model(
    study: Study, scores: Scores, cheap: Floats | None = None, regression: KernelRidge | None = None
) -> ErrorModel:
    """Estimate how the recommender's errors on new datasets go together, from training and validation datasets only.

    The recommender's own errors are honest on validation datasets alone, of which there are few. How models err
    together is therefore taken from kernel ridge regression on every training dataset without its family, too, in
    the units of that dataset; how far a whole dataset is over- or underestimated from the validation datasets.

    Args:
        study: The evaluation.
        scores: The recommender's.
        cheap: (M, N) cheap scores.
        regression: Kernel ridge regression fitted on the study's training set, if there is one already.
    """
    known = study.split.known_models(study.models.model_ids)
    training = study.training_set()
    fitted = regression or KernelRidge().fit(training)
    assert isinstance(fitted, KernelRidge)
    table = training.values[known]
    count = np.isfinite(table).sum(axis=0)
    centre = np.where(count > 0, np.nansum(table, axis=0) / np.maximum(count, 1), 0.0)
    deviation = np.sqrt(np.nansum((table - centre) ** 2, axis=0) / np.maximum(count, 1))
    # Leave-out predictions are z-scores: back into units of accuracy, without the dataset's level.
    relative = (training.standardised()[known] - fitted.left_out) * deviation
    parts = [relative.T]
    level = np.nan
    validation = study.columns("validation")
    if len(validation):
        errors = study.values[np.ix_(np.flatnonzero(known), validation)] - shaped_values(scores)[known][:, validation]
        mean = row_means(errors.T)
        parts.append((errors - mean[None, :]).T)
        level = float(np.nanstd(np.append(mean, -mean)))
    residuals = np.concatenate([part[np.isfinite(part).sum(axis=1) >= 2] for part in parts])
    if not len(residuals):
        residuals = relative.T
    coordinates = model_coordinates(study.models, known)
    covariance = residual_covariance(residuals, rbf_kernel(coordinates), np.flatnonzero(known))
    if not np.isfinite(level):
        level = float(np.sqrt(np.diagonal(covariance).mean()))
    covariance = covariance + level**2
    noise = 0.01
    if study.spread is not None and np.isfinite(study.spread[known]).any():
        positive = study.spread[known][np.isfinite(study.spread[known]) & (study.spread[known] > 0)]
        noise = float(np.sqrt((positive**2).mean())) if len(positive) else noise
    fidelity = None
    if cheap is not None:
        columns = np.concatenate([study.columns("train"), validation])
        rows = np.flatnonzero(known)
        seen = np.where(training_mask(study.split, study.models.model_ids, study.dataset_ids), study.values, np.nan)
        seen[:, validation] = np.where(known[:, None], study.values[:, validation], np.nan)
        try:
            fidelity = fit_fidelity(seen[np.ix_(rows, columns)].T, cheap[np.ix_(rows, columns)].T)
        except ValueError:
            logger.info("no dataset has both values and the cheap score: probing goes without it")
    return ErrorModel(covariance, noise, fidelity, len(residuals))


def probing(
    study: Study,
    scores: Scores,
    errors: ErrorModel,
    *,
    cheap: Floats,
    cheap_seconds: Floats,
    settings: ProbingSettings,
    bootstrap: int = 2000,
) -> dict[str, Any]:
    """Simulate all policies on the unknown datasets, with all models (known and unknown) as candidates.

    Returns:
        ``frontier``: policy -> number of probes -> ``regret@1, weighted_tau, seconds`` with intervals; ``shares``: the
        numbers of probes at the given shares; ``paired``: differences of active probing to the cheap score on all
        candidates and to the prior's top, at each number; ``n_datasets, n_candidates``.
    """
    columns = study.columns("test")
    size = len(study.models)
    shares = {f"{share:g}": max(1, round(share * size)) for share in settings.shares}
    budgets = sorted({min(count, size) for count in (*settings.counts, *shares.values())})
    rows: list[dict[str, Any]] = []
    mean = shaped_values(scores)
    std = None
    if scores.low is not None and scores.high is not None:
        std = (scores.high - scores.low) / (2 * _Z)
    for j in columns:
        present = np.flatnonzero(np.isfinite(study.values[:, j]))
        if len(present) < _LEAST_MODELS:
            continue
        covariance = errors.covariance[np.ix_(present, present)].astype(np.float64)
        if std is not None:
            covariance = _widen(covariance, std[present, j])
        noise = np.nan_to_num(study.spread[present, j]) if study.spread is not None else np.zeros(len(present))
        seconds = np.nan_to_num(cheap_seconds[present, j])
        for repeat in range(settings.repeats):
            rng = np.random.default_rng([study.seed, int(j), repeat])
            truth = study.values[present, j].astype(np.float64)
            candidates = Candidates(
                truth=truth,
                observed=np.clip(truth + noise * rng.normal(size=len(present)), 0.0, 1.0),
                mean=mean[present, j].astype(np.float64),
                covariance=covariance,
                probe_seconds=settings.probe_cost * seconds,
                cheap=cheap[present, j].astype(np.float64),
                cheap_seconds=seconds,
            )
            for policy in POLICIES:
                if policy == "active_two_fidelities" and errors.fidelity is None:
                    continue
                if policy in ("cheap_score_all", "successive_halving") and not np.isfinite(candidates.cheap).any():
                    continue
                outcomes = simulate(
                    candidates, policy, budgets, rng, noise_std=errors.noise_std, fidelity=errors.fidelity
                )
                for number, outcome in zip(budgets, outcomes, strict=False):
                    rows.append(
                        {
                            "dataset_id": study.dataset_ids[j],
                            "family": study.families[j],
                            "policy": policy,
                            "budget": number,
                            "regret@1": outcome.regret,
                            "weighted_tau": outcome.tau,
                            "seconds": outcome.seconds,
                        }
                    )
    if not rows:
        return {"frontier": {}, "shares": shares, "paired": {}, "n_datasets": 0, "n_candidates": size}
    measured = ["regret@1", "weighted_tau", "seconds"]
    keys = ["policy", "budget", "dataset_id", "family"]
    table = pd.DataFrame(rows).groupby(keys, sort=False)[measured].mean().reset_index()
    frontier: dict[str, dict[str, Any]] = {}
    for key, part in table.groupby(["policy", "budget"], sort=False):
        policy, budget = str(key[0]), str(key[1])
        frontier.setdefault(policy, {})[budget] = {
            name: cluster_bootstrap(part[name], list(part["family"]), draws=bootstrap, seed=study.seed).as_dict()
            for name in measured
        }
    paired: dict[str, dict[str, Any]] = {}
    for number in budgets:
        at = {str(p): part.set_index("dataset_id") for p, part in table[table["budget"] == number].groupby("policy")}
        for other in ("cheap_score_all", "prior_top"):
            if other in at:
                rest = at[other].reindex(at["active"].index)
                paired.setdefault(other, {})[str(number)] = {
                    name: paired_difference(
                        at["active"][name], rest[name], list(at["active"]["family"]), draws=bootstrap, seed=study.seed
                    ).as_dict()
                    for name in ("regret@1", "weighted_tau")
                }
    return {
        "frontier": frontier,
        "shares": shares,
        "paired": paired,
        "n_datasets": int(table["dataset_id"].nunique()),
        "n_candidates": size,
        "tasks_of_the_error_model": errors.n_tasks,
    }


def _widen(covariance: NDArray[np.float64], std: Floats) -> NDArray[np.float64]:
    """Let models whose prediction is unsure vary more, relative to the others, by the predicted deviations.

    The typical size stays that of the errors on earlier tasks, which has been measured.
    """
    typical = np.sqrt(np.maximum(np.diagonal(covariance), 1e-12))
    relative = std / max(float(np.mean(std)), 1e-12)
    return scale_to(covariance, typical * np.clip(relative, 0.5, 2.0) ** 0.5)


# --- the whole evaluation ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated, and how.

    Attributes:
        baselines: Names of baselines.
        transferability: Names of transferability scores.
        draws: Random orders of tied scores.
        bootstrap: Resamples of an interval.
        probing: Simulation of active probing.
    """

    baselines: tuple[str, ...]
    transferability: tuple[str, ...]
    draws: int = 20
    bootstrap: int = 2000
    probing: ProbingSettings = field(default_factory=ProbingSettings)


def document(
    study: Study,
    methods: Mapping[str, Scores],
    figures: pd.DataFrame,
    *,
    chosen: Mapping[str, str],
    ceiling: Mapping[str, Mapping[str, float]],
    settings: EvaluationSettings,
    members: Mapping[str, Sequence[Floats]] | None = None,
) -> dict[str, Any]:
    """The contract's ``evaluation_metrics``, with what else a reviewer asks for beside it."""
    others = [name for name in methods if name != RECOMMENDER]
    quadrants = [q for q in QUADRANTS if (figures["quadrant"] == q).any()]
    every = compare(study, figures, RECOMMENDER, dict.fromkeys(quadrants, others), settings.bootstrap)
    paired = {
        quadrant: every[quadrant][chosen[quadrant]] for quadrant in every if chosen.get(quadrant) in every[quadrant]
    }
    group_of = dict(zip(study.dataset_ids, study.groups, strict=True))
    groups = {
        group: summarise(
            study,
            figures,
            bootstrap=settings.bootstrap,
            datasets=[dataset for dataset in study.dataset_ids if group_of[dataset] == group],
        )
        for group in sorted(set(study.groups) - {""})
    }
    result: dict[str, Any] = {
        "quadrants": summarise(study, figures, bootstrap=settings.bootstrap),
        "paired": paired,
        "groups": groups,
        "noise_ceiling": {protocol: dict(values) for protocol, values in ceiling.items()},
        "cost_seconds": {name: _number(scores.seconds) for name, scores in methods.items()},
        "paired_all": every,
        "chosen_baseline": dict(chosen),
        "calibration": calibration(study, methods, settings.bootstrap),
        "counts": {
            "models": len(study.models),
            "unknown_models": int((~study.split.known_models(study.models.model_ids)).sum()),
            "datasets": {role: len(study.columns(role)) for role in ("train", "validation", "test")},
        },
    }
    if members:
        masks = quadrant_masks(study.split, study.models.model_ids, study.dataset_ids)
        scores = {f"{name}/{i}": matrix for name, runs in members.items() for i, matrix in enumerate(runs)}
        by_member = figures_per_dataset(study, scores, masks, draws=1).groupby(["quadrant", "method"])["weighted_tau"]
        means = by_member.mean()
        result["seeds"] = {
            name: {
                quadrant: [_number(means.get((quadrant, f"{name}/{i}"), np.nan)) for i in range(len(runs))]
                for quadrant in quadrants
            }
            for name, runs in members.items()
        }
    return result


@dataclass(frozen=True)
class Evaluation:
    """Everything an evaluation gives.

    Attributes:
        rankings: The contract's ``rankings``.
        figures: Figures of each method on each dataset of each quadrant.
        metrics: The contract's ``evaluation_metrics``.
        errors: How the recommender's errors go together, for probing.
    """

    rankings: pd.DataFrame
    figures: pd.DataFrame
    metrics: dict[str, Any]
    errors: ErrorModel


def assemble_study(
    performance: pd.DataFrame,
    splits: pd.DataFrame,
    models: ModelTable,
    tokens: Mapping[str, TaskTokens],
    dataset_info: pd.DataFrame,
    *,
    protocol: str = "linear_probe",
    max_tasks: int | None = None,
    seed: int = 0,
) -> Study:
    """Put the tables together: base tasks with a role and tokens, and what was measured on them.

    Args:
        performance: One value per model, dataset and protocol, with ``std`` between repeats.
        splits: Who is known.
        models: Candidates.
        tokens: Tokens by dataset.
        dataset_info: ``dataset_id, domain, group, parent``.
        protocol: Which measurements count.
        max_tasks: Largest number of datasets, drawn evenly from each role; None for all.
        seed: Seed of everything random.

    Raises:
        ItemError: If no base task has a role, tokens and measurements.
    """
    split = Split.of(splits)
    info = dataset_info.assign(dataset_id=dataset_info["dataset_id"].astype(str)).drop_duplicates("dataset_id")
    parent = info["parent"].fillna("").astype(str).str.strip()
    measured = performance[performance["protocol"] == protocol]
    found = set(measured["dataset_id"].astype(str))
    bases = [d for d in info.loc[parent == "", "dataset_id"] if d in split.datasets and d in tokens and d in found]
    if max_tasks is not None and len(bases) > max_tasks:
        # A share of each role, so that no quadrant is left without datasets.
        by_role = sorted(bases, key=lambda dataset: split.datasets[dataset])
        kept = {by_role[i] for i in np.linspace(0, len(by_role) - 1, max_tasks).round().astype(int)}
        bases = [dataset for dataset in bases if dataset in kept]
    if not bases:
        raise ItemError(
            "performance",
            f"no dataset has measurements by {protocol!r}, tokens and a role.",
            "Run dataset_features and similarity_training with the same manifests first.",
        )

    def matrix(column: str) -> Floats:
        wide = measured.pivot_table(index="model_id", columns="dataset_id", values=column, dropna=False)
        return wide.reindex(index=models.model_ids, columns=bases).to_numpy(dtype=np.float64)

    rows = info.set_index("dataset_id").reindex(bases)
    families = [
        str(f).strip() if pd.notna(f) and str(f).strip() else d for d, f in zip(bases, rows["domain"], strict=True)
    ]
    groups = [str(g) if pd.notna(g) else "" for g in rows["group"]]
    spread = matrix("std") if "std" in measured and measured["std"].notna().any() else None
    return Study(models, [tokens[d] for d in bases], matrix("value"), split, families, groups, spread, seed)


def evaluate(
    study: Study,
    recommender: Recommender | None,
    transferability: pd.DataFrame,
    settings: EvaluationSettings,
    ceiling: Mapping[str, Mapping[str, float]] | None = None,
) -> Evaluation:
    """Rank with every method, compute every figure.

    Args:
        study: What it is about.
        recommender: The trained ranker; without one, kernel ridge regression stands in under its name.
        transferability: Table of transferability scores; may be empty.
        settings: What and how.
        ceiling: Noise ceiling by protocol.
    """
    methods: dict[str, Scores] = {}
    if recommender is not None:
        methods |= recommender_scores(study, recommender)
    methods |= baseline_scores(study, settings.baselines)
    if recommender is None:
        methods = {RECOMMENDER: methods.get("kernel_ridge", next(iter(methods.values()))), **methods}
    ids = (study.models.model_ids, study.dataset_ids)
    for name in settings.transferability:
        if len(transferability) and (transferability["method"] == name).any():
            seconds = seconds_per_dataset(transferability, name, *ids)
            methods[name] = Scores(score_matrix(transferability, name, *ids), seconds=seconds)
    masks = quadrant_masks(study.split, *ids)
    figures = figures_per_dataset(study, {n: s.score for n, s in methods.items()}, masks, settings.draws)
    simple = [name for name in SIMPLE if name in settings.baselines]
    chosen = choose_baselines(study, simple) if simple else {}
    members = member_scores(study, recommender) if recommender is not None else None
    metrics = document(
        study, methods, figures, chosen=chosen, ceiling=ceiling or {}, settings=settings, members=members
    )
    cheap = (
        methods[settings.probing.cheap].score
        if settings.probing.cheap in methods
        else np.full_like(study.values, np.nan)
    )
    cheap_seconds = (
        score_matrix(transferability, settings.probing.cheap, *ids, "seconds") if len(transferability) else cheap
    )
    ours = methods[RECOMMENDER]
    if ours.value is None:
        errors = ErrorModel(np.eye(len(study.models)), 0.01)
    else:
        errors = fit_error_model(study, ours, cheap if np.isfinite(cheap).any() else None)
        metrics["probing"] = probing(
            study,
            ours,
            errors,
            cheap=cheap,
            cheap_seconds=cheap_seconds,
            settings=settings.probing,
            bootstrap=settings.bootstrap,
        )
    return Evaluation(rankings_table(study, methods), figures, metrics, errors)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
