"""Baselines that carry measured values over: one order for all datasets, the nearest datasets, matrix factorisation."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from thesis_rec.base.tables import TaskTokens, z_scores
from thesis_rec.evaluation.baselines.base import (
    Baseline,
    Floats,
    dataset_space,
    fill_by_family,
    pooled,
    row_means,
)
from thesis_rec.evaluation.study import Study


class RandomOrder(Baseline):
    """A random order, another one for each dataset."""

    name = "random"

    def fit(self, training: Study) -> RandomOrder:
        """Remember how many models there are, and the seed."""
        self._size, self._seed = len(training.models), training.seed
        return self

    def predict(self, tasks: Sequence[TaskTokens]) -> Floats:
        """(M, n) uniform numbers that depend on seed and dataset alone."""
        columns = [
            np.random.default_rng([self._seed, zlib.crc32(task.dataset_id.encode())]).random(self._size)
            for task in tasks
        ]
        return np.stack(columns, axis=1)


class Static(Baseline):
    """A baseline with one score per model, its mean over the training datasets."""

    def fit(self, training: Study) -> Static:
        """Average what was measured; an unknown model gets its family's mean, else the mean of all."""
        score = row_means(self.comparable(training.values))
        self._score = fill_by_family(score[:, None], training.models.families)[:, 0]
        return self

    def comparable(self, values: Floats) -> Floats:
        """(M, N) values of which a mean over datasets makes sense."""
        return z_scores(values)

    def predict(self, tasks: Sequence[TaskTokens]) -> Floats:
        """(M, n) the same scores for each task."""
        return np.repeat(self._score[:, None], len(tasks), axis=1)


class ParameterCount(Static):
    """More weights first; a model whose size isn't known stays unranked."""

    name = "parameter_count"

    def fit(self, training: Study) -> ParameterCount:
        """Take the logarithm of the number of weights."""
        self._score = np.log1p(np.asarray(training.models.n_parameters, dtype=np.float64))
        return self


class StaticMeanAccuracy(Static):
    """Mean value of the model over the training datasets.

    Missing cells are taken care of: what is averaged is the distance from the mean of the dataset, so a model isn't
    thought better for not having been tried on hard datasets. The mean of all datasets is added back.
    """

    name = "static_mean_accuracy"

    def comparable(self, values: Floats) -> Floats:
        """(M, N) values as if all datasets were equally hard."""
        level = row_means(values.T)
        return values - level + np.nanmean(level)


class StaticMeanZ(Static):
    """Mean z-score of the model within the training datasets: easy and hard datasets count alike."""

    name = "static_mean_z"


class StaticMeanRank(Static):
    """Mean rank of the model within the training datasets, as a share of the models measured there."""

    name = "static_mean_rank"

    def comparable(self, values: Floats) -> Floats:
        """(M, N) relative ranks, 1 for the best."""
        return relative_ranks(values)


def relative_ranks(values: Floats) -> Floats:
    """(M, N) ranks within each column from 0 (worst) to 1 (best), ties at their mean; NaN stays NaN."""
    table = pd.DataFrame(values)
    return ((table.rank() - 1) / (table.count() - 1).clip(lower=1)).to_numpy()


class NearestDataset(Baseline):
    """Weighted mean of the z-scores on the k nearest training datasets in token space.

    Weights fall with distance as exp(-d²/d̄²), d̄ being the distance of the k-th neighbour. ``k`` is chosen on the
    training datasets, by leaving out each dataset's whole family.
    """

    name = "nearest_dataset"

    choices = (1, 3, 5, 10, 20)
    k = 1

    def fit(self, training: Study) -> NearestDataset:
        """Place the training datasets in token space and choose ``k``."""
        self._space = dataset_space(training.tasks)
        self._points = self._space.transform(pooled(training.tasks))
        self._z = z_scores(training.values)
        self._families = training.models.families
        distance = cdist(self._points, self._points)
        families = np.asarray(training.families)
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
        distance = cdist(self._space.transform(pooled(tasks)), self._points)
        return fill_by_family(weighted_neighbours(self._z, distance, self.k), self._families)


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
    a, b = (z_scores(np.where(both, values, np.nan)) for values in (predicted, truth))
    found = row_means((a * b).T)
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("-inf")


class MatrixFactorisation(Baseline):
    """Model effect plus a low-rank interaction, fitted to z-scores by alternating least squares.

    Rank and ridge are chosen by hiding a tenth of the measured cells. A dataset that wasn't trained on gets the mean
    factor of those that were (nothing else is known about it), an unknown model its family's mean.
    """

    name = "matrix_factorisation"
    #: What is chosen among (penalties in units of the z-scores' variance), and sweeps of alternating least squares.
    ranks, ridges, rounds = (1, 2, 4, 8), (1.0, 4.0, 16.0), 12
    rank, ridge = 1, 1.0

    def fit(self, training: Study) -> MatrixFactorisation:
        """Choose rank and ridge, then fit on all cells."""
        z = z_scores(training.values)
        rng = np.random.default_rng(training.seed)
        hidden = np.isfinite(z) & (rng.random(z.shape) < 0.1)
        partial = np.where(hidden, np.nan, z)
        best = -np.inf
        for rank in self.ranks:
            if rank >= min(z.shape):
                continue
            for ridge in self.ridges:
                fitted, _ = factorise(partial, rank, ridge, self.rounds, rng=np.random.default_rng(training.seed))
                quality = mean_correlation(fitted, np.where(hidden, z, np.nan))
                if quality > best:
                    best, self.rank, self.ridge = quality, rank, ridge
        rank = max(min(self.rank, min(z.shape) - 1), 0)
        self._fitted, self._unseen = factorise(
            z, rank, self.ridge, self.rounds, rng=np.random.default_rng(training.seed)
        )
        self._column = {dataset: j for j, dataset in enumerate(training.dataset_ids)}
        self._families = training.models.families
        return self

    def predict(self, tasks: Sequence[TaskTokens]) -> Floats:
        """(M, n) fitted z-scores of known datasets, the mean factor's of others."""
        columns = [
            self._fitted[:, self._column[task.dataset_id]] if task.dataset_id in self._column else self._unseen
            for task in tasks
        ]
        return fill_by_family(np.stack(columns, axis=1), self._families)


def factorise(z: Floats, rank: int, ridge: float, rounds: int, *, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Alternating least squares of ``z[m, n] = b[m] + u[m] · v[n]`` over the cells that aren't NaN.

    Args:
        z: (M, N) values with NaN.
        rank: Length of u and v; 0 leaves the row effects alone.
        ridge: Penalty of u and v.
        rounds: Sweeps.
        rng: Source of the start.

    Returns:
        The fitted (M, N) matrix and (M,) the column of an unseen dataset; NaN in rows without any value.
    """
    present = np.isfinite(z)
    effect = np.nan_to_num(row_means(z))
    rest = np.where(present, z - effect[:, None], 0.0)
    weight = present.astype(np.float64)
    empty = ~present.any(axis=1)
    if rank == 0:
        fitted, unseen = np.repeat(effect[:, None], z.shape[1], axis=1), effect
    else:
        v: Floats = rng.normal(size=(z.shape[1], rank)) / np.sqrt(rank)
        u: Floats = np.zeros((z.shape[0], rank))
        eye = ridge * np.eye(rank)
        for _ in range(rounds):
            u = _solve(weight, rest, v, eye)
            v = _solve(weight.T, rest.T, u, eye)
        fitted, unseen = effect[:, None] + u @ v.T, effect + u @ v.mean(axis=0)
    fitted, unseen = fitted.copy(), unseen.copy()
    fitted[empty], unseen[empty] = np.nan, np.nan
    return fitted, unseen


def _solve(weight: Floats, rest: Floats, factor: Floats, ridge: Floats) -> Floats:
    """Ridge regression of each row of ``rest`` on ``factor``, over that row's cells, all rows at once."""
    outer = factor[:, :, None] * factor[:, None, :]
    gram = np.tensordot(weight, outer, axes=(1, 0)) + ridge
    return np.linalg.solve(gram, (rest @ factor)[:, :, None])[:, :, 0]
