"""What every method says about every model on every dataset of a study."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

import numpy as np

from thesis_rec.evaluation.baselines import TrainingSet, fill_by_family, make_baseline, row_means, row_means_of_others
from thesis_rec.evaluation.study import LEVEL, Floats, Scores, Study, Z
from thesis_rec.knowledge.knowledge import Knowledge
from thesis_rec.knowledge.posterior import Cell
from thesis_rec.thesis.ranker import Ranker

logger = logging.getLogger(__name__)

#: Name of the method that every claim is about.
RECOMMENDER = "recommender"
#: The thesis's method.
NETWORK = "similarity_transformer"


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


def posterior_scores(study: Study, knowledge: Knowledge) -> Scores:
    """What a request is answered: the posterior of each dataset, given what was measured there and may be used."""
    allowed = study.allowed()
    score, value, low, high = (np.full(study.values.shape, np.nan) for _ in range(4))
    started = time.perf_counter()
    for column, task in enumerate(study.tasks):
        cells = [
            Cell(study.models.model_ids[row], float(study.values[row, column]), knowledge.noise)
            for row in np.flatnonzero(allowed[:, column])
        ]
        belief = knowledge.posterior(study.models, task, cells)
        score[:, column], value[:, column] = belief.mean, belief.value()
        low[:, column], high[:, column] = belief.interval(LEVEL)
    return Scores(score, value, low, high, (time.perf_counter() - started) / max(len(study.tasks), 1))


def network_scores(study: Study, ranker: Ranker) -> Scores:
    """The thesis's network; it doesn't read a dataset's own cells."""
    started = time.perf_counter()
    found = ranker.predict(study.models, study.tasks)
    seconds = (time.perf_counter() - started) / max(len(study.tasks), 1)
    score, value, std = (np.stack([getattr(p, part) for p in found], axis=1) for part in ("score", "value", "std"))
    return Scores(score, value, value - Z * std, value + Z * std, seconds)


def _static_bounds(training: TrainingSet, score: Floats) -> tuple[Floats, Floats]:
    """The static prior's 90 % interval: its value plus the quantiles of its errors on the training datasets.

    Errors are of predictions without the dataset's family. Known and unknown models have quantiles of their own; an
    unknown model's value is its family's mean, so its errors are those of left-out models' family means.
    """
    values = training.values
    known_error = values - row_means_of_others(values, np.asarray(training.families()))
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
