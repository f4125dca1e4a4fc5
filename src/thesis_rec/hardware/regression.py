"""The regression of one figure on what can be counted, judged leave-one-family-out, and the margin on its safe side.

Choosing among predictions concentrates their errors: whoever takes the best model below a limit takes those whose cost
was underestimated. The safe side is therefore calibrated on the choice itself: the margin is raised until choices
among held-out families break at most ``alpha`` of the budgets, in the manner of conformal risk control (Angelopoulos et
al., ICLR 2024), and is never below the split-conformal quantile (Vovk et al., 2005).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LeftOut = Callable[[tuple[int, ...], tuple[float, ...]], Floats]

#: Ridge penalties that are tried, relative to the number of models.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)

#: Budgets that choices are simulated at, as quantiles of the measured figures.
BUDGET_QUANTILES = tuple(np.round(np.arange(0.1, 0.95, 0.05), 2))

#: Share of each family's models that the safe side covers at least.
FAMILY_QUANTILE = 0.75

#: Share of budgets that choices on the safe side may break.
ALPHA = 0.05

#: Models that a simulated choice takes.
CHOSEN = 5


@dataclass(frozen=True)
class Fit:
    """A fitted regression of log figures.

    Attributes:
        columns: Positions of the features that are used; F is the figure in the other context.
        mean: (K,) of the used features.
        scale: (K,) of the used features.
        weights: (K,) of the standardised features.
        intercept: Of the target.
        margin: Logarithm that is added for the safe side.
        spread: Standard deviation of the held-out errors.
    """

    columns: tuple[int, ...]
    mean: Floats
    scale: Floats
    weights: Floats
    intercept: float
    margin: float
    spread: float

    def predict(self, features: Floats, offset: Floats) -> Floats:
        """Log figures of (M, F) features, all columns, and (M,) log figures in another context, or zeros."""
        z = (np.column_stack([features, offset])[:, self.columns] - self.mean) / self.scale
        return offset + self.intercept + z @ self.weights


def fit_log_figure(
    features: Floats,
    log_value: Floats,
    offset: Floats,
    families: NDArray[np.object_],
    columns: tuple[int, ...],
) -> Fit:
    """Fit the regression of one figure; features, penalty and margin are chosen leave-one-family-out.

    Args:
        features: (n, F) log counts.
        log_value: (n,) log figures.
        offset: (n,) log figures in another context, or 0.
        families: (n,) architecture families; with fewer than three, folds of models take their place.
        columns: Features that may be used.
    """
    # The figure elsewhere is a feature as well: its slope is 1 plus a weight that is shrunk to 0.
    joined = np.column_stack([features, offset])
    usable = (*columns, features.shape[1]) if np.ptp(offset) > 0 else tuple(columns)
    groups = fold_groups(families)
    target = log_value - offset
    left_out = _without_each_group(joined, target, groups)
    best: tuple[float, tuple[int, ...], float, Floats] | None = None
    # Few features, so that every subset can be tried: what helps within families may mislead between them.
    for size in range(len(usable) + 1):
        for subset in combinations(usable, size):
            penalties = PENALTIES if subset else PENALTIES[:1]
            for penalty, predicted in zip(penalties, left_out(subset, penalties), strict=True):
                held_out = offset + predicted
                error = float(np.sqrt(np.mean((log_value - held_out) ** 2)))
                if best is None or error < best[0] - 1e-9:
                    best = error, subset, penalty, held_out
    assert best is not None
    error, subset, penalty, held_out = best
    mean, scale, weights, intercept = _ridge(joined[:, subset], target, penalty)
    return Fit(subset, mean, scale, weights, intercept, safe_margin(held_out, log_value, groups), error)


def _without_each_group(x: Floats, y: Floats, groups: NDArray[np.int64]) -> LeftOut:
    """Ridge regressions without any one of G groups, each from the means and covariances of the other rows.

    Args:
        x: (n, F) features.
        y: (n,) target.
        groups: (n,) group of each row.

    Returns:
        Function of features that are used and of P penalties that gives (P, n) predictions of each row by regressions
        without its group.
    """
    joined = np.column_stack([np.nan_to_num(x), y])  # columns with gaps are never among those that are used
    codes = np.unique(groups, return_inverse=True)[1]
    rest = [joined[codes != code] for code in range(codes.max() + 1)]
    mean = np.array([rows.mean(axis=0) for rows in rest])  # (G, F + 1)
    centred = [rows - centre for rows, centre in zip(rest, mean, strict=True)]
    moments = np.array([rows.T @ rows / len(rows) for rows in centred])  # (G, F + 1, F + 1)

    def left_out(subset: tuple[int, ...], penalties: tuple[float, ...]) -> Floats:
        columns, intercept = list(subset), mean[codes, -1]
        if not columns:
            return np.tile(intercept, (len(penalties), 1))
        covariance = moments[:, columns][:, :, columns]  # (G, K, K)
        variance = np.diagonal(covariance, axis1=1, axis2=2)
        scale = np.sqrt(np.where(variance > 1e-12, variance, 1.0))
        correlation = covariance / scale[:, :, None] / scale[:, None, :]
        system = correlation + np.asarray(penalties)[:, None, None, None] * np.eye(len(columns))  # (P, G, K, K)
        wanted = moments[:, columns, -1] / scale
        weights = np.linalg.solve(system, np.broadcast_to(wanted[..., None], (*system.shape[:-1], 1)))[..., 0] / scale
        z = joined[:, columns] - mean[codes][:, columns]  # (n, K)
        return intercept + np.einsum("nk,pnk->pn", z, weights[:, codes])

    return left_out


def _ridge(x: Floats, y: Floats, penalty: float) -> tuple[Floats, Floats, Floats, float]:
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    z = (x - mean) / scale
    intercept = float(y.mean())
    system = z.T @ z + penalty * len(z) * np.eye(z.shape[1])
    return mean, scale, np.linalg.solve(system, z.T @ (y - intercept)), intercept


def fold_groups(families: NDArray[np.object_]) -> NDArray[np.int64]:
    """Groups to leave out: families, or ten folds of models where there are fewer than three families."""
    codes = np.unique(families.astype(str), return_inverse=True)[1].astype(np.int64)
    if codes.max(initial=0) >= 2:
        return codes
    return np.arange(len(families)) % min(10, len(families))


def safe_margin(predicted: Floats, actual: Floats, groups: NDArray[np.int64] | None = None) -> float:
    """Logarithm to add to predictions so that choices below a limit break it at most :data:`ALPHA` of the time.

    The split-conformal quantile keeps single predictions honest. Choices are simulated on top of it: at each budget of
    ``BUDGET_QUANTILES``, the ``CHOSEN`` admitted models that come closest to it, by prediction and by the margin left
    (the worst a user who wants large models can do). The margin is the smallest from which on the share of broken
    budgets, with one imagined break more as conformal risk control asks for, stays at most that.

    Args:
        predicted: (n,) held-out log predictions.
        actual: (n,) log figures.
        groups: (n,) families that were left out together. Errors of one family go together, so that a new family is
            the unit that may go wrong: the margin covers most models of every family.

    Returns:
        The margin; at least 0.
    """
    errors = np.sort(actual - predicted)
    n = len(errors)
    rank = min(math.ceil((n + 1) * (1 - ALPHA)), n)
    start = max(float(errors[rank - 1]), 0.0)
    if groups is not None:
        of_group = pd.Series(actual - predicted).groupby(groups).quantile(FAMILY_QUANTILE)
        start = max(start, float(of_group.max()))
    budgets = np.quantile(actual, BUDGET_QUANTILES)[:, None]
    candidates = [start, *errors[errors > start]]
    margin = candidates[-1]
    falling = np.argsort(-predicted, kind="stable")
    predicted, actual = predicted[falling], actual[falling]
    # From above: the share isn't monotone in the margin, because the choice changes with it.
    for candidate in reversed(candidates):
        # Of falling predictions those that are admitted are the last ones.
        first = np.searchsorted(-(predicted + candidate), -budgets)  # (budgets, 1)
        closest = first + np.arange(CHOSEN)
        there = closest < n
        broken = int((there & (actual[np.minimum(closest, n - 1)] > budgets + 1e-12)).sum())
        chosen = int(there.sum())
        if chosen and (broken + 1) / (chosen + 1) > ALPHA:
            break
        margin = candidate
    return float(max(margin, start))
