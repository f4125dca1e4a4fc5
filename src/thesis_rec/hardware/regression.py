"""The regression of one figure on what can be counted, judged leave-one-family-out, and the margin on its safe side.

A new architecture family is the hard case, so that the margin is the split-conformal quantile (Vovk et al.,
"Algorithmic Learning in a Random World", 2005) of the errors on families that were left out. Choosing among predictions
concentrates their errors, and yet choices below a limit break it in .000 to .005 of the cases on the embedded zoo
(``benchmarks/hardware.py``) and in .001 to .020 on real models (``benchmarks/hub_hardware.py``). A margin that was
raised until simulated choices kept the limits, and covered most models of every family, kept .000 to .005 and .001 to
.013; what fitted it cost a regret of .105 on an H200 where this one costs .070. Choosing among subsets of the features
and among penalties gave median errors of .21 to .27 where all of them and this penalty give .20 to .26.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import Floats

#: Ridge penalty, relative to the number of models.
PENALTY = 1e-2

#: Share of left-out models that the safe side may not cover.
ALPHA = 0.05


class Fit(NamedTuple):
    """A fitted regression of log figures.

    Attributes:
        coefficients: (F + 2,) of the features, of the figure in another context, and the constant.
        margin: Logarithm that is added for the safe side.
        spread: Root mean square of the held-out errors.
    """

    coefficients: Floats
    margin: float
    spread: float

    def predict(self, features: Floats, offset: Floats) -> Floats:
        """Log figures of (M, F) features and (M,) log figures in another context, or zeros."""
        return offset + _columns(features, offset) @ self.coefficients


def _columns(features: Floats, offset: Floats) -> Floats:
    # The figure elsewhere is a feature as well: its slope is 1 plus a weight that is shrunk to 0.
    return np.column_stack([features, offset, np.ones(len(offset))])


def fit_log_figure(features: Floats, log_value: Floats, offset: Floats, families: NDArray[np.object_]) -> Fit:
    """Fit the regression of one figure.

    Args:
        features: (n, F) log counts.
        log_value: (n,) log figures.
        offset: (n,) log figures in another context, or 0.
        families: (n,) architecture families; with fewer than three, folds of models take their place.
    """
    x, target, groups = _columns(features, offset), log_value - offset, fold_groups(families)
    errors = np.empty(len(target))
    for group in np.unique(groups):
        out = groups == group
        errors[out] = target[out] - x[out] @ _ridge(x[~out], target[~out])
    return Fit(_ridge(x, target), safe_margin(errors), float(np.sqrt(np.mean(np.square(errors)))))


def _ridge(x: Floats, target: Floats) -> Floats:
    """Coefficients of standardised columns, but for the last one, which is the constant."""
    mean, scale = x[:, :-1].mean(axis=0), x[:, :-1].std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    z = (x[:, :-1] - mean) / scale
    system = z.T @ z + PENALTY * len(z) * np.eye(z.shape[1])
    weights = np.linalg.solve(system, z.T @ (target - target.mean())) / scale
    return np.append(weights, target.mean() - mean @ weights)


def fold_groups(families: NDArray[np.object_]) -> NDArray[np.int64]:
    """Groups to leave out: families, or ten folds of models where there are fewer than three families."""
    codes = np.unique(families.astype(str), return_inverse=True)[1].astype(np.int64)
    if codes.max(initial=0) >= 2:
        return codes
    return np.arange(len(families)) % min(10, len(families))


def safe_margin(errors: Floats) -> float:
    """Logarithm to add to predictions so that figures lie below with a probability of ``1 - ALPHA``; at least 0.

    Args:
        errors: (n,) log figures less held-out log predictions.
    """
    rank = min(math.ceil((len(errors) + 1) * (1 - ALPHA)), len(errors))
    return max(float(np.sort(errors)[rank - 1]), 0.0)
