"""What every baseline is given and must give, and how models, datasets and scores are laid out for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.knowledge.descriptors import pool_tokens

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class TrainingSet:
    """Everything a baseline may learn from.

    Attributes:
        models: All M candidates, unknown ones included (their weights may be looked at, their values are missing).
        known: (M,) whether a model has any value here.
        dataset_ids: N training datasets.
        values: (M, N) measured values, NaN where withheld or unknown.
        tokens: The N datasets' tokens, in the same order; empty for baselines that look at no images.
        dataset_families: The N datasets' families; choices are made by leaving whole families out.
        seed: Seed of whatever is random.
    """

    models: ModelTable
    known: NDArray[np.bool_]
    dataset_ids: list[str]
    values: Floats
    tokens: list[TaskTokens] = field(default_factory=list)
    dataset_families: list[str] = field(default_factory=list)
    seed: int = 0

    def __post_init__(self) -> None:
        shape = (len(self.models), len(self.dataset_ids))
        if self.values.shape != shape or self.known.shape != shape[:1]:
            raise ValueError(
                f"values must be {shape} and known {shape[:1]}, not {self.values.shape}, {self.known.shape}"
            )
        if self.tokens and [task.dataset_id for task in self.tokens] != self.dataset_ids:
            raise ValueError("tokens must belong to the training datasets, in their order")
        if np.isfinite(self.values[~self.known]).any():
            raise ValueError("an unknown model has measured values in the training set")
        if not np.isfinite(self.values).any():
            raise ValueError("the training set has no measured value")

    def families(self) -> list[str]:
        """Family of each dataset; each its own where none are given."""
        return self.dataset_families or self.dataset_ids

    def standardised(self) -> Floats:
        """(M, N) values as z-scores within their dataset (0 where all values of a dataset are equal)."""
        return z_scores(self.values)


class Baseline(ABC):
    """A method that ranks all candidates for a dataset."""

    #: Name in the tables.
    name: str = ""

    @abstractmethod
    def fit(self, training: TrainingSet) -> Baseline:
        """Learn; returns itself."""

    @abstractmethod
    def predict(self, tasks: Sequence[TaskTokens]) -> Floats:
        """(M, n) scores of all candidates for each task, NaN where the method can't say anything.

        A task whose ``dataset_id`` is one of the training datasets is recognised as that dataset.
        """

    def scores(self, task: TaskTokens) -> Floats:
        """(M,) scores for one task."""
        column: Floats = self.predict([task])[:, 0]
        return column


def z_scores(values: Floats) -> Floats:
    """(M, N) values standardised within each column; NaN stays NaN, a column of equal values becomes 0."""
    present = np.isfinite(values)
    count = np.maximum(present.sum(axis=0), 1)
    filled = np.where(present, values, 0.0)
    mean = filled.sum(axis=0) / count
    deviation = np.where(present, values - mean, 0.0)
    spread = np.sqrt((deviation**2).sum(axis=0) / count)
    standard = deviation / np.where(spread > 1e-12, spread, 1.0)
    return np.where(present, standard, np.nan)


def row_means(values: Floats) -> Floats:
    """(M,) mean of each row's values, NaN for a row without any."""
    present = np.isfinite(values)
    count = present.sum(axis=1)
    total = np.where(present, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def row_means_of_others(values: Floats, groups: NDArray[np.str_]) -> Floats:
    """(M, N) for each column the rows' means over the columns of other groups, NaN where there are none."""
    means = np.full(values.shape, np.nan)
    for group in np.unique(groups):
        means[:, groups == group] = row_means(values[:, groups != group])[:, None]
    return means


def fill_by_family(scores: Floats, families: Sequence[str]) -> Floats:
    """Give models without a score the mean of their family's, else the mean of all.

    Args:
        scores: (M, n) scores, NaN where a model has none.
        families: M families.

    Returns:
        (M, n) with NaN only in columns that have no score at all.
    """
    filled = scores.copy()
    present = np.isfinite(scores)
    names = np.asarray(families, dtype=str)
    for family in np.unique(names[~present.all(axis=1)]):
        rows = np.flatnonzero(names == family)
        means = row_means(scores[rows].T)
        gaps = ~present[rows]
        filled[rows] = np.where(gaps, means[None, :], scores[rows])
    overall = row_means(scores.T)
    return np.where(np.isfinite(filled), filled, overall[None, :])


@dataclass(frozen=True)
class DatasetSpace:
    """Standardisation of pooled tokens, fitted on training datasets.

    Every block counts alike, however long: standardised columns are divided by the root of the block's length.
    """

    mean: Floats
    scale: Floats

    @staticmethod
    def fit(tasks: Sequence[TaskTokens]) -> DatasetSpace:
        """Fit on training datasets.

        Raises:
            ValueError: If there are none.
        """
        if not tasks:
            raise ValueError("this baseline needs the training datasets' tokens")
        blocks = [np.stack(block) for block in zip(*(pool_tokens(task) for task in tasks), strict=True)]
        lengths = np.concatenate([np.full(block.shape[1], np.sqrt(block.shape[1])) for block in blocks])
        joined = np.concatenate(blocks, axis=1)
        spread = joined.std(axis=0)
        return DatasetSpace(joined.mean(axis=0), np.where(spread > 1e-9, spread, 1.0) * lengths)

    def transform(self, tasks: Sequence[TaskTokens]) -> Floats:
        """(n, F) coordinates of datasets."""
        if not tasks:
            return np.empty((0, len(self.mean)))
        joined = np.stack([np.concatenate(pool_tokens(task)) for task in tasks])
        coordinates: Floats = (joined - self.mean) / self.scale
        return coordinates


def model_coordinates(models: ModelTable, known: NDArray[np.bool_], components: int = 24) -> Floats:
    """(M, F) description of all models: principal components of embedding, responses and probes, and size.

    Directions and scales are fitted on known models only. Components keep their relative variance and blocks count
    alike, as in :class:`DatasetSpace`.

    Args:
        models: All models.
        known: (M,) which of them may be fitted on.
        components: Largest number of principal components per block.
    """
    # Baselines are given all that the recommender is given.
    blocks = [block for block in (models.embedding, models.responses, models.subtasks) if block is not None]
    parts = [_principal(np.asarray(block, dtype=np.float64), known, components) for block in blocks]
    size = np.log1p(np.asarray(models.n_parameters, dtype=np.float64))[:, None]
    spread = max(float(size[known].std()), 1e-9)
    # Size is one number among blocks of many: it counts as a third of a block.
    parts.append((size - size[known].mean()) / spread / 3**0.5)
    return np.concatenate(parts, axis=1)


def _principal(block: Floats, known: NDArray[np.bool_], components: int) -> Floats:
    block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
    reference = block[known]
    mean, spread = reference.mean(axis=0), reference.std(axis=0)
    # An unknown model may lie far outside; a few standard deviations say as much as hundreds.
    standard = np.clip((block - mean) / np.where(spread > 1e-9, spread, np.inf), -6.0, 6.0)
    _, values, directions = np.linalg.svd(standard[known] - standard[known].mean(axis=0), full_matrices=False)
    count = min(components, int((values > 1e-9).sum()))
    coordinates = (standard - standard[known].mean(axis=0)) @ directions[:count].T
    total = np.sqrt((coordinates[known] ** 2).sum(axis=1).mean()) if count else 1.0
    scaled: Floats = coordinates / max(float(total), 1e-9)
    return scaled


def score_matrix(
    scores: pd.DataFrame, method: str, model_ids: Sequence[str], dataset_ids: Sequence[str], column: str = "value"
) -> Floats:
    """(M, N) figures of one method, NaN where none was measured.

    Args:
        scores: Table of transferability scores: ``model_id, dataset_id, method, value, seconds``.
        method: Which one.
        model_ids: M models.
        dataset_ids: N datasets.
        column: ``value``, or ``seconds`` for the cost.
    """
    rows = scores[scores["method"] == method]
    model = pd.Index(model_ids).get_indexer(pd.Index(rows["model_id"].astype(str)))
    dataset = pd.Index(dataset_ids).get_indexer(pd.Index(rows["dataset_id"].astype(str)))
    keep = (model >= 0) & (dataset >= 0)
    matrix = np.full((len(model_ids), len(dataset_ids)), np.nan)
    matrix[model[keep], dataset[keep]] = rows[column].to_numpy(dtype=np.float64, na_value=np.nan)[keep]
    return matrix


def seconds_per_dataset(
    scores: pd.DataFrame, method: str, model_ids: Sequence[str], dataset_ids: Sequence[str]
) -> float:
    """Mean over datasets of the seconds that scoring all candidates took; NaN where no cost was recorded."""
    seconds = score_matrix(scores, method, model_ids, dataset_ids, "seconds")
    present = np.isfinite(seconds)
    measured = present.any(axis=0)
    if not measured.any():
        return float("nan")
    return float(np.where(present, seconds, 0.0).sum(axis=0)[measured].mean())
