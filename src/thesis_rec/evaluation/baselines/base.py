"""What every baseline is given and must give, and how models, datasets and scores are laid out for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.tables import Floats, ModelTable, TaskTokens
from thesis_rec.evaluation.study import Study
from thesis_rec.knowledge.descriptors import pool_tokens, scales_of

#: (M, n) scores of all candidates for n tasks, NaN where the method can't say anything. A task whose ``dataset_id`` is
#: one of the training datasets is recognised as that dataset.
Scorer = Callable[[Sequence[TaskTokens]], Floats]

#: A method that learns from what :meth:`~thesis_rec.evaluation.study.Study.training` gives.
Baseline = Callable[[Study], Scorer]


def row_means(values: Floats) -> Floats:
    """(M,) mean of each row's values, NaN for a row without any."""
    return pd.DataFrame(values).mean(axis=1).to_numpy()


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
    table = pd.DataFrame(scores)
    return table.fillna(table.groupby(list(families)).transform("mean")).fillna(table.mean()).to_numpy()


def dataset_space(training: Sequence[TaskTokens]) -> Scorer:
    """From datasets to (n, F) standardised pooled tokens, fitted on training datasets.

    Every block counts alike, however long: standardised columns are divided by the root of the block's length.
    """
    from sklearn.preprocessing import StandardScaler

    def pooled(tasks: Sequence[TaskTokens]) -> Floats:
        return np.stack([np.concatenate(pool_tokens(task)) for task in tasks])

    scaler = StandardScaler().fit(pooled(training))
    scaler.scale_ *= scales_of("tokens", 0, training[0].features.shape[2], 1.0)
    return lambda tasks: scaler.transform(pooled(tasks))


def recognise(scores: Floats, tasks: Sequence[TaskTokens], fitted: Floats, training: Study) -> Floats:
    """(M, n) scores, of training datasets those that were fitted there, the columns of (M, N)."""
    column = {dataset: j for j, dataset in enumerate(training.dataset_ids)}
    for i, task in enumerate(tasks):
        if task.dataset_id in column:
            scores[:, i] = fitted[:, column[task.dataset_id]]
    return scores


def model_coordinates(models: ModelTable, known: NDArray[np.bool_], components: int = 24) -> Floats:
    """(M, F) description of all models: principal components of embedding and responses, and size.

    Directions and scales are fitted on known models only. Components keep their relative variance and blocks count
    alike, as in :func:`dataset_space`.

    Args:
        models: All models.
        known: (M,) which of them may be fitted on.
        components: Largest number of principal components per block.
    """
    # Baselines are given all that the recommender is given.
    blocks = [block for block in (models.embedding, models.reference, models.subtasks) if block is not None]
    parts = [_principal(np.asarray(block, dtype=np.float64), known, components) for block in blocks]
    size = np.log1p(np.asarray(models.n_parameters, dtype=np.float64))[:, None]
    spread = max(float(size[known].std()), 1e-9)
    # Size is one number among blocks of many: it counts as a third of a block.
    parts.append((size - size[known].mean()) / spread / 3**0.5)
    return np.concatenate(parts, axis=1)


def _principal(block: Floats, known: NDArray[np.bool_], components: int) -> Floats:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
    # An unknown model may lie far outside; a few standard deviations say as much as hundreds.
    standard = np.clip(StandardScaler().fit(block[known]).transform(block), -6.0, 6.0)
    pca = PCA(min(components, *block[known].shape), svd_solver="full").fit(standard[known])
    coordinates: Floats = pca.transform(standard)[:, pca.singular_values_ > 1e-9]
    return coordinates / max(float(np.sqrt((coordinates[known] ** 2).sum(axis=1).mean())), 1e-9)
