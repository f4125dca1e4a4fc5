"""What every method says about every model on every dataset of a study."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

import numpy as np

from thesis_rec.evaluation.baselines import TrainingSet, fill_by_family, make_baseline, row_means
from thesis_rec.evaluation.study import LEVEL, Floats, Scores, Study, Z
from thesis_rec.knowledge.recommender import Recommender

logger = logging.getLogger(__name__)

#: Name of the method that every claim is about.
RECOMMENDER = "recommender"


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
        found["ensemble" if name == "both" else name] = Scores(score, value, value - Z * std, value + Z * std, seconds)
    selected = "ensemble" if recommender.selected == "both" else recommender.selected
    found[RECOMMENDER] = found[selected]
    return found


def where_measured(study: Study, recommender: Recommender, scores: Scores, noise_std: float) -> Scores:
    """The recommender's scores, on training datasets given the cells that were measured there.

    Args:
        study: The evaluation; withheld cells and unknown models stay unseen.
        recommender: The trained ranker.
        scores: What it says of datasets on which nothing was measured.
        noise_std: Of one measurement.
    """
    if scores.value is None or scores.low is None or scores.high is None:
        return scores
    errors = recommender.inputs.prior.errors(study.models)
    if errors is None:
        return scores
    score, value, low, high = (np.array(part) for part in (scores.score, scores.value, scores.low, scores.high))
    training = study.training_set()
    for column, values in zip(study.columns("train").tolist(), training.values.T, strict=True):
        seen = np.flatnonzero(np.isfinite(values))
        observed = {study.models.model_ids[row]: float(values[row]) for row in seen}
        found = recommender.predict_given(study.models, study.tasks[column], observed, noise_std, errors=errors)
        score[:, column], value[:, column] = found.score, found.value
        low[:, column], high[:, column] = found.value - Z * found.std, found.value + Z * found.std
    return Scores(score, value, low, high, scores.seconds)


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
    for quantile in ((1 - LEVEL) / 2, (1 + LEVEL) / 2):
        shift = [
            float(np.nanquantile(error, quantile)) if np.isfinite(error).any() else 0.0
            for error in (known_error, unknown_error)
        ]
        bounds.append(np.clip(score + np.where(training.known, shift[0], shift[1])[:, None], 0.0, 1.0))
    return bounds[0], bounds[1]
