"""Kernel ridge regression with groups left out: the closed form under what is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kernel:
    """A Gaussian kernel between rows and reference points, both standardised by the reference.

    Attributes:
        mean: (F,) of the reference.
        scale: (F,) standard deviations of the reference, times what makes a column count less.
        points: (N, F) standardised reference points.
        width: Squared distance at which similarity falls to 1/e.
    """

    mean: Floats
    scale: Floats
    points: Floats
    width: float

    @classmethod
    def fit(
        cls, rows: NDArray[np.floating], relative_width: float = 1.0, scales: NDArray[np.floating] | float = 1.0
    ) -> Kernel:
        """Fit to (N, F) rows; the width is in medians of their squared distance.

        Args:
            rows: Reference points.
            relative_width: Width in medians.
            scales: (F,) what standardised columns are divided by; infinite for one that doesn't count.
        """
        rows = np.asarray(rows, dtype=np.float64)
        mean, scale = rows.mean(0), np.maximum(rows.std(0), 1e-6) * scales
        return replace(cls.of((rows - mean) / scale, relative_width), mean=mean, scale=scale)

    @classmethod
    def of(cls, points: NDArray[np.floating], relative_width: float) -> Kernel:
        """Between (N, F) points as they are; the width is in medians of their squared distance."""
        exact = np.asarray(points, dtype=np.float64)
        gaps = _squared_distances(exact, exact)
        positive = gaps[gaps > 1e-9]
        width = relative_width * (float(np.median(positive)) if len(positive) else 1.0)
        return cls(np.zeros(exact.shape[1]), np.ones(exact.shape[1]), exact, width)

    def __call__(self, rows: NDArray[np.floating]) -> Floats:
        """(n, F) rows to their (n, N) similarity with the reference."""
        return self._similarity((rows - self.mean) / self.scale)

    @property
    def gram(self) -> Floats:
        """(N, N) similarity of the reference points."""
        return self._similarity(self.points)

    def _similarity(self, standardised: Floats) -> Floats:
        similarity = _squared_distances(standardised, self.points)
        similarity /= -self.width
        return np.exp(similarity, out=similarity)


def leave_groups_out(
    gram: Floats, target: Floats, groups: NDArray[np.str_], ridge: float, *, centre: bool = False
) -> Floats:
    """Kernel ridge predictions of every row without its group.

    Args:
        gram: (N, N) kernel.
        target: (N, K) values.
        groups: N groups.
        ridge: Penalty.
        centre: Whether the mean of the other groups is taken as given and only deviations from it are penalised.

    Returns:
        (N, K) predictions; zeros for a group that is all there is.
    """
    # With Q = (G + ridge)⁻¹, rows b minus their prediction without b are Q_bb⁻¹ (Q y)_b: one inverse for all groups.
    inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))
    dual, ones = inverse @ target, inverse.sum(1)
    total = target.sum(0)
    out = np.zeros(target.shape)
    for group in np.unique(groups):
        held = np.flatnonzero(groups == group)
        if len(held) == len(groups):
            continue
        mean = (total - target[held].sum(0)) / (len(groups) - len(held)) if centre else np.zeros(target.shape[1])
        rest = np.linalg.solve(inverse[np.ix_(held, held)], dual[held] - np.outer(ones[held], mean))
        out[held] = target[held] - rest
    return out


def means_of_others(values: Floats, groups: NDArray[np.str_]) -> Floats:
    """(N, K) mean over all rows of other groups; zeros for a group that is all there is."""
    out = np.zeros(values.shape)
    for group in np.unique(groups):
        held = groups == group
        if not held.all():
            out[held] = values[~held].mean(0)
    return out


def _squared_distances(rows: Floats, points: Floats) -> Floats:
    # In place: a hundred thousand candidates are as fast as memory is.
    squared: Floats = rows @ (-2.0 * points.T)
    squared += np.square(rows).sum(1)[:, None]
    squared += np.square(points).sum(1)
    return np.maximum(squared, 0.0, out=squared)
