"""Baselines that give every dataset the same order (or a random one)."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from thesis_rec.base.tables import TaskTokens
from thesis_rec.evaluation.baselines.base import Baseline, Floats, TrainingSet, fill_by_family, row_means


class RandomOrder(Baseline):
    """A random order, another one for each dataset."""

    name = "random"
    ranks_unknown = True

    def fit(self, training: TrainingSet) -> RandomOrder:
        """Remember how many models there are, and the seed."""
        self._size, self._seed = len(training.models), training.seed
        return self

    def predict(self, tasks: Sequence[TaskTokens]) -> Floats:
        """(M, n) uniform numbers that depend on seed and dataset alone."""
        columns = [
            np.random.default_rng([self._seed, zlib.crc32(task.dataset_id.encode())]).random(self._size)
            for task in tasks
        ]
        return np.stack(columns, axis=1) if columns else np.empty((self._size, 0))


class Static(Baseline):
    """A baseline with one score per model."""

    def fit(self, training: TrainingSet) -> Static:
        """Compute the models' scores; an unknown model gets its family's mean, else the mean of all."""
        score = self.model_scores(training)
        self._score = fill_by_family(score[:, None], training.models.families)[:, 0]
        return self

    @abstractmethod
    def model_scores(self, training: TrainingSet) -> Floats:
        """(M,) scores, NaN for models without measured values."""

    def predict(self, tasks: Sequence[TaskTokens]) -> Floats:
        """(M, n) the same scores for each task."""
        return np.repeat(self._score[:, None], len(tasks), axis=1)


class ParameterCount(Static):
    """More weights first."""

    name = "parameter_count"
    ranks_unknown = True

    def model_scores(self, training: TrainingSet) -> Floats:
        """(M,) logarithm of the number of weights."""
        return np.log1p(np.asarray(training.models.n_parameters, dtype=np.float64))


class StaticMeanAccuracy(Static):
    """Mean value of the model over the training datasets.

    Missing cells are taken care of: what is averaged is the distance from the mean of the dataset, so a model isn't
    thought better for not having been tried on hard datasets. The mean of all datasets is added back.
    """

    name = "static_mean_accuracy"

    def model_scores(self, training: TrainingSet) -> Floats:
        """(M,) mean values."""
        level = row_means(training.values.T)
        known = np.isfinite(level)
        deviation: Floats = row_means(training.values[:, known] - level[known])
        return deviation + level[known].mean()


class StaticMeanZ(Static):
    """Mean z-score of the model within the training datasets: easy and hard datasets count alike."""

    name = "static_mean_z"

    def model_scores(self, training: TrainingSet) -> Floats:
        """(M,) mean z-scores."""
        return row_means(training.standardised())


class StaticMeanRank(Static):
    """Mean rank of the model within the training datasets, as a share of the models measured there."""

    name = "static_mean_rank"

    def model_scores(self, training: TrainingSet) -> Floats:
        """(M,) mean relative ranks, 1 for a model that is always best."""
        return row_means(relative_ranks(training.values))


def relative_ranks(values: Floats) -> Floats:
    """(M, N) ranks within each column from 0 (worst) to 1 (best), ties at their mean; NaN stays NaN."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=0, nan_policy="omit") - 1
    count = np.isfinite(values).sum(axis=0)
    relative: Floats = ranks / np.maximum(count - 1, 1)
    return relative
