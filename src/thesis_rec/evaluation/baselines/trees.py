"""Boosted trees on model embeddings and pooled tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thesis_rec.base.tables import TaskTokens, z_scores
from thesis_rec.evaluation.baselines import base
from thesis_rec.evaluation.baselines.base import Floats, Scorer
from thesis_rec.evaluation.study import Study

#: Principal coordinates on either side.
_COMPONENTS = 8


def boosted_trees(training: Study) -> Scorer:
    """Gradient boosting of z-scores on pairs (``HistGradientBoostingRegressor`` of scikit-learn).

    A pair's features are the model's principal coordinates, its mean z-score over the other training datasets (missing
    for unknown models) and the dataset's principal coordinates. To teach the trees what to do without a mean z-score,
    a part of the training pairs has it removed.
    """
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(training.seed)
    z = z_scores(training.values)
    space = base.dataset_space(training.tasks)
    points = space(training.tasks)
    pca = PCA(min(_COMPONENTS, *points.shape), random_state=training.seed).fit(points)
    models = base.model_coordinates(training.models, training.known, _COMPONENTS)
    prior = base.row_means(z)
    rows, columns = np.nonzero(np.isfinite(z))
    # The pair's own value must not be in its prior.
    others = base.row_means_of_others(z, np.array(training.dataset_ids))[rows, columns]
    others[rng.random(len(rows)) < 0.2] = np.nan
    if not np.isfinite(others).any():
        # Every model was measured on one dataset only; the library can't bin a column of nothing.
        others[:] = 0.0
    features = np.column_stack([models[rows], others, pca.transform(points)[columns]])
    trees = HistGradientBoostingRegressor(l2_regularization=1.0, early_stopping=False, random_state=training.seed)
    # On a busy machine OpenMP's waiting threads cost more than a second thread gains on data of this size.
    with threadpool_limits(1, user_api="openmp"):
        trees.fit(features, z[rows, columns])

    def score(tasks: Sequence[TaskTokens]) -> Floats:
        sides = np.column_stack([models, prior])
        there = np.repeat(pca.transform(space(tasks)), len(models), axis=0)
        with threadpool_limits(1, user_api="openmp"):
            predicted: Floats = trees.predict(np.column_stack([np.tile(sides, (len(tasks), 1)), there]))
        return predicted.reshape(len(tasks), len(models)).T

    return score
