"""How the recommender's errors go together, and what the cells that were measured say about those that weren't."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thesis_rec.evaluation.baselines import TrainingSet, row_means
from thesis_rec.evaluation.baselines.features import model_coordinates
from thesis_rec.evaluation.quadrants import training_mask
from thesis_rec.evaluation.study import Floats, Scores, Study
from thesis_rec.knowledge.active_probing import Fidelity
from thesis_rec.knowledge.landmark_prior import described, descriptor
from thesis_rec.knowledge.prior_fitting import fit_dataset_side
from thesis_rec.knowledge.residuals import fit_fidelity, rbf_kernel, residual_covariance
from thesis_rec.knowledge.static_prior import standardise
from thesis_rec.thesis.ranking_data import ModelTable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ErrorModel:
    """What earlier tasks say about a prediction's errors.

    Attributes:
        covariance: (M, M) between all models.
        noise_std: Of one linear probe on one draw of training images.
        fidelity: Of the cheap score, None where there is none.
        n_tasks: Tasks that it was estimated from.
        spread_error: Standard deviation of the logarithm of a new dataset's spread around its prediction.
    """

    covariance: Floats
    noise_std: float
    fidelity: Fidelity | None = None
    n_tasks: int = 0
    spread_error: float = 0.0


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
    study: Study,
    scores: Scores,
    cheap: Floats | None = None,
    relative: NDArray[np.float64] | None = None,
    spread_error: float = 0.0,
) -> ErrorModel:
    """Estimate how the recommender's errors on new datasets go together, from training and validation datasets only.

    The recommender's own errors are honest on validation datasets alone, of which there are few. How models err
    together is therefore what its prior knows from training datasets whose family was left out
    (:meth:`~thesis_rec.knowledge.landmark_prior.LandmarkPrior.errors`), in the units of a typical dataset; how far a
    whole dataset is over- or underestimated is taken from the validation datasets.

    Args:
        study: The evaluation.
        scores: The recommender's.
        cheap: (M, N) cheap scores.
        relative: (M, M) covariance of the prior's errors in standard deviations within a dataset; estimated from the
            study's own training datasets by default.
        spread_error: What is known of the errors of predicted spreads, see :class:`ErrorModel`.
    """
    known = study.split.known_models(study.models.model_ids)
    level = np.nan
    validation = study.columns("validation")
    if len(validation):
        errors = study.values[np.ix_(np.flatnonzero(known), validation)] - shaped_values(scores)[known][:, validation]
        mean = row_means(errors.T)
        level = float(np.nanstd(np.append(mean, -mean)))
    training = study.training_set()
    if relative is None:
        residuals = left_out_errors(training)
        covariance = residual_covariance(residuals, model_similarity(study.models, known), np.flatnonzero(known))
    else:
        values = training.values[:, np.isfinite(training.values).sum(axis=0) >= 2]
        covariance = relative * float(np.nanvar(values, axis=0).mean())
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
    return ErrorModel(covariance, noise, fidelity, len(training.dataset_ids), spread_error)


def left_out_errors(training: TrainingSet) -> NDArray[np.float64]:
    """(N, K) errors of the prior of K known models on each of N training datasets without its family.

    In units of accuracy, without the dataset's level; NaN where nothing was measured.
    """
    values = training.values[training.known].T.astype(np.float64)  # (N, K)
    measured = np.isfinite(values)
    standardised = standardise(values, measured)
    usable = [row for row, task in enumerate(training.tokens) if described(task)]
    rows = usable if len(usable) > 1 else list(range(len(values)))
    points = [descriptor(training.tokens[row]) if usable else np.zeros(1) for row in rows]
    families = [training.families()[row] for row in rows]
    _, expected, _ = fit_dataset_side(np.stack(points), standardised[rows], measured[rows], families)
    deviation = np.nanstd(np.where(measured, values, np.nan)[rows], axis=1, keepdims=True)
    return np.where(measured[rows], (standardised[rows] - expected) * deviation, np.nan)


def model_similarity(models: ModelTable, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(M, M) similarity of models: by their linear probes on the reference tasks, else by all that describes them."""
    if models.reference is not None and np.isfinite(models.reference).all():
        return rbf_kernel(models.reference)
    return rbf_kernel(model_coordinates(models, known))


def value_covariance(
    covariance: NDArray[np.float64], mean: Floats, std: Floats, spread_error: float = 0.0
) -> NDArray[np.float64]:
    """How the errors of predicted values go together on one dataset.

    Beside what earlier datasets say, the predicted spread between models may be too large or too small: a value is
    ``level + spread * score``, so that an error of the logarithm of the spread moves it by ``spread * score``. The
    first probes tell which it is, and what that means for models that are predicted far above or below them.

    Args:
        covariance: (M, M) of errors on earlier datasets.
        mean: (M,) predicted values.
        std: (M,) their standard deviations.
        spread_error: Standard deviation of the logarithm of the spread.

    Returns:
        (M, M).
    """
    centred = mean - mean.mean()
    return widened(covariance, std) + spread_error**2 * np.outer(centred, centred)


def widened(covariance: NDArray[np.float64], std: Floats) -> NDArray[np.float64]:
    """The covariance of errors on a dataset on which predictions have the standard deviations ``std`` (M,).

    Which models err together, and which more than others, stays as it was on earlier datasets; how much they all do
    is what is predicted of this one.
    """
    scale = float(np.square(std).mean()) / max(float(np.diagonal(covariance).mean()), 1e-12)
    return covariance * float(np.clip(scale, 0.25, 4.0))
