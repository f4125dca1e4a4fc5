"""How good a ranking of models is on one dataset, and the table of all its figures.

Every function takes the measured values and a method's scores of the same models, in the same order, higher better.
Models whose value or score is missing are left out; a figure that can't be computed (fewer than two models, all values
equal) is NaN. The correlations have a treatment of ties of their own; figures of the first k don't, so
:func:`metric_table` puts equal scores in a random order, several times. A method that gives all models the same score
says nothing: its correlations are those of random orders as well, zero but for chance.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau, weightedtau

Floats = NDArray[np.float64]

#: The figures of :func:`metric_table`, in the order in which they are reported.
METRICS = ("weighted_tau", "kendall_tau", "pearson", "ndcg@5", "regret@1", "regret@5", "recall@5")

#: Figures of which a smaller value is better.
LOWER_IS_BETTER = ("regret@1", "regret@5")


def defined(truth: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
    """Both vectors without the models for which either is missing.

    Args:
        truth: (M,) measured values, NaN where none was measured.
        score: (M,) scores, NaN where the method gives none.
    """
    value, rating = np.asarray(truth, dtype=np.float64), np.asarray(score, dtype=np.float64)
    # An infinite score is an order; an infinite value is a mistake of the measurement.
    keep = np.isfinite(value) & ~np.isnan(rating)
    return value[keep], rating[keep]


def weighted_tau(truth: ArrayLike, score: ArrayLike) -> float:
    """Weighted Kendall tau with additive hyperbolic weights, the mean of both rankings' (Vigna 2015)."""
    return _correlation(weightedtau, truth, score)


def kendall_tau_b(truth: ArrayLike, score: ArrayLike) -> float:
    """Kendall's tau-b, which corrects for ties (Kendall 1945)."""
    return _correlation(kendalltau, truth, score)


def pearson(truth: ArrayLike, score: ArrayLike) -> float:
    """Pearson's linear correlation; infinite scores make it undefined."""
    value, rating = defined(truth, score)
    if len(value) < 2 or np.isinf(rating).any() or _constant(value) or _constant(rating):
        return float("nan")
    # Scaled first: the squares of very large or small scores would leave the range of doubles.
    return float(np.corrcoef(value, rating / np.abs(rating).max())[0, 1])


def ndcg_at_5(truth: ArrayLike, score: ArrayLike) -> float:
    """Normalised discounted cumulative gain of the first five (Järvelin & Kekäläinen 2002).

    A model's gain is its value on the scale from the dataset's worst (0) to its best model (1), so that the figure
    doesn't depend on how hard the dataset is.
    """
    from sklearn.metrics import ndcg_score

    value, rating = defined(truth, score)
    if len(value) < 2 or _constant(value):
        return float("nan")
    gain = (value - value.min()) / (value.max() - value.min())
    return float(ndcg_score([gain], [rating], k=5))


def regret(truth: ArrayLike, score: ArrayLike, k: int) -> float:
    """What is lost, in units of the truth, by taking the best of the predicted first ``k``, not the best of all."""
    value, rating = defined(truth, score)
    if not len(value):
        return float("nan")
    return float(value.max() - value[_best_first(rating)[:k]].max())


def recall_at_5(truth: ArrayLike, score: ArrayLike) -> float:
    """Share of the predicted first five that are among the true first five; ties at the fifth place count as in."""
    value, rating = defined(truth, score)
    if not len(value):
        return float("nan")
    k = min(5, len(value))
    fifth = np.sort(value)[-k]
    return float((value[_best_first(rating)[:k]] >= fifth).mean())


#: Figures of the whole order, and those of the first few.
_OF_ALL = {"weighted_tau": weighted_tau, "kendall_tau": kendall_tau_b}
_OF_THE_TOP: dict[str, Callable[[Floats, Floats], float]] = {
    "ndcg@5": ndcg_at_5,
    "regret@1": partial(regret, k=1),
    "regret@5": partial(regret, k=5),
    "recall@5": recall_at_5,
}


def metric_table(
    truth: ArrayLike, score: ArrayLike, rng: np.random.Generator | int = 0, draws: int = 20
) -> dict[str, float]:
    """All figures of :data:`METRICS` for one dataset.

    Args:
        truth: (M,) measured values.
        score: (M,) scores; equal ones are put in a random order, ``draws`` times, and the figures of the first k (all
            figures where all scores are equal) averaged.
        rng: Source of the random orders, or its seed.
        draws: Number of random orders; without ties one suffices.

    Returns:
        Each figure's name and value.
    """
    value, rating = defined(truth, score)
    if len(value) < 2:
        return {name: float("nan") for name in METRICS}
    generator = np.random.default_rng(rng)
    tied = len(np.unique(rating)) < len(rating)
    ordered = _OF_THE_TOP | (_OF_ALL if _constant(rating) else {})
    rows = []
    for _ in range(draws if tied else 1):
        ranked = np.empty(len(rating))
        ranked[np.lexsort((generator.random(len(rating)), rating))] = np.arange(len(rating))
        rows.append([function(value, ranked) for function in ordered.values()])
    figures = {name: function(value, rating) for name, function in (_OF_ALL | {"pearson": pearson}).items()}
    figures |= dict(zip(ordered, np.mean(rows, axis=0).tolist(), strict=True))
    return {name: figures[name] for name in METRICS}


def interval_score(truth: ArrayLike, low: ArrayLike, high: ArrayLike, level: float = 0.9) -> Floats:
    """Interval score of central ``level`` intervals (Gneiting & Raftery 2007, eq. 43); smaller is better.

    Args:
        truth: (M,) measured values.
        low: (M,) lower bounds.
        high: (M,) upper bounds.
        level: Nominal coverage.

    Returns:
        (M,) widths plus penalties of 2/(1-level) times the distance by which the value lies outside.
    """
    outside = np.maximum(np.subtract(low, truth), 0.0) + np.maximum(np.subtract(truth, high), 0.0)
    return np.subtract(high, low) + 2.0 / (1.0 - level) * outside


def _correlation(function: Callable[..., Any], truth: ArrayLike, score: ArrayLike) -> float:
    value, rating = defined(truth, score)
    if len(value) < 2 or _constant(value) or _constant(rating):
        return float("nan")
    return float(function(value, rating).statistic)


def _constant(values: Floats) -> bool:
    return bool(values.max() == values.min())


def _best_first(score: Floats) -> NDArray[np.intp]:
    """Positions in the order of falling score; equal ones keep their order."""
    return np.argsort(-score, kind="stable")
