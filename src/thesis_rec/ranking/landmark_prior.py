"""What to expect of every model on a dataset before a network is asked: the static prior, corrected in closed form.

Two kernel regressions in a row (two-step kernel ridge regression; Stock et al., "A comparative study of pairwise
learning methods based on kernel ridge regression", Neural Computation, 2018):

1. **Datasets.** A measured model's standardised performance on a new dataset is its mean over the training datasets
   plus a smooth function of the dataset's landmarks (:mod:`thesis_rec.encoders.landmarks`).
2. **Models.** A model that was never measured does like the measured models whose linear probes on the *reference*
   tasks are like its own.

Widths and penalties are chosen by leaving out whole families, of datasets in the first step and of models in the
second. The same left-out predictions are what a network is trained on top of, and their errors say how far, and
together with which other models, the prior errs: once some models were measured on a dataset, that covariance says what
it means for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.ranking.data import ModelTable, TaskTokens
from thesis_rec.ranking.priors import StaticPrior

Values = NDArray[np.float64]

WIDTHS = (1.0, 3.0, 10.0)
RIDGES = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0)
#: Fewer training datasets with landmarks, or families of them, can't be regressed on.
LEAST_TASKS, LEAST_FAMILIES = 8, 3
_ROUNDS = 3
#: Smallest standard deviation of performance within a dataset that counts: below it, differences are noise.
FLOOR = 0.02
#: Share of the errors' covariance that is taken from its smooth target. Between 0.2 and 0.4 makes no difference to
#: cells that are predicted from others of the same dataset, on training families that were left out.
SHRINKAGE = 0.4
#: Sub-tasks of one task say much the same: weight of one beside a base task in the errors' covariance.
SUBTASK_WEIGHT = 0.3


@dataclass(frozen=True)
class Kernel:
    """A Gaussian kernel between rows and reference points, both standardised by the reference.

    Attributes:
        mean: (F,) of the reference.
        scale: (F,) standard deviations of the reference.
        points: (N, F) standardised reference points.
        width: Squared distance at which similarity falls to 1/e.
    """

    mean: Values
    scale: Values
    points: Values
    width: float

    @classmethod
    def fit(cls, rows: NDArray[np.floating], relative_width: float = 1.0) -> Kernel:
        """Fit to (N, F) rows; the width is in medians of their squared distance."""
        rows = np.asarray(rows, dtype=np.float64)
        mean, scale = rows.mean(0), np.maximum(rows.std(0), 1e-6)
        points = (rows - mean) / scale
        gaps = _squared_distances(points, points)
        positive = gaps[gaps > 1e-9]
        return cls(mean, scale, points, relative_width * (float(np.median(positive)) if len(positive) else 1.0))

    def __call__(self, rows: NDArray[np.floating]) -> Values:
        """(n, F) rows to their (n, N) similarity with the reference."""
        similarity: Values = np.exp(-_squared_distances((rows - self.mean) / self.scale, self.points) / self.width)
        return similarity

    @property
    def gram(self) -> Values:
        """(N, N) similarity of the reference points."""
        gram: Values = np.exp(-_squared_distances(self.points, self.points) / self.width)
        return gram

    def state(self) -> dict[str, Any]:
        """Plain values and arrays, for a checkpoint."""
        return {
            "mean": _single(self.mean),
            "scale": _single(self.scale),
            "points": _single(self.points),
            "width": self.width,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Kernel:
        """Undo :meth:`state`."""
        mean, scale, points = (np.asarray(state[name], dtype=np.float64) for name in ("mean", "scale", "points"))
        return cls(mean, scale, points, float(state["width"]))


@dataclass(frozen=True)
class DatasetSide:
    """Correction of the static prior by a dataset's landmarks.

    Attributes:
        kernel: Between landmarks.
        dual: (N, K) coefficients: the correction of K models is ``kernel(landmarks) @ dual``.
    """

    kernel: Kernel
    dual: Values


@dataclass(frozen=True)
class ModelSide:
    """How a model that was never measured follows from K measured ones.

    Attributes:
        kernel: Between responses on the reference tasks.
        dual: (K, K): weights of the measured models are ``kernel(responses) @ dual``.
        left_out: (K, K) weights that measured models would have, had nothing of their family been measured.
        variance: Mean squared error of left-out models, given all others on the same dataset.
    """

    kernel: Kernel
    dual: Values
    left_out: Values
    variance: float


@dataclass(frozen=True)
class LevelSide:
    """How hard a dataset is: mean and spread of the models' performance on it.

    Attributes:
        kernel: Between datasets' landmarks and numbers of classes.
        dual: (N, 2) coefficients for the mean and the logarithm of the standard deviation.
        mean: (2,) what is expected of a dataset that resembles none.
        error: (2,) root mean squared errors on datasets of families that were left out.
    """

    kernel: Kernel
    dual: Values
    mean: Values
    error: Values

    def __call__(self, tasks: Sequence[TaskTokens]) -> tuple[Values, Values]:
        """Mean (n,) and standard deviation (n,) of performance on datasets that have landmarks."""
        found = self.mean + self.kernel(np.stack([level_descriptor(task) for task in tasks])) @ self.dual
        return found[:, 0], np.exp(found[:, 1])


@dataclass(frozen=True)
class LandmarkPrior:
    """Expected standardised performance of any model on any dataset.

    Attributes:
        static: Means over datasets; all there is for a dataset without landmarks, and for a model that was neither
            measured nor run on the reference tasks.
        measured: Ids of the K measured models, in the order of the regressions' columns.
        datasets: First step; None without enough datasets with landmarks.
        models: Second step; None without responses.
        covariance: (K, K) of the errors on datasets of families that were left out; None where it wasn't estimated.
        levels: How hard datasets are; None without enough of them with landmarks.
    """

    static: StaticPrior
    measured: list[str] = field(default_factory=list)
    datasets: DatasetSide | None = None
    models: ModelSide | None = None
    covariance: Values | None = None
    levels: LevelSide | None = None

    def __call__(self, models: ModelTable, tasks: Sequence[TaskTokens], hidden: bool = False) -> Values:
        """Priors of M models on n datasets.

        Args:
            models: The models.
            tasks: The datasets.
            hidden: Whether every model is treated as if nothing of its family had been measured.

        Returns:
            (n, M) in standard deviations within a dataset.
        """
        expected = self.of_measured(tasks)
        return self.carried_over(expected, models, hidden)

    def of_measured(self, tasks: Sequence[TaskTokens]) -> Values:
        """(n, K) priors of the measured models."""
        static = np.array([self.static.models.get(model, 0.0) for model in self.measured])
        out = np.broadcast_to(static, (len(tasks), len(static))).copy()
        if self.datasets is not None:
            rows = [row for row, task in enumerate(tasks) if described(task)]
            if rows:
                points = np.stack([descriptor(tasks[row]) for row in rows])
                out[rows] += self.datasets.kernel(points) @ self.datasets.dual
        return out

    def carried_over(self, expected: Values, models: ModelTable, hidden: bool = False) -> Values:
        """(n, K) values of the measured models to (n, M) of any models."""
        column = {model: i for i, model in enumerate(self.measured)}
        static = (
            self.static.hidden(models.model_ids, models.families)
            if hidden
            else self.static(models.model_ids, models.families)
        )
        out = np.broadcast_to(static, (len(expected), len(models))).copy()
        weights, has = self.weights(models, hidden)
        if has.any():
            centre = expected.mean(1, keepdims=True)
            out[:, has] = centre + (expected - centre) @ weights[has].T
        if not hidden:
            own = [i for i, model in enumerate(models.model_ids) if model in column]
            out[:, own] = expected[:, [column[models.model_ids[i]] for i in own]]
        return out

    def weights(self, models: ModelTable, hidden: bool = False) -> tuple[Values, NDArray[np.bool_]]:
        """(M, K) weights of the measured models in each model, and (M,) which models have any."""
        weights = np.zeros((len(models), len(self.measured)))
        has = np.zeros(len(models), dtype=bool)
        if self.models is None or models.reference is None:
            return weights, has
        column = {model: i for i, model in enumerate(self.measured)}
        has = np.asarray(np.isfinite(models.reference).all(axis=1))
        if models.reference.shape[1] != len(self.models.kernel.mean):
            return weights, np.zeros(len(models), dtype=bool)
        weights[has] = self.models.kernel(models.reference[has]) @ self.models.dual
        if hidden:
            for row, model in enumerate(models.model_ids):
                if model in column:
                    weights[row], has[row] = self.models.left_out[column[model]], True
        return weights, has

    def variances(self, models: ModelTable) -> Values:
        """(M,) the diagonal of :meth:`errors`, for any number of models."""
        assert self.covariance is not None
        column = {model: i for i, model in enumerate(self.measured)}
        weights, has = self.weights(models)
        derived = np.einsum("mk,kl,ml->m", weights, self.covariance, weights, optimize=True)
        typical = float(np.diagonal(self.covariance).mean())
        out = np.where(has, derived + (self.models.variance if self.models else 0.0), typical)
        for row, model in enumerate(models.model_ids):
            if model in column:
                out[row] = self.covariance[column[model], column[model]]
        return np.asarray(out)

    def errors(self, models: ModelTable) -> Values | None:
        """How the prior's errors on a new dataset go together.

        A model that was never measured errs with those it is derived from, and on its own.

        Args:
            models: The models.

        Returns:
            (M, M) covariance in squared standard deviations within a dataset; None where it wasn't estimated.
        """
        if self.covariance is None:
            return None
        column = {model: i for i, model in enumerate(self.measured)}
        weights, has = self.weights(models)
        typical = float(np.diagonal(self.covariance).mean())
        own = np.where(has, self.models.variance if self.models else 0.0, typical)
        for row, model in enumerate(models.model_ids):
            if model in column:
                weights[row], own[row] = np.eye(len(self.measured))[column[model]], 0.0
        covariance = weights @ self.covariance @ weights.T
        if self.models is not None and has.any() and models.reference is not None:
            # Derived models that are alike err alike: what the kernel leaves open between them.
            rows = np.flatnonzero(has & (own > 0))
            across = self.models.kernel(models.reference[rows])
            among = Kernel(
                self.models.kernel.mean,
                self.models.kernel.scale,
                _standard(self.models.kernel, models.reference[rows]),
                self.models.kernel.width,
            ).gram
            rest = among - across @ self.models.dual @ across.T
            scale = np.sqrt(self.models.variance / np.maximum(np.diagonal(rest), 1e-6))
            covariance[np.ix_(rows, rows)] += rest * scale[:, None] * scale[None]
            own[rows] = 0.0
        return covariance + np.diag(own)

    def state(self) -> dict[str, Any]:
        """Plain values and arrays, for a checkpoint."""
        return {
            "static": self.static.state(),
            "measured": list(self.measured),
            "datasets": self.datasets and {"kernel": self.datasets.kernel.state(), "dual": _single(self.datasets.dual)},
            "models": self.models
            and {
                "kernel": self.models.kernel.state(),
                "dual": _single(self.models.dual),
                "left_out": _single(self.models.left_out),
                "variance": self.models.variance,
            },
            "covariance": None if self.covariance is None else _single(self.covariance),
            "levels": self.levels
            and {
                "kernel": self.levels.kernel.state(),
                "dual": _single(self.levels.dual),
                "mean": _single(self.levels.mean),
                "error": _single(self.levels.error),
            },
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> LandmarkPrior:
        """Undo :meth:`state`."""

        def array(value: Any) -> Values:
            return np.asarray(value, dtype=np.float64)

        datasets, models, levels = state["datasets"], state["models"], state["levels"]
        return cls(
            StaticPrior.from_state(state["static"]),
            list(state["measured"]),
            datasets and DatasetSide(Kernel.from_state(datasets["kernel"]), array(datasets["dual"])),
            models
            and ModelSide(
                Kernel.from_state(models["kernel"]),
                array(models["dual"]),
                array(models["left_out"]),
                float(models["variance"]),
            ),
            None if state["covariance"] is None else array(state["covariance"]),
            levels
            and LevelSide(
                Kernel.from_state(levels["kernel"]),
                array(levels["dual"]),
                array(levels["mean"]),
                array(levels["error"]),
            ),
        )


def described(task: TaskTokens) -> bool:
    """Whether a dataset has landmarks."""
    return task.landmarks is not None and bool(np.isfinite(task.landmarks).all())


def descriptor(task: TaskTokens) -> Values:
    """(L,) landmarks relative to each other: how hard a dataset is says little about which models are good at it."""
    assert task.landmarks is not None
    landmarks = np.asarray(task.landmarks, dtype=np.float64)
    return landmarks - landmarks.mean()


def level_descriptor(task: TaskTokens) -> Values:
    """(L + 1,) landmarks as they are, and the logarithm of the number of classes."""
    assert task.landmarks is not None
    return np.append(np.asarray(task.landmarks, dtype=np.float64), np.log2(max(len(task.class_names), 1)))


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
    left_out = _means_of_others(filled, names)
    each = np.arange(len(points)).astype(str)
    if len(points) < LEAST_TASKS or len(set(families)) < LEAST_FAMILIES:
        return None, left_out, _means_of_others(filled, each)
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
        return None, left_out, _means_of_others(filled, each)
    kernel, ridge = chosen
    for _ in range(_ROUNDS):
        # Gaps are filled by what the regression says of them, so that they don't pull towards the mean.
        filled = np.where(measured, values, left_out)
        left_out = leave_groups_out(kernel.gram, filled, names, ridge, centre=True)
    dual = np.linalg.solve(kernel.gram + ridge * np.eye(len(points)), filled - mean)
    return DatasetSide(kernel, dual), left_out, leave_groups_out(kernel.gram, filled, each, ridge, centre=True)


def fit_model_side(reference: NDArray[np.floating], values: Values, families: Sequence[str]) -> ModelSide | None:
    """Fit the second step.

    Args:
        reference: (K, R) linear-probe accuracies of the measured models on the reference tasks.
        values: (N, K) their standardised performance, gaps filled.
        families: K architecture families.

    Returns:
        The regression, or None where it can't be fitted.
    """
    names = np.asarray(families)
    if not np.isfinite(reference).all() or len(reference) < LEAST_TASKS or len(set(families)) < 2:
        return None
    target = (values - values.mean(1, keepdims=True)).T  # (K, N)
    best, chosen = np.inf, (Kernel.fit(reference, WIDTHS[-1]), RIDGES[-1])
    for width in WIDTHS:
        kernel = Kernel.fit(reference, width)
        for ridge in RIDGES:
            error = float(np.square(leave_groups_out(kernel.gram, target, names, ridge) - target).sum())
            if error < best:
                best, chosen = error, (kernel, ridge)
    kernel, ridge = chosen
    return ModelSide(
        kernel,
        np.asarray(np.linalg.inv(kernel.gram + ridge * np.eye(len(names))), dtype=np.float64),
        leave_groups_out(kernel.gram, np.eye(len(names)), names, ridge),
        best / target.size,
    )


def error_covariance(errors: Values, weight: NDArray[np.floating]) -> Values:
    """Covariance of the prior's errors between models, shrunk towards equal variances and correlations.

    Args:
        errors: (T, K) truth minus prior on tasks that were left out, NaN where not measured.
        weight: (T,) weight of each task.

    Returns:
        (K, K), positive definite.
    """
    present = np.isfinite(errors)
    filled = np.where(present, errors, 0.0)
    # A product counts where both are there; a few missing cells must not shrink what the others say.
    count = np.maximum((present * weight[:, None]).T @ present.astype(np.float64), 1e-9)
    sample = (filled * weight[:, None]).T @ filled / count
    size = len(sample)
    variance = float(np.diagonal(sample).mean())
    common = float(
        np.clip((sample.sum() - np.trace(sample)) / max(size * (size - 1), 1) / max(variance, 1e-12), 0, 0.9)
    )
    target = variance * ((1 - common) * np.eye(size) + common)
    values, vectors = np.linalg.eigh((1 - SHRINKAGE) * sample + SHRINKAGE * target)
    return np.asarray((vectors * np.maximum(values, 1e-3 * variance)) @ vectors.T)


def leave_groups_out(
    gram: Values, target: Values, groups: NDArray[np.str_], ridge: float, *, centre: bool = False
) -> Values:
    """Kernel ridge predictions of every row without its group.

    Args:
        gram: (N, N) kernel.
        target: (N, K) values.
        groups: N groups.
        ridge: Penalty.
        centre: Whether the mean of the other groups is taken as given and only deviations from it are penalised.

    Returns:
        (N, K) predictions; zeros for a group that is all there is.
    """
    out = np.zeros(target.shape)
    for group in np.unique(groups):
        held = groups == group
        rest = ~held
        if rest.any():
            mean = target[rest].mean(0) if centre else 0.0
            system = gram[np.ix_(rest, rest)] + ridge * np.eye(int(rest.sum()))
            out[held] = mean + gram[np.ix_(held, rest)] @ np.linalg.solve(system, target[rest] - mean)
    return out


def _means_of_others(values: Values, groups: NDArray[np.str_]) -> Values:
    """(N, K) mean over all rows of other groups; zeros for a group that is all there is."""
    out = np.zeros(values.shape)
    for group in np.unique(groups):
        held = groups == group
        if not held.all():
            out[held] = values[~held].mean(0)
    return out


def _standard(kernel: Kernel, rows: NDArray[np.floating]) -> Values:
    return np.asarray((rows - kernel.mean) / kernel.scale)


def _single(array: Values) -> NDArray[np.float32]:
    return array.astype(np.float32)


def _squared_distances(rows: Values, points: Values) -> Values:
    squared = np.square(rows).sum(1)[:, None] + np.square(points).sum(1)[None] - 2.0 * rows @ points.T
    return np.asarray(np.maximum(squared, 0.0))
