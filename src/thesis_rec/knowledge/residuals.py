"""Which models err together, from a prediction's errors on earlier tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_TINY = 1e-12


def rbf_kernel(features: ArrayLike) -> Floats:
    """(M, M) Gaussian kernel of (M, F) features, standardised, with the median distance as its width."""
    x = np.asarray(features, dtype=np.float64)
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    square = (x**2).sum(axis=1)
    distance = np.maximum(square[:, None] + square[None, :] - 2 * x @ x.T, 0.0)
    positive = distance[distance > 1e-9]
    width = float(np.median(positive)) if len(positive) else 1.0
    return np.exp(-distance / width)


def residual_covariance(
    residuals: ArrayLike,
    kernel: ArrayLike | None = None,
    known: Iterable[int] | None = None,
    *,
    folds: int = 5,
    shares: Sequence[float] = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9),
) -> Floats:
    """Covariance between models of a prediction's errors on tasks it wasn't trained on.

    The sample covariance of K models over a few dozen tasks is noisy, so it is shrunk towards a smooth target,
    σ² (ρ₀ + ρ₁ k(i, j) + (1-ρ₀-ρ₁) δᵢⱼ), whose parts are fitted to it: an error common to all models of a task, one
    common to similar models, and each model's own. How far is chosen by the likelihood of left-out tasks. A model
    without residuals gets its part through the target (its regression on the known models, plus what that
    leaves open), which keeps the matrix positive semi-definite.

    Args:
        residuals: (T, K) truth minus prediction; NaN where not measured.
        kernel: (M, M) similarity of all models; by default no two are similar, and M = K.
        known: The K rows of ``kernel`` that ``residuals`` belong to, by default all.
        folds: Number of parts into which the tasks are divided to choose the shrinkage.
        shares: Shares of the target to choose among.

    Returns:
        (M, M) covariance.

    Raises:
        ValueError: If shapes don't fit or there are no residuals.
    """
    errors = np.asarray(residuals, dtype=np.float64)
    if errors.ndim != 2 or not np.isfinite(errors).any():
        raise ValueError("residuals must be a (tasks, models) matrix with at least one value")
    similarity = np.eye(errors.shape[1]) if kernel is None else np.asarray(kernel, dtype=np.float64)
    rows = np.arange(len(similarity)) if known is None else np.fromiter(known, dtype=int)
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or len(rows) != errors.shape[1]:
        raise ValueError(f"{errors.shape[1]} models need that many rows of a square kernel, got {similarity.shape}")
    inner = similarity[np.ix_(rows, rows)]
    share = shares[-1]
    if len(errors) >= 2 * folds:
        # Each fold's likelihood under what the other folds say.
        score = np.zeros(len(shares))
        for fold in range(folds):
            held = np.arange(len(errors)) % folds == fold
            sample = _second_moment(errors[~held])
            smooth = _target(sample, inner)
            for i, candidate in enumerate(shares):
                score[i] += _log_likelihood(errors[held], (1 - candidate) * sample + candidate * smooth)
        share = shares[int(np.argmax(score))]
    sample = _second_moment(errors)
    smooth = _target(sample, inner, similarity)
    if len(rows) == len(similarity) and (rows == np.arange(len(rows))).all():
        return (1 - share) * sample + share * smooth
    across, within = smooth[:, rows], smooth[np.ix_(rows, rows)]
    weights = np.linalg.solve(within + _ridge(within), across.T).T
    weights[rows] = np.eye(len(rows))
    rest = smooth - weights @ within @ weights.T
    rest[rows, :], rest[:, rows] = 0.0, 0.0
    carried = weights @ sample @ weights.T + _positive_part(rest)
    return (1 - share) * carried + share * smooth


def _second_moment(errors: Floats) -> Floats:
    """(K, K) mean product of errors; a missing one counts as its model having erred as little as possible: zero."""
    present = np.isfinite(errors)
    filled = np.where(present, errors, 0.0)
    moment = filled.T @ filled / max(len(errors), 1)
    # Missing cells only shrink: bring each model's variance back to that of its measured cells.
    share = np.sqrt(np.maximum(present.mean(axis=0), 1.0 / max(len(errors), 1)))
    moment = moment / share[:, None] / share[None, :]
    variance = np.diagonal(moment)
    empty = ~present.any(axis=0)
    if empty.any():
        moment = moment + np.diag(np.where(empty, variance[~empty].mean(), 0.0))
    return moment


def _target(sample: Floats, inner: Floats, outer: Floats | None = None) -> Floats:
    """The smooth target that fits ``sample`` (K, K) best, evaluated for the models of ``outer`` (M, M)."""
    variance = max(float(np.diagonal(sample).mean()), _TINY)
    off = ~np.eye(len(sample), dtype=bool)
    common, similar = 0.0, 0.0
    if off.any():
        wanted = sample[off] / variance
        similarity = inner[off]
        if similarity.std() > 1e-9:
            similar = float(np.cov(similarity, wanted, bias=True)[0, 1] / similarity.var())
        similar = float(np.clip(similar, 0.0, 0.95))
        common = float(np.clip(wanted.mean() - similar * similarity.mean(), 0.0, 0.98 - similar))
    kernel = inner if outer is None else outer
    return variance * (common + similar * kernel + (1 - common - similar) * np.eye(len(kernel)))


def _ridge(matrix: Floats) -> Floats:
    return 1e-8 * max(float(np.trace(matrix)) / len(matrix), _TINY) * np.eye(len(matrix))


def _positive_part(matrix: Floats) -> Floats:
    """The nearest positive semi-definite matrix; a Schur complement is one but for rounding."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


def _log_likelihood(errors: Floats, covariance: Floats) -> float:
    """Of (T, K) errors under a zero-mean Gaussian; missing cells count as zero, alike for all candidates."""
    factor = np.linalg.cholesky(covariance + _ridge(covariance))
    whitened = np.linalg.solve(factor, np.where(np.isfinite(errors), errors, 0.0).T)
    return float(-0.5 * (whitened**2).sum() - len(errors) * np.log(np.diagonal(factor)).sum())
