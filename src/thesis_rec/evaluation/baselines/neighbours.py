"""The nearest datasets' values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thesis_rec.base.tables import TaskTokens
from thesis_rec.evaluation.baselines.base import Baseline, Floats, TrainingSet, fill_by_family
from thesis_rec.evaluation.baselines.features import DatasetSpace


class NearestDataset(Baseline):
    """Weighted mean of the z-scores on the k nearest training datasets in token space.

    Weights fall with distance as exp(-d²/d̄²), d̄ being the distance of the k-th neighbour. ``k`` is chosen on the
    training datasets, by leaving out each dataset's whole family.
    """

    name = "nearest_dataset"
    needs_tokens = True

    def __init__(self, choices: Sequence[int] = (1, 3, 5, 10, 20)) -> None:
        self.choices = tuple(choices)
        self.k = self.choices[0]

    def fit(self, training: TrainingSet) -> NearestDataset:
        """Place the training datasets in token space and choose ``k``."""
        self._space = DatasetSpace.fit(training.tokens)
        self._points = self._space.transform(training.tokens)
        self._z = training.standardised()
        self._families = training.models.families
        distance = distances(self._points, self._points)
        families = np.asarray(training.families())
        distance[families[:, None] == families[None, :]] = np.inf
        usable = np.isfinite(distance).any(axis=1)
        if usable.any():
            quality = []
            for k in self.choices:
                predicted = weighted_neighbours(self._z, distance[usable], k)
                quality.append(mean_correlation(predicted, self._z[:, usable]))
            self.k = self.choices[int(np.argmax(quality))]
        return self

    def predict(self, tasks: Sequence[TaskTokens]) -> Floats:
        """(M, n) weighted z-scores; unknown models get their family's mean."""
        distance = distances(self._space.transform(tasks), self._points)
        return fill_by_family(weighted_neighbours(self._z, distance, self.k), self._families)


def distances(a: Floats, b: Floats) -> Floats:
    """(n, m) Euclidean distances between the rows of (n, F) and (m, F)."""
    square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    return np.sqrt(np.maximum(square, 0.0))


def weighted_neighbours(z: Floats, distance: Floats, k: int) -> Floats:
    """(M, n) weighted mean of the columns of z (M, N) at the k smallest finite ``distance`` (n, N)."""
    k = min(k, distance.shape[1])
    kth = np.sort(distance, axis=1)[:, k - 1 : k]
    kth = np.where(
        np.isfinite(kth), kth, np.nanmax(np.where(np.isfinite(distance), distance, 0), axis=1, keepdims=True)
    )
    with np.errstate(over="ignore"):
        weight = np.where(distance <= kth, np.exp(-((distance / np.maximum(kth, 1e-12)) ** 2)), 0.0)
    # Cells that miss among the k neighbours fall back on farther ones, at a weight that never matters otherwise.
    weight = weight + 1e-9 * np.where(np.isfinite(distance), 1.0 / (1.0 + distance), 0.0)
    present = np.isfinite(z)
    total = present.astype(np.float64) @ weight.T
    summed = np.where(present, z, 0.0) @ weight.T
    return np.where(total > 0, summed / np.maximum(total, 1e-300), np.nan)


def mean_correlation(predicted: Floats, truth: Floats) -> float:
    """Mean over columns of the correlation within each column, over cells where both are defined."""
    both = np.isfinite(predicted) & np.isfinite(truth)
    count = np.maximum(both.sum(axis=0), 1)

    def centred(values: Floats) -> Floats:
        filled = np.where(both, values, 0.0)
        centre: Floats = np.where(both, filled - filled.sum(axis=0) / count, 0.0)
        return centre

    a, b = centred(predicted), centred(truth)
    norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    usable = norm > 1e-12
    return float(((a * b).sum(axis=0)[usable] / norm[usable]).mean()) if usable.any() else float("-inf")
