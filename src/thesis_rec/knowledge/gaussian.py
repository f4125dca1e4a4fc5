"""Conditioning a Gaussian on some of what it describes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TINY = 1e-12


def condition(
    mean: Floats, covariance: Floats, direction: Floats, value: float, noise_variance: float
) -> tuple[Floats, Floats]:
    """Mean and covariance of a Gaussian after observing ``direction @ x = value`` with noise.

    Args:
        mean: (S,) mean before.
        covariance: (S, S) covariance before.
        direction: (S,) what was observed.
        value: The observation.
        noise_variance: Its variance.
    """
    projected = covariance @ direction
    variance = float(direction @ projected) + noise_variance
    if variance <= _TINY:
        return mean.copy(), covariance.copy()
    gain = projected / variance
    # Subtracting an outer product keeps the matrix symmetric to the last bit.
    return mean + gain * (value - float(direction @ mean)), covariance - np.outer(gain, projected)


def condition_on(
    mean: Floats, covariance: Floats, rows: NDArray[np.integer], values: Floats, noise_variance: float
) -> tuple[Floats, Floats]:
    """Mean and standard deviation of a Gaussian after some of its components were observed, all at once.

    Args:
        mean: (M,) before.
        covariance: (M, M) before.
        rows: (O,) what was observed.
        values: (O,) the observations.
        noise_variance: Their variance.

    Returns:
        (M,) means, and (M,) variances of the noise-free values.
    """
    from scipy.linalg import cho_factor, cho_solve

    across = covariance[:, rows]  # (M, O)
    inner = covariance[np.ix_(rows, rows)] + noise_variance * np.eye(len(rows))
    factor = cho_factor(inner)
    found = mean + across @ cho_solve(factor, values - mean[rows])
    variance = np.diagonal(covariance) - (across * cho_solve(factor, across.T).T).sum(1)
    return found, np.maximum(variance, 0.0)
