"""What to expect of every model on a dataset before a network is asked: the static prior, corrected in closed form.

Two kernel regressions in a row (two-step kernel ridge regression; Stock et al., "A comparative study of pairwise
learning methods based on kernel ridge regression", Neural Computation, 2018):

1. **Datasets.** A measured model's standardised performance on a new dataset is its mean over the training datasets
   plus a smooth function of the dataset's landmarks (:mod:`thesis_rec.views.landmarks`).
2. **Models.** A model that was never measured does like the measured models whose linear probes on the *reference*
   tasks, and other responses to the reference bank, are like its own.

Widths and penalties are chosen by leaving out whole families, of datasets in the first step and of models in the
second. The same left-out predictions are what a network is trained on top of, and their errors say how far, and
together with which other models, the prior errs: once some models were measured on a dataset, that covariance says what
it means for the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.knowledge.kernels import Kernel, Values, single
from thesis_rec.knowledge.static_prior import StaticPrior

#: Share of the errors' covariance that follows from how alike models are, on top of what earlier datasets showed.
#: Between 0.2 and 0.6 it helps equally on training families of datasets and models that were left out.
SMOOTH_SHARE = 0.4


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
class ModelKernel:
    """Similarity of models: a weighted sum of kernels, each on one of the things known of a model that was run.

    Attributes:
        parts: Kernel and weight by field of :class:`~thesis_rec.base.tables.ModelTable`: ``reference`` for the
            linear probes on the reference tasks or ``subtasks`` for those on sub-tasks of them, ``responses`` for all
            other responses to the reference bank.
    """

    parts: Mapping[str, tuple[Kernel, float]]

    def __call__(self, models: ModelTable, rows: NDArray[np.integer]) -> Values:
        """(n, K) similarity of some models with the measured ones."""
        parts = [weight * kernel(getattr(models, name)[rows]) for name, (kernel, weight) in self.parts.items()]
        return np.asarray(np.sum(parts, axis=0))

    def among(self, models: ModelTable, rows: NDArray[np.integer]) -> Values:
        """(n, n) similarity of some models with each other."""
        parts = [weight * kernel.among(getattr(models, name)[rows]) for name, (kernel, weight) in self.parts.items()]
        return np.asarray(np.sum(parts, axis=0))

    @property
    def gram(self) -> Values:
        """(K, K) similarity of the measured models."""
        return np.asarray(np.sum([weight * kernel.gram for kernel, weight in self.parts.values()], axis=0))

    def answered(self, models: ModelTable) -> NDArray[np.bool_]:
        """(M,) which models have all that the kernel reads."""
        found = np.ones(len(models), dtype=bool)
        for name, (kernel, _) in self.parts.items():
            rows = getattr(models, name)
            if rows is None or rows.shape[1] != len(kernel.mean):
                return np.zeros(len(models), dtype=bool)
            found &= np.isfinite(rows).all(axis=1)
        return found

    def state(self) -> dict[str, Any]:
        """Plain values and arrays, for a checkpoint."""
        return {name: {**kernel.state(), "weight": weight} for name, (kernel, weight) in self.parts.items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ModelKernel:
        """Undo :meth:`state`; before format 3 there was one kernel, on the reference tasks."""
        parts = {"reference": state} if "points" in state else state
        return cls({name: (Kernel.from_state(part), float(part.get("weight", 1.0))) for name, part in parts.items()})


@dataclass(frozen=True)
class ModelSide:
    """How a model that was never measured follows from K measured ones.

    Attributes:
        kernel: Between models.
        dual: (K, K): weights of the measured models are ``kernel(models) @ dual``.
        left_out: (K, K) weights that measured models would have, had nothing of their family been measured.
        variance: Mean squared error of left-out models, given all others on the same dataset.
    """

    kernel: ModelKernel
    dual: Values
    left_out: Values
    variance: float


@dataclass(frozen=True)
class ErrorSide:
    """What models that are very much alike have in common in their errors, measured or not.

    Attributes:
        kernel: Between models; its weights are shares of the correlation of two models that are the same.
        common: Correlation of any two models.
        variance: Mean variance.
    """

    kernel: ModelKernel
    common: float
    variance: float

    def __call__(self, models: ModelTable) -> Values:
        """(M, M) covariance; models without responses share nothing but what is common."""
        found = np.zeros((len(models),) * 2)
        rows = np.flatnonzero(self.kernel.answered(models))
        if len(rows):
            found[np.ix_(rows, rows)] = self.kernel.among(models, rows)
        found += self.common
        np.fill_diagonal(found, 1.0)
        return self.variance * found


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
        alike: What models that are alike have in common in their errors; None without responses.
        levels: How hard datasets are; None without enough of them with landmarks.
    """

    static: StaticPrior
    measured: list[str] = field(default_factory=list)
    datasets: DatasetSide | None = None
    models: ModelSide | None = None
    covariance: Values | None = None
    levels: LevelSide | None = None
    alike: ErrorSide | None = None

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
        if self.models is None:
            return weights, np.zeros(len(models), dtype=bool)
        column = {model: i for i, model in enumerate(self.measured)}
        has = self.models.kernel.answered(models)
        if has.any():
            weights[has] = self.models.kernel(models, np.flatnonzero(has)) @ self.models.dual
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
        if self.alike is not None:
            out = (1 - SMOOTH_SHARE) * out + SMOOTH_SHARE * self.alike.variance
        return np.asarray(out)

    @property
    def spread_error(self) -> float:
        """Standard deviation of the logarithm of a new dataset's spread around its prediction; 0 where none is made."""
        return 0.0 if self.levels is None else float(self.levels.error[1])

    def errors(self, models: ModelTable) -> Values | None:
        """How the prior's errors on a new dataset go together.

        A model that was never measured errs with those it is derived from, and on its own; models that are very much
        alike err alike.

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
        rows = np.flatnonzero(has & (own > 0))
        if self.models is not None and len(rows):
            # Derived models that are alike err alike: what the kernel leaves open between them.
            across = self.models.kernel(models, rows)
            rest = self.models.kernel.among(models, rows) - across @ self.models.dual @ across.T
            scale = np.sqrt(self.models.variance / np.maximum(np.diagonal(rest), 1e-6))
            covariance[np.ix_(rows, rows)] += rest * scale[:, None] * scale[None]
            own[rows] = 0.0
        covariance += np.diag(own)
        if self.alike is not None:
            covariance = (1 - SMOOTH_SHARE) * covariance + SMOOTH_SHARE * self.alike(models)
        return covariance

    def state(self) -> dict[str, Any]:
        """Plain values and arrays, for a checkpoint."""
        return {
            "static": self.static.state(),
            "measured": list(self.measured),
            "datasets": self.datasets and {"kernel": self.datasets.kernel.state(), "dual": single(self.datasets.dual)},
            "models": self.models
            and {
                "kernel": self.models.kernel.state(),
                "dual": single(self.models.dual),
                "left_out": single(self.models.left_out),
                "variance": self.models.variance,
            },
            "covariance": None if self.covariance is None else single(self.covariance),
            "levels": self.levels
            and {
                "kernel": self.levels.kernel.state(),
                "dual": single(self.levels.dual),
                "mean": single(self.levels.mean),
                "error": single(self.levels.error),
            },
            "alike": self.alike
            and {
                "kernel": self.alike.kernel.state(),
                "common": self.alike.common,
                "variance": self.alike.variance,
            },
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> LandmarkPrior:
        """Undo :meth:`state`."""

        def array(value: Any) -> Values:
            return np.asarray(value, dtype=np.float64)

        datasets, models, levels, alike = (state.get(key) for key in ("datasets", "models", "levels", "alike"))
        return cls(
            StaticPrior.from_state(state["static"]),
            list(state["measured"]),
            datasets and DatasetSide(Kernel.from_state(datasets["kernel"]), array(datasets["dual"])),
            models
            and ModelSide(
                ModelKernel.from_state(models["kernel"]),
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
            alike
            and ErrorSide(ModelKernel.from_state(alike["kernel"]), float(alike["common"]), float(alike["variance"])),
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
