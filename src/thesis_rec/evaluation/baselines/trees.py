"""Boosted trees on model embeddings and pooled tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thesis_rec.base.tables import TaskTokens, z_scores
from thesis_rec.evaluation.baselines.base import (
    Baseline,
    Floats,
    dataset_space,
    model_coordinates,
    pooled,
    row_means,
)
from thesis_rec.evaluation.study import Study


class BoostedTrees(Baseline):
    """Gradient boosting of z-scores on pairs (``HistGradientBoostingRegressor`` of scikit-learn).

    A pair's features are the model's principal coordinates, its mean z-score over the other training datasets (missing
    for unknown models) and the dataset's principal coordinates. To teach the trees what to do without a mean z-score,
    a part of the training pairs has it removed.
    """

    name = "boosted_trees"
    #: Principal coordinates on either side, trees, and training pairs at most: more are drawn at random.
    components, iterations, max_pairs = 8, 100, 60_000

    def fit(self, training: Study) -> BoostedTrees:
        """Train on all measured cells."""
        from sklearn.decomposition import PCA
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits

        rng = np.random.default_rng(training.seed)
        z = z_scores(training.values)
        self._space = dataset_space(training.tasks)
        points = self._space.transform(pooled(training.tasks))
        count = min(self.components, *points.shape)
        self._pca: Any = PCA(count, random_state=training.seed).fit(points)
        self._models = model_coordinates(training.models, training.known, self.components)
        self._prior = row_means(z)
        rows, columns = np.nonzero(np.isfinite(z))
        if len(rows) > self.max_pairs:
            keep = rng.choice(len(rows), self.max_pairs, replace=False)
            rows, columns = rows[keep], columns[keep]
        # The pair's own value must not be in its prior.
        measured = np.isfinite(z).sum(axis=1)[rows]
        others = (self._prior[rows] * measured - z[rows, columns]) / np.maximum(measured - 1, 1)
        others = np.where(measured > 1, others, np.nan)
        others[rng.random(len(rows)) < 0.2] = np.nan
        if not np.isfinite(others).any():
            # Every model was measured on one dataset only; the library can't bin a column of nothing.
            others[:] = 0.0
        features = np.column_stack([self._models[rows], others, self._pca.transform(points)[columns]])
        self._trees: Any = HistGradientBoostingRegressor(
            max_iter=self.iterations,
            learning_rate=0.1,
            max_leaf_nodes=31,
            min_samples_leaf=20,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=training.seed,
        )
        # On a busy machine OpenMP's waiting threads cost more than a second thread gains on data of this size.
        with threadpool_limits(1, user_api="openmp"):
            self._trees.fit(features, z[rows, columns])
        return self

    def predict(self, tasks: Sequence[TaskTokens]) -> Floats:
        """(M, n) predicted z-scores."""
        from threadpoolctl import threadpool_limits

        size = len(self._models)
        points = self._pca.transform(self._space.transform(pooled(tasks)))
        sides = np.column_stack([self._models, self._prior])
        pairs = np.column_stack([np.tile(sides, (len(tasks), 1)), np.repeat(points, size, axis=0)])
        with threadpool_limits(1, user_api="openmp"):
            predicted: Floats = self._trees.predict(pairs).reshape(len(tasks), size).T
        return predicted
