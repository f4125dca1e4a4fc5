"""Every method on the same cells: rankings, figures with intervals, paired differences, calibration, probing.

The unit is one base task within one quadrant: its cells are ranked, the figures are computed, and only then averaged.
Sub-tasks serve for training alone. The rival of a quadrant is whichever other method is strongest there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.settings import Settings, Words
from thesis_rec.evaluation.baselines import baseline, row_means, row_means_of_others
from thesis_rec.evaluation.figures import calibration, compare, figures_per_dataset, summarise, summarise_groups
from thesis_rec.evaluation.probing_simulation import ProbingSettings, probing
from thesis_rec.evaluation.study import Floats, Scores, Study, cell_matrix
from thesis_rec.knowledge.knowledge import LEVEL, Knowledge, Z
from thesis_rec.knowledge.posterior import SCORE, Cell

if TYPE_CHECKING:
    from thesis_rec.thesis.ranker import Ranker

logger = logging.getLogger(__name__)

#: Name of the method that every claim is about.
RECOMMENDER = "recommender"
#: The same, given LogME of all candidates: what ``kedro recommend --score`` answers. No rival, as it is asked for.
SCORED = "recommender_with_logme"
#: The thesis's method.
NETWORK = "similarity_transformer"


def baseline_scores(study: Study, names: Iterable[str]) -> dict[str, Scores]:
    """Fit each baseline on the training cells and rank all models for all datasets."""
    data = study.training()
    found: dict[str, Scores] = {}
    for name in names:
        scorer = baseline(name)(data)
        started = time.perf_counter()
        score = scorer(study.tasks)
        seconds = (time.perf_counter() - started) / len(study.tasks)
        found[name] = Scores(score, seconds=seconds)
        if name == "static_mean_accuracy":
            found[name] = Scores(score, score, *_static_bounds(data, score), seconds)
        logger.debug("%s fitted", name)
    return found


def posterior_scores(study: Study, knowledge: Knowledge, cheap: Scores | None = None) -> Scores:
    """What a request is answered: the posterior of each dataset, given what was measured there and may be used.

    Args:
        study: What it is about.
        knowledge: What is believed before.
        cheap: A cheap score of all candidates that is given as well, and whose cost counts; None for none.
    """
    ids, allowed, started = study.models.model_ids, study.allowed(), time.perf_counter()
    found = []
    for column, task in enumerate(study.tasks):
        known = np.flatnonzero(allowed[:, column])
        cells = [Cell(ids[row], float(study.values[row, column]), knowledge.noise) for row in known]
        belief = knowledge.posterior(study.models, task, cells)
        if cheap is not None:
            there = np.flatnonzero(np.isfinite(cheap.score[:, column]))
            belief = belief.scored({ids[row]: float(cheap.score[row, column]) for row in there}, SCORE)
        found.append(np.stack([belief.mean, belief.value(), *belief.interval(LEVEL)]))
    score, value, low, high = np.stack(found, axis=2)
    seconds = (time.perf_counter() - started) / len(study.tasks)
    return Scores(score, value, low, high, seconds if cheap is None else seconds + cheap.seconds)


def network_scores(study: Study, ranker: Ranker) -> Scores:
    """The thesis's network; it doesn't read a dataset's own cells."""
    started = time.perf_counter()
    found = ranker.predict(study.models, study.tasks)
    seconds = (time.perf_counter() - started) / len(study.tasks)
    value, half = found["value"], Z * found["std"]
    return Scores(found["score"], value, value - half, value + half, seconds)


def _static_bounds(training: Study, score: Floats) -> tuple[Floats, Floats]:
    """The static prior's 90 % interval: its value plus the quantiles of its errors on the training datasets.

    Errors are of predictions without the dataset's family. Known and unknown models have quantiles of their own; an
    unknown model's value is its family's mean, so its errors are those of left-out models' family means.
    """
    values = training.values
    known_error = values - row_means_of_others(values, np.asarray(training.families))
    own = pd.Series(row_means(values))
    family = own.groupby(training.models.families)
    # Each model's stand-in is the mean of its family, else of all, without itself.
    stand_in = (family.transform("sum") - own) / (family.transform("count") - 1)
    stand_in = stand_in.fillna((own.sum() - own) / (own.count() - 1))
    unknown_error = values - stand_in.to_numpy()[:, None]
    of_known, of_unknown = (
        np.nanquantile(error, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if np.isfinite(error).any() else np.zeros(2)
        for error in (known_error, unknown_error)
    )
    low, high = np.where(training.known[:, None], of_known, of_unknown).T
    return np.clip(score + low[:, None], 0.0, 1.0), np.clip(score + high[:, None], 0.0, 1.0)


def rankings_table(study: Study, methods: Mapping[str, Scores]) -> pd.DataFrame:
    """One row per evaluated cell and method, as in the contract of ``rankings``; rank 1 is best within its cell set."""
    models, datasets = np.array(study.models.model_ids), np.array(study.dataset_ids)
    masks = study.split.quadrants()
    parts = []
    for name, scores in methods.items():
        columns = {"score": scores.score, "predicted_value": scores.value}
        columns["predicted_std"] = (scores.high - scores.low) / (2 * Z)
        shown = {key: np.broadcast_to(table, study.values.shape) for key, table in columns.items()}
        for quadrant, mask in masks.items():
            dataset, model = np.nonzero((mask & np.isfinite(study.values)).T)
            part = {"dataset_id": datasets[dataset], "model_id": models[model], "quadrant": quadrant, "method": name}
            parts.append(pd.DataFrame(part | {key: table[model, dataset] for key, table in shown.items()}))
    keys = ["dataset_id", "model_id", "quadrant", "method"]
    table = pd.concat(parts, ignore_index=True).astype(dict.fromkeys(keys, "string")).assign(seed=study.seed)
    # What a method says nothing about comes last.
    cells = table.groupby(["method", "quadrant", "dataset_id"])["score"]
    return table.assign(rank=cells.rank("first", ascending=False, na_option="bottom").astype(np.int64))


class EvaluationSettings(Settings):
    """What is evaluated, and how; every field is explained in ``conf/base/parameters/evaluation.yml``."""

    baselines: Words[str]
    transferability: Words[str]
    draws: int = Field(default=20, ge=1)
    bootstrap: int = Field(default=2000, ge=10)
    probing: ProbingSettings = Field(default_factory=ProbingSettings)


def check_learned(study: Study, ranker: Ranker, knowledge: Knowledge) -> None:
    """Refuse what was learned by other splits or codes: after a run that ended in between it would go unnoticed.

    Raises:
        ConfigurationError: If the network was trained on other known models or codes, or what the posterior knows
            includes models or datasets that count as unknown.
    """
    known = study.models.select(np.flatnonzero(study.known))
    unknown = {*study.models.model_ids} - {*known.model_ids} | {study.dataset_ids[j] for j in study.columns("test")}
    if not ranker.inputs.fits(known) or unknown & {*knowledge.model_ids, *knowledge.dataset_ids}:
        raise ConfigurationError(
            "What was learned is of other models, datasets or embeddings than those that count as known now. "
            "Run `kedro run --pipelines=similarity_training` again."
        )


class Evaluation(NamedTuple):
    """Everything an evaluation gives.

    Attributes:
        rankings: The contract's ``rankings``.
        figures: Figures of each method on each dataset of each quadrant.
        metrics: The contract's ``evaluation_metrics``.
    """

    rankings: pd.DataFrame
    figures: pd.DataFrame
    metrics: dict[str, Any]


def evaluate(
    study: Study,
    ranker: Ranker | None,
    transferability: pd.DataFrame,
    settings: EvaluationSettings,
    ceiling: Mapping[str, Mapping[str, float]] | None = None,
    knowledge: Knowledge | None = None,
) -> Evaluation:
    """Rank with every method, compute every figure.

    Args:
        study: What it is about.
        ranker: The thesis's trained network, which is evaluated beside; None for none.
        transferability: Table of transferability scores; may have no rows.
        settings: What and how.
        ceiling: Noise ceiling by protocol.
        knowledge: What answers requests, learned from what the study allows; by default it is learned here.
    """
    ids = (study.models.model_ids, study.dataset_ids)
    knowledge = knowledge or study.knowledge()
    scored: dict[str, Scores] = {}
    for name in settings.transferability:
        cells = transferability[transferability["method"] == name]
        if len(cells):
            # Of all candidates, a mean over datasets; NaN where no cost was recorded.
            seconds = pd.DataFrame(cell_matrix(cells, "seconds", *ids)).sum(min_count=1).mean()
            scored[name] = Scores(cell_matrix(cells, "value", *ids), seconds=float(seconds))
    networks = {} if ranker is None else {NETWORK: network_scores(study, ranker)}
    methods = {RECOMMENDER: posterior_scores(study, knowledge), **networks}
    methods |= baseline_scores(study, settings.baselines) | scored
    if SCORE in scored:
        methods[SCORED] = posterior_scores(study, knowledge, scored[SCORE])
    masks = study.split.quadrants()
    figures = figures_per_dataset(study, {n: s.score for n, s in methods.items()}, masks, settings.draws)
    how = settings.bootstrap
    others = [name for name in methods if name not in (RECOMMENDER, SCORED)]
    every = compare(study, figures, RECOMMENDER, others, how)
    means = figures.groupby(["quadrant", "method"])["weighted_tau"].mean().fillna(-2.0)
    metrics = {
        "quadrants": summarise(study, figures, bootstrap=how),
        "paired": {q: found[max(found, key=dict(means[q]).__getitem__)] for q, found in every.items()},
        "groups": summarise_groups(study, figures, bootstrap=how),
        "noise_ceiling": dict(ceiling or {}),
        "cost_seconds": {name: s.seconds if np.isfinite(s.seconds) else None for name, s in methods.items()},
        "paired_all": every,
        "paired_with_scores": compare(study, figures, SCORED, [SCORE, RECOMMENDER], how) if SCORED in methods else {},
        "calibration": calibration(study, methods, how),
        "counts": {
            "models": len(study.models),
            "unknown_models": int((~study.known).sum()),
            "datasets": {role: len(study.columns(role)) for role in ("train", "validation", "test")},
        },
        "probing": probing(study, knowledge, transferability, settings.probing, how),
    }
    return Evaluation(rankings_table(study, methods), figures, metrics)
