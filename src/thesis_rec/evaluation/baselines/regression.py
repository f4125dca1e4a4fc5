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

from thesis_rec.base.tables import TaskTokens, z_scores
from thesis_rec.evaluation.baselines import base
from thesis_rec.evaluation.baselines.base import Floats, Scorer
from thesis_rec.evaluation.baselines.collaborative import mean_correlation
from thesis_rec.evaluation.study import Study
from thesis_rec.knowledge.kernels import Kernel, leave_groups_out


def _kernel(reference: Floats, width: float | None) -> Callable[[Floats], Floats]:
    """Similarity of points (m, F) with the reference (n, F): Gaussian, its width in medians, or linear without one."""
    if width is not None:
        return Kernel.of(reference, width)
    mean_square = max(float((reference**2).sum(axis=1).mean()), 1e-12)
    # The constant lets the regression have an intercept.
    return lambda points: points @ reference.T / mean_square + 1.0


def ridge(training: Study) -> Scorer:
    """:func:`two_step_ridge` with linear kernels."""
    return two_step_ridge(training, (None,), (0.03, 0.1, 0.3, 1, 3, 10, 30))


def kernel_ridge(training: Study) -> Scorer:
    """:func:`two_step_ridge` with Gaussian kernels."""
    return two_step_ridge(training, (0.3, 1.0, 3.0), (0.01, 0.03, 0.1, 0.3, 1, 3, 10))


def two_step_ridge(training: Study, widths: Sequence[float | None], ridges: Sequence[float]) -> Scorer:
    """Static prior plus an interaction smoothed over datasets; unknown models by regression on known ones.

    For a known model m and a new dataset d, score = mean z of m + sum over training datasets of w(d, j) (z[m, j] -
    mean z of m). An unknown model's score is a weighted sum of the known models' scores for the same dataset. Cells
    that miss are imputed by the model's own predictions, in a few rounds.

    Args:
        training: What is learned from.
        widths: Widths of the Gaussian kernels to choose among, in medians of the squared distance; None for linear.
        ridges: Penalties to choose among.
    """
    is_known = training.known
    z = z_scores(training.values)[is_known]
    space = base.dataset_space(training.tasks)
    points, families = space(training.tasks), np.asarray(training.families)
    prior = np.nan_to_num(base.row_means(z))[:, None]
    without = np.nan_to_num(base.row_means_of_others(z, families))
    present = np.isfinite(z)

    def choose(
        points: Floats, target: Floats, groups: NDArray[np.str_], quality: Callable[[Floats], float]
    ) -> tuple[Callable[[Floats], Floats], float]:
        """Kernel and penalty whose predictions of groups left out are best; the strongest penalty where all are."""
        found = []
        for width in widths:
            kernel = _kernel(points, width)
            gram = kernel(points).astype(np.float64)
            for strength in reversed(ridges):
                left_out = leave_groups_out(gram, target.astype(np.float64), groups, strength)
                found.append((quality(left_out), kernel, strength))
        return max(found, key=lambda choice: choice[0])[1:]

    rest = np.where(present, z - without, 0.0)
    dataset_kernel, strength = choose(points, rest.T, families, lambda found: mean_correlation(without + found.T, z))
    gram = dataset_kernel(points)
    regular = gram + strength * np.eye(len(gram))
    # Residuals from the prior, gaps filled by the smoother H = K (K + λI)⁻¹ itself.
    smoother = np.linalg.solve(regular, gram)
    rest = np.where(present, z - prior, 0.0)
    for _ in range(10):
        rest = np.where(present, rest, rest @ smoother)
    dual = np.linalg.solve(regular, rest.T).T
    fitted = prior + rest

    coordinates = base.model_coordinates(training.models, is_known)
    own, target = coordinates[is_known], fitted - fitted.mean(axis=0)
    names = np.asarray(training.models.families)[is_known]
    kernel, strength = choose(own, target, names, lambda found: mean_correlation(found, target))
    # (unknown, known) weights of the known models' scores.
    weights = kernel(coordinates[~is_known]) @ np.linalg.inv(kernel(own) + strength * np.eye(len(own)))

    def score(tasks: Sequence[TaskTokens]) -> Floats:
        # (known, N) @ (N, n)
        known = base.recognise(prior + dual @ dataset_kernel(space(tasks)).T, tasks, fitted, training)
        scores = np.empty((len(is_known), len(tasks)))
        scores[is_known], scores[~is_known] = known, weights @ known
        return scores

    return score
