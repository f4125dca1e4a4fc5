"""Fixed-length descriptions of datasets and models for baselines that regress on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thesis_rec.thesis.ranking_data import ModelTable, TaskTokens

Floats = NDArray[np.floating]

#: Length of the scalar part of :func:`pool_tokens`.
N_SCALARS = 12


def pool_tokens(task: TaskTokens) -> tuple[Floats, Floats, Floats, Floats]:
    """Pool a dataset's tokens (B, C, D) to a length that depends on D alone.

    Returns:
        Mean token (D,), spread of the class means (D,), spread within classes (D,), and :data:`N_SCALARS` scalars:
        log numbers of classes and images, leave-one-batch-out accuracy of the nearest class mean (plain, and above
        chance), between- and within-class variance with their log ratio, mean and largest cosine between class means,
        and the share of variance that the first 1, 2 and 4 directions of the class means hold.
    """
    features = np.asarray(task.features, dtype=np.float64)
    batches, classes, _ = features.shape
    means = features.mean(axis=0)
    centre = means.mean(axis=0)
    between = means.std(axis=0)
    within = features.std(axis=0).mean(axis=0) if batches > 1 else np.zeros_like(centre)
    accuracy = _nearest_mean_accuracy(features)
    chance = 1.0 / max(classes, 1)
    var_between, var_within = float((between**2).sum()), float((within**2).sum())
    unit = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    cosine = unit @ unit.T
    off = cosine[~np.eye(classes, dtype=bool)] if classes > 1 else np.ones(1)
    spectrum = np.linalg.svd(means - centre, compute_uv=False) ** 2
    total = max(float(spectrum.sum()), 1e-12)
    scalars = np.array(
        [
            np.log(classes),
            np.log(max(task.n_images, 1)),
            accuracy,
            (accuracy - chance) / max(1 - chance, 1e-9),
            var_between,
            var_within,
            np.log((var_between + 1e-6) / (var_within + 1e-6)),
            float(off.mean()),
            float(off.max()),
            *(float(spectrum[:k].sum()) / total for k in (1, 2, 4)),
        ]
    )
    return centre, between, within, scalars


def _nearest_mean_accuracy(features: Floats) -> float:
    """Share of tokens whose class mean, taken over the other batches, is the nearest by cosine."""
    batches, classes, _ = features.shape
    if batches < 2 or classes < 2:
        return 1.0 if classes < 2 else 1.0 / classes
    others = (features.sum(axis=0) - features) / (batches - 1)
    others /= np.maximum(np.linalg.norm(others, axis=-1, keepdims=True), 1e-12)
    # (B, C, D) x (B, C, D) -> (B, C, C): a token against the class means of the other batches.
    similarity = features @ others.transpose(0, 2, 1)
    return float((similarity.argmax(axis=-1) == np.arange(classes)).mean())


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
