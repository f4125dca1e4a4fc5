"""Two-step pairwise ridge regression on model embeddings and pooled tokens, linear and with Gaussian kernels.

Two-step kernel ridge regression (Stock et al. 2018, "A comparative study of pairwise learning methods based on kernel
ridge regression") smooths the matrix of values over datasets with one kernel and over models with another. Both
penalties have closed-form leave-one-block-out errors, so they are chosen by leaving out whole dataset families and
whole model families of the training set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import TaskTokens
from thesis_rec.evaluation.baselines.base import (
    Baseline,
    DatasetSpace,
    Floats,
    TrainingSet,
    model_coordinates,
    row_means,
    row_means_of_others,
)
from thesis_rec.evaluation.baselines.collaborative import distances, mean_correlation
from thesis_rec.knowledge.kernels import Kernel, leave_groups_out


def _kernel(reference: Floats, width: float | None) -> Callable[[Floats], Floats]:
    """Similarity of points (m, F) with the reference (n, F): Gaussian, its width in medians, or linear without one."""
    if width is not None:
        gaps = distances(reference, reference) ** 2
        positive = gaps[gaps > 1e-12]
        scale = width * (float(np.median(positive)) if len(positive) else 1.0)
        points = reference.astype(np.float64)
        return Kernel(np.zeros(reference.shape[1]), np.ones(reference.shape[1]), points, scale)
    mean_square = max(float((reference**2).sum(axis=1).mean()), 1e-12)
    # The constant lets the regression have an intercept.
    return lambda points: points @ reference.T / mean_square + 1.0


class TwoStepRidge(Baseline):
    """Static prior plus an interaction smoothed over datasets; unknown models by regression on known ones.

    For a known model m and a new dataset d, score = mean z of m + sum over training datasets of w(d, j) (z[m, j] -
    mean z of m). An unknown model's score is a weighted sum of the known models' scores for the same dataset. Cells
    that miss are imputed by the model's own predictions, in a few rounds.

    Args:
        widths: Widths of the Gaussian kernels to choose among, in medians of the squared distance; empty for linear.
        ridges: Penalties to choose among.

    Attributes:
        left_out: (K, N) predicted z-scores of the known models on each training dataset, without its family.
    """

    def __init__(
        self, widths: Sequence[float] = (), ridges: Sequence[float] = (0.01, 0.03, 0.1, 0.3, 1, 3, 10)
    ) -> None:
        self.widths, self.ridges = tuple(widths), tuple(ridges)

    def fit(self, training: TrainingSet) -> TwoStepRidge:
        """Choose kernels and penalties by leaving out families, then keep what prediction needs."""
        self._known = training.known
        self._column = {dataset: j for j, dataset in enumerate(training.dataset_ids)}
        z = training.standardised()[training.known]
        self._space = DatasetSpace.fit(training.tokens)
        points = self._space.transform(training.tokens)
        families = np.asarray(training.families())
        self._prior = np.nan_to_num(row_means(z))
        without = np.nan_to_num(row_means_of_others(z, families))

        self._dataset_kernel, self._dataset_ridge = self._choose_dataset_side(z, without, points, families)
        gram = self._dataset_kernel(points)
        # Residuals from the prior, gaps filled by the smoother H = K (K + λI)⁻¹ itself.
        smoother = np.linalg.solve(gram + self._dataset_ridge * np.eye(len(gram)), gram).T
        present = np.isfinite(z)
        rest = np.where(present, z - self._prior[:, None], 0.0)
        for _ in range(10):
            rest = np.where(present, rest, rest @ smoother.T)
        self._dual = np.linalg.solve(gram + self._dataset_ridge * np.eye(len(gram)), rest.T).T
        self._fitted = self._prior[:, None] + rest

        coordinates = model_coordinates(training.models, training.known)
        self._weights = self._choose_model_side(coordinates, np.asarray(training.models.families)[training.known])
        return self

    def predict(self, tasks: Sequence[TaskTokens]) -> Floats:
        """(M, n) predicted z-scores."""
        known = np.empty((int(self._known.sum()), len(tasks)))
        if tasks:
            # (known, N) @ (N, n)
            known[:] = self._prior[:, None] + self._dual @ self._dataset_kernel(self._space.transform(tasks)).T
        for i, task in enumerate(tasks):
            if task.dataset_id in self._column:
                known[:, i] = self._fitted[:, self._column[task.dataset_id]]
        scores = np.empty((len(self._known), len(tasks)))
        scores[self._known] = known
        scores[~self._known] = self._weights @ known
        return scores

    def _kernels(self, reference: Floats) -> list[Callable[[Floats], Floats]]:
        return [_kernel(reference, width) for width in self.widths or (None,)]

    def _choose_dataset_side(
        self, z: Floats, without: Floats, points: Floats, families: NDArray[np.str_]
    ) -> tuple[Callable[[Floats], Floats], float]:
        rest = np.where(np.isfinite(z), z - without, 0.0)
        best, chosen = -np.inf, (self._kernels(points)[0], self.ridges[-1])
        self.left_out: Floats = without
        for kernel in self._kernels(points):
            gram = kernel(points).astype(np.float64)
            for ridge in self.ridges:
                left_out = leave_groups_out(gram, rest.T, families, ridge).T
                quality = mean_correlation(without + left_out, z)
                if quality > best:
                    best, chosen = quality, (kernel, ridge)
                    self.left_out = without + left_out
        return chosen

    def _choose_model_side(self, coordinates: Floats, families: NDArray[np.str_]) -> Floats:
        """(unknown, known) weights of the known models' scores."""
        known, unknown = coordinates[self._known], coordinates[~self._known]
        centre = self._fitted.mean(axis=0)
        target = self._fitted - centre
        best = -np.inf
        weights: Floats = np.zeros((len(unknown), len(known)))
        for kernel in self._kernels(known):
            gram = kernel(known).astype(np.float64)
            for ridge in self.ridges:
                left_out = leave_groups_out(gram, target, families, ridge)
                quality = mean_correlation(left_out, target)
                if quality > best and len(unknown):
                    best = quality
                    weights = np.linalg.solve(gram + ridge * np.eye(len(gram)), kernel(unknown).T).T
        return weights


class Ridge(TwoStepRidge):
    """:class:`TwoStepRidge` with linear kernels."""

    name = "ridge"

    def __init__(self) -> None:
        super().__init__(widths=(), ridges=(0.03, 0.1, 0.3, 1, 3, 10, 30))


class KernelRidge(TwoStepRidge):
    """:class:`TwoStepRidge` with Gaussian kernels."""

    name = "kernel_ridge"

    def __init__(self) -> None:
        super().__init__(widths=(0.3, 1.0, 3.0))
