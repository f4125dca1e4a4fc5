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
from scipy.spatial.distance import pdist

from thesis_rec.base.tables import TaskTokens, z_scores
from thesis_rec.evaluation.baselines.base import (
    Baseline,
    Floats,
    dataset_space,
    model_coordinates,
    pooled,
    row_means,
    row_means_of_others,
)
from thesis_rec.evaluation.baselines.collaborative import mean_correlation
from thesis_rec.evaluation.study import Study
from thesis_rec.knowledge.kernels import Kernel, leave_groups_out


def _kernel(reference: Floats, width: float | None) -> Callable[[Floats], Floats]:
    """Similarity of points (m, F) with the reference (n, F): Gaussian, its width in medians, or linear without one."""
    if width is not None:
        gaps = pdist(reference, "sqeuclidean")
        positive = gaps[gaps > 1e-12]
        scale = width * (float(np.median(positive)) if len(positive) else 1.0)
        return Kernel(np.zeros(reference.shape[1]), np.ones(reference.shape[1]), reference.astype(np.float64), scale)
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
    """

    def __init__(
        self, widths: Sequence[float] = (), ridges: Sequence[float] = (0.01, 0.03, 0.1, 0.3, 1, 3, 10)
    ) -> None:
        self.widths, self.ridges = tuple(widths), tuple(ridges)

    def fit(self, training: Study) -> TwoStepRidge:
        """Choose kernels and penalties by leaving out families, then keep what prediction needs."""
        self._known = training.known
        self._column = {dataset: j for j, dataset in enumerate(training.dataset_ids)}
        z = z_scores(training.values)[training.known]
        self._space = dataset_space(training.tasks)
        points = self._space.transform(pooled(training.tasks))
        families = np.asarray(training.families)
        self._prior = np.nan_to_num(row_means(z))
        without = np.nan_to_num(row_means_of_others(z, families))
        present = np.isfinite(z)
        rest = np.where(present, z - without, 0.0)
        self._dataset_kernel, ridge = self._choose(
            points, rest.T, families, lambda found: mean_correlation(without + found.T, z)
        )
        gram = self._dataset_kernel(points)
        # Residuals from the prior, gaps filled by the smoother H = K (K + λI)⁻¹ itself.
        smoother = np.linalg.solve(gram + ridge * np.eye(len(gram)), gram).T
        rest = np.where(present, z - self._prior[:, None], 0.0)
        for _ in range(10):
            rest = np.where(present, rest, rest @ smoother.T)
        self._dual = np.linalg.solve(gram + ridge * np.eye(len(gram)), rest.T).T
        self._fitted = self._prior[:, None] + rest

        coordinates = model_coordinates(training.models, training.known)
        own, target = coordinates[training.known], self._fitted - self._fitted.mean(axis=0)
        names = np.asarray(training.models.families)[training.known]
        kernel, ridge = self._choose(own, target, names, lambda found: mean_correlation(found, target))
        # (unknown, known) weights of the known models' scores.
        inverse = np.linalg.inv(kernel(own) + ridge * np.eye(len(own)))
        self._weights = kernel(coordinates[~training.known]) @ inverse
        return self

    def predict(self, tasks: Sequence[TaskTokens]) -> Floats:
        """(M, n) predicted z-scores."""
        # (known, N) @ (N, n)
        known = self._prior[:, None] + self._dual @ self._dataset_kernel(self._space.transform(pooled(tasks))).T
        for i, task in enumerate(tasks):
            if task.dataset_id in self._column:
                known[:, i] = self._fitted[:, self._column[task.dataset_id]]
        scores = np.empty((len(self._known), len(tasks)))
        scores[self._known] = known
        scores[~self._known] = self._weights @ known
        return scores

    def _choose(
        self, points: Floats, target: Floats, groups: NDArray[np.str_], quality: Callable[[Floats], float]
    ) -> tuple[Callable[[Floats], Floats], float]:
        """Kernel and penalty whose predictions of groups left out are best; the strongest penalty where all are."""
        best, chosen = -np.inf, None
        for kernel in [_kernel(points, width) for width in self.widths or (None,)]:
            gram = kernel(points).astype(np.float64)
            for ridge in reversed(self.ridges):
                found = quality(leave_groups_out(gram, target.astype(np.float64), groups, ridge))
                if chosen is None or found > best:
                    best, chosen = found, (kernel, ridge)
        assert chosen is not None
        return chosen


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
