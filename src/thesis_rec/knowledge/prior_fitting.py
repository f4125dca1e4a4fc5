"""Fitting the prior: both regressions, how hard datasets are, and how the errors of models go together.

Widths and penalties are chosen by leaving out whole families.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import ModelTable
from thesis_rec.knowledge.kernels import Kernel, Values, leave_groups_out, means_of_others
from thesis_rec.knowledge.landmark_prior import DatasetSide, ErrorSide, LevelSide, ModelKernel, ModelSide
from thesis_rec.knowledge.static_prior import FLOOR

WIDTHS = (1.0, 3.0, 10.0)
RIDGES = (0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0)
#: Widths between models, and weights of all responses beside the linear probes on the reference tasks.
MODEL_WIDTHS = (3.0, 10.0, 30.0)
RESPONSE_WEIGHTS = (0.0, 0.1, 0.3)
#: Width within which models count as very much alike.
ALIKE_WIDTH = 0.3
#: Fewer training datasets with landmarks, or families of them, can't be regressed on.
LEAST_TASKS, LEAST_FAMILIES = 8, 3
_ROUNDS = 3
#: Share of the errors' covariance that is taken from its smooth target. Between 0.2 and 0.4 makes no difference to
#: cells that are predicted from others of the same dataset, on training families that were left out.
SHRINKAGE = 0.4
#: Sub-tasks of one task say much the same: weight of one beside a base task in the errors' covariance.
SUBTASK_WEIGHT = 0.3


def fit_dataset_side(
    points: NDArray[np.floating], values: Values, measured: NDArray[np.bool_], families: Sequence[str]
) -> tuple[DatasetSide | None, Values, Values]:
    """Fit the first step.

    Args:
        points: (N, L) descriptors of training datasets.
        values: (N, K) standardised performance.
        measured: (N, K) which of these count.
        families: N families of the datasets.

    Returns:
        The regression, or None where it doesn't help, and (N, K) what is expected of every dataset without its family:
        means over the other families, corrected by the regression if there is one; and the same with nothing but the
        dataset itself left out, its siblings being there.
    """
    names = np.asarray(families)
    count = np.maximum(measured.sum(0), 1)
    mean = np.where(measured, values, 0.0).sum(0) / count
    filled = np.where(measured, values, mean)
    left_out = means_of_others(filled, names)
    each = np.arange(len(points)).astype(str)
    if len(points) < LEAST_TASKS or len(set(families)) < LEAST_FAMILIES:
        return None, left_out, means_of_others(filled, each)
    best = float(np.square(np.where(measured, values - left_out, 0.0)).sum())
    chosen = None
    for width in WIDTHS:
        kernel = Kernel.fit(points, width)
        for ridge in RIDGES:
            found = leave_groups_out(kernel.gram, filled, names, ridge, centre=True)
            error = float(np.square(np.where(measured, values - found, 0.0)).sum())
            if error < best:
                best, chosen, left_out = error, (kernel, ridge), found
    if chosen is None:
        return None, left_out, means_of_others(filled, each)
    kernel, ridge = chosen
    for _ in range(_ROUNDS):
        # Gaps are filled by what the regression says of them, so that they don't pull towards the mean.
        filled = np.where(measured, values, left_out)
        left_out = leave_groups_out(kernel.gram, filled, names, ridge, centre=True)
    dual = np.linalg.solve(kernel.gram + ridge * np.eye(len(points)), filled - mean)
    return DatasetSide(kernel, dual), left_out, leave_groups_out(kernel.gram, filled, each, ridge, centre=True)


def fit_model_side(models: ModelTable, values: Values) -> ModelSide | None:
    """Fit the second step.

    Args:
        models: The K measured models.
        values: (N, K) their standardised performance, gaps filled.

    Returns:
        The regression, or None where it can't be fitted.
    """
    names = np.asarray(models.families)
    if not _all_answered(models) or len(set(models.families)) < 2:
        return None
    target = (values - values.mean(1, keepdims=True)).T  # (K, N)
    best, chosen = np.inf, None
    for width in MODEL_WIDTHS:
        kernels = _kernels(models, width)
        for weight in RESPONSE_WEIGHTS if "responses" in kernels else (0.0,):
            weights = {_probed(models): 1.0, "responses": weight}
            kernel = ModelKernel({name: (part, weights[name]) for name, part in kernels.items() if weights[name] > 0})
            gram = kernel.gram
            for ridge in RIDGES:
                error = float(np.square(leave_groups_out(gram, target, names, ridge) - target).sum())
                if error < best:
                    best, chosen = error, (kernel, ridge)
    assert chosen is not None
    kernel, ridge = chosen
    gram = kernel.gram
    return ModelSide(
        kernel,
        np.asarray(np.linalg.inv(gram + ridge * np.eye(len(names))), dtype=np.float64),
        leave_groups_out(gram, np.eye(len(names)), names, ridge),
        best / target.size,
    )


def fit_error_side(models: ModelTable, moment: Values) -> ErrorSide | None:
    """Regress the correlation of models' errors on how alike they are.

    Args:
        models: The K measured models.
        moment: (K, K) from :func:`error_moment`.

    Returns:
        Non-negative weights of a common part and of the kernels; None where models' responses aren't known.
    """
    from scipy.optimize import nnls

    if not _all_answered(models):
        return None
    kernels = _kernels(models, ALIKE_WIDTH)
    variance = float(np.diagonal(moment).mean())
    pairs = ~np.eye(len(models), dtype=bool)
    columns = [np.ones(int(pairs.sum())), *(kernel.gram[pairs] for kernel in kernels.values())]
    (common, *weights), _ = nnls(np.stack(columns, axis=1), moment[pairs] / max(variance, 1e-12))
    # Beyond one, a model would have less than no error of its own.
    scale = min(1.0, 0.98 / max(float(common + sum(weights)), 1e-12))
    parts = {name: (kernel, float(scale * w)) for (name, kernel), w in zip(kernels.items(), weights, strict=True)}
    return ErrorSide(ModelKernel(parts), float(scale * common), variance)


def _all_answered(models: ModelTable) -> bool:
    """Whether there are enough models, all with linear probes on the reference tasks."""
    return len(models) >= LEAST_TASKS and models.reference is not None and bool(np.isfinite(models.reference).all())


def _kernels(models: ModelTable, width: float) -> dict[str, Kernel]:
    """A kernel on each of the things that are known of all models."""
    found = {}
    for name in (_probed(models), "responses"):
        rows = getattr(models, name)
        if rows is not None and np.isfinite(rows).all():
            found[name] = Kernel.fit(rows, width)
    return found


def _probed(models: ModelTable) -> str:
    """The linear probes that say most: those on sub-tasks of the reference tasks, where all models have them."""
    return "subtasks" if models.subtasks is not None and np.isfinite(models.subtasks).all() else "reference"


def fit_level_side(points: NDArray[np.floating], values: Values, families: Sequence[str]) -> LevelSide | None:
    """Regress mean and spread of the models' performance on what describes a dataset.

    Args:
        points: (N, L + 1) of :func:`level_descriptor`.
        values: (N, K) performance, NaN where not measured.
        families: N families of the datasets.

    Returns:
        The regression, or None with too few datasets or families.
    """
    if len(points) < LEAST_TASKS or len(set(families)) < LEAST_FAMILIES:
        return None
    names = np.asarray(families)
    target = np.stack([np.nanmean(values, axis=1), np.log(np.maximum(np.nanstd(values, axis=1), FLOOR))], axis=1)
    scale = np.maximum(target.std(0), 1e-6)
    best, chosen, error = np.inf, None, target.std(0)
    for width in WIDTHS:
        kernel = Kernel.fit(points, width)
        for ridge in RIDGES:
            rest = target - leave_groups_out(kernel.gram, target, names, ridge, centre=True)
            found = float(np.square(rest / scale).sum())
            if found < best:
                best, chosen, error = found, (kernel, ridge), np.sqrt(np.square(rest).mean(0))
    assert chosen is not None
    kernel, ridge = chosen
    mean = target.mean(0)
    return LevelSide(kernel, np.linalg.solve(kernel.gram + ridge * np.eye(len(points)), target - mean), mean, error)


def error_moment(errors: Values, weight: NDArray[np.floating]) -> Values:
    """Mean product of the prior's errors, model by model.

    Args:
        errors: (T, K) truth minus prior on tasks that were left out, NaN where not measured.
        weight: (T,) weight of each task.

    Returns:
        (K, K), symmetric; as noisy as the tasks are few.
    """
    present = np.isfinite(errors)
    filled = np.where(present, errors, 0.0)
    # A product counts where both are there; a few missing cells must not shrink what the others say.
    count = np.maximum((present * weight[:, None]).T @ present.astype(np.float64), 1e-9)
    return np.asarray((filled * weight[:, None]).T @ filled / count)


def error_covariance(moment: Values) -> Values:
    """Covariance of the prior's errors between models, shrunk towards equal variances and correlations.

    Args:
        moment: (K, K) from :func:`error_moment`.

    Returns:
        (K, K), positive definite.
    """
    size = len(moment)
    variance = float(np.diagonal(moment).mean())
    common = float(
        np.clip((moment.sum() - np.trace(moment)) / max(size * (size - 1), 1) / max(variance, 1e-12), 0, 0.9)
    )
    target = variance * ((1 - common) * np.eye(size) + common)
    values, vectors = np.linalg.eigh((1 - SHRINKAGE) * moment + SHRINKAGE * target)
    return np.asarray((vectors * np.maximum(values, 1e-3 * variance)) @ vectors.T)
