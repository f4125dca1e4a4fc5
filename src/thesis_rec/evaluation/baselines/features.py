"""Fixed-length descriptions of datasets and models for baselines that regress on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.knowledge.descriptors import pool_tokens

Floats = NDArray[np.floating]


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
