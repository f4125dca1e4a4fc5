"""How the errors of a ranker's predicted values go together on one dataset."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


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
