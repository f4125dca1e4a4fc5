"""What many models have in common over many tasks: mean, factor and own variances from values with gaps.

Factor analysis (Rubin & Thayer, "EM algorithms for ML factor analysis", 1982) of a table of T tasks by K models in
which any cell may be missing and any may have an error of its own. Loadings are shrunk towards zero, own variances
towards what all models share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from thesis_rec.base.settings import Settings
from thesis_rec.knowledge.kernels import Floats

#: Own variance below which a model would count as known without any measurement.
_FLOOR = 1e-3


class Shrinkage(Settings):
    """How strongly a covariance is held towards a simple one.

    Attributes:
        rank: Number of factors.
        loadings: Tasks' worth of evidence that a loading is zero.
        own: Tasks' worth of evidence that a model's own variance is the common one.
        mean: Tasks' worth of evidence that a model's mean is 0.
    """

    rank: int = Field(default=4, ge=1)
    loadings: float = Field(default=1.0, ge=0)
    own: float = Field(default=10.0, ge=0)
    mean: float = Field(default=0.3, ge=0)


@dataclass(frozen=True)
class Covariance:
    """K models over tasks: ``z = mean + factor @ w + sqrt(own) * e`` with standard normal ``w`` and ``e``.

    Attributes:
        mean: (K,).
        factor: (K, R).
        own: (K,) variances.
    """

    mean: Floats
    factor: Floats
    own: Floats

    def joined(self, others: Covariance) -> Covariance:
        """These models and others, whose last factors, if they have more of them, none of these has."""
        further = others.factor.shape[1] - self.factor.shape[1]
        return Covariance(
            np.concatenate([self.mean, others.mean]),
            np.vstack([np.pad(self.factor, ((0, 0), (0, further))), others.factor]),
            np.concatenate([self.own, others.own]),
        )

    def scores(self, values: Floats, errors: Floats) -> Floats:
        """(T, R) expected ``w`` of each task, given its observed cells in ``values`` (T, K) and their ``errors``."""
        seen = np.isfinite(values)
        weights = seen / (self.own + np.square(np.where(np.isfinite(errors), errors, 0.0)))
        rest = np.where(seen, values - self.mean, 0.0)
        return weighted_ridge(weights, rest, self.factor, 1.0)


def standardised(values: ArrayLike, steps: int = 5) -> tuple[Floats, Floats, Floats]:
    """Tasks on one scale, whichever models each of them has.

    The z-score of a task with a few strong models would be that of a task with weak ones; level and spread are
    therefore set against the means of the *same* models over all tasks.

    Args:
        values: (T, K) with NaN for what wasn't measured; each task needs two different values.
        steps: Rounds of estimating the models' means and the tasks' levels and spreads in turn.

    Returns:
        (T, K) scaled values, (T,) levels and (T,) spreads: ``values = level + spread * scaled``.

    Raises:
        ValueError: If a task has fewer than two different values.
    """
    table = np.asarray(values, dtype=np.float64)
    seen = np.isfinite(table)
    count = seen.sum(1)
    average, raw = np.nanmean(table, axis=1), np.nanstd(table, axis=1)
    if not (raw > 0).all():
        raise ValueError(f"rows {np.flatnonzero(~(raw > 0)).tolist()} have fewer than two different values")
    level, spread = average, raw
    for _ in range(steps):
        scaled = np.where(seen, (table - level[:, None]) / spread[:, None], 0.0)
        mean = scaled.sum(0) / (seen.sum(0) + 1.0)
        repeated = seen.sum(0) > 1
        rest = (seen * (scaled - mean) ** 2)[:, repeated].sum() / max(seen[:, repeated].sum(), 1)
        centre = (seen * mean).sum(1) / count
        between = (seen * (mean - centre[:, None]) ** 2).sum(1) / count
        spread = raw / np.sqrt(np.maximum(between + rest, 1e-12))
        level = average - spread * centre
    return np.where(seen, (table - level[:, None]) / spread[:, None], np.nan), level, spread


def fit_covariance(
    values: ArrayLike, errors: ArrayLike | None = None, shrinkage: Shrinkage | None = None, steps: int = 25
) -> Covariance:
    """Mean, factor and own variances of K models from T tasks.

    Args:
        values: (T, K) on one scale; NaN where nothing was measured.
        errors: (T, K) standard deviations of the measurements, None or NaN where unknown (taken as none).
        shrinkage: See there; the default where None.
        steps: Steps of expectation and maximisation.

    Raises:
        ValueError: If there is no measured cell.
    """
    chosen = shrinkage or Shrinkage()
    table = np.asarray(values, dtype=np.float64)
    n_tasks, n_models = table.shape
    seen = np.isfinite(table)
    if not seen.any():
        raise ValueError("no covariance can be learned from a table without values")
    given = np.zeros_like(table) if errors is None else np.asarray(errors, dtype=np.float64)
    noise = np.where(np.isfinite(given), given, 0.0) ** 2
    counts = seen.sum(0)
    evidence = np.maximum(counts + chosen.mean, 1e-12)
    mean = np.where(seen, table, 0.0).sum(0) / evidence
    rest = np.where(seen, table - mean, 0.0)
    rank = min(chosen.rank, n_tasks, n_models)
    own = np.full(n_models, max(float((rest**2).sum() / counts.sum()) / 2, _FLOOR))
    _, singular, right = np.linalg.svd(rest, full_matrices=False)
    factor = right[:rank].T * (singular[:rank] / np.sqrt(n_tasks))
    for _ in range(steps):
        precision = seen / (own + noise)
        spread = np.linalg.inv(np.tensordot(precision, _products(factor), axes=1) + np.eye(rank))  # (T, R, R)
        scores = np.einsum("trs,ts->tr", spread, (precision * rest) @ factor)
        moments = (spread + _products(scores)).reshape(n_tasks, -1)
        # The share of what is left over that is the model's own and not the measurement's.
        kept = own / (own + noise)
        used = seen * kept
        squares = (used.T @ moments).reshape(n_models, rank, rank) + chosen.loadings * np.eye(rank)
        factor = np.linalg.solve(squares, ((used * rest).T @ scores)[:, :, None])[:, :, 0]
        left = (rest - scores @ factor.T) ** 2 + np.tensordot(spread, _products(factor), axes=((1, 2), (1, 2)))
        sums = (seen * (kept**2 * left + kept * noise)).sum(0)
        own = np.maximum((sums + chosen.own * sums.sum() / counts.sum()) / (counts + chosen.own), _FLOOR)
        # With gaps the plain mean is that of whichever tasks a model has; what they have in common is taken out.
        mean = np.where(seen, table - scores @ factor.T, 0.0).sum(0) / evidence
        rest = np.where(seen, table - mean, 0.0)
    return Covariance(mean, factor, own)


def weighted_ridge(weights: Floats, rest: Floats, factor: Floats, ridge: float) -> Floats:
    """(T, R) ridge regression of each row of ``rest`` (T, K) on ``factor`` (K, R), with weights (T, K) of its cells."""
    inner = np.tensordot(weights, _products(factor), axes=1) + ridge * np.eye(factor.shape[1])  # (T, R, R)
    return np.asarray(np.linalg.solve(inner, ((weights * rest) @ factor)[:, :, None])[:, :, 0])


def _products(factor: Floats) -> Floats:
    """(K, R, R) products of each model's loadings, or each task's scores."""
    return factor[:, :, None] * factor[:, None, :]
