"""Rankings for left-out datasets of a published table: what answers requests, baselines, and the thesis's network.

A table with some datasets, models and cells left out is a :class:`~thesis_rec.evaluation.study.Study`, and every method
is asked as on the project's own zoo. Published tables have neither weights nor images: of a model it is known what its
card says, and of a dataset where it lies among the others, if distances are published.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thesis_rec.evaluation.baselines import make_baseline
from thesis_rec.evaluation.baselines.base import fill_by_family, row_means
from thesis_rec.evaluation.external.tables import NATURAL, SHARED_IMAGES, PublishedTable
from thesis_rec.evaluation.quadrant_evaluation import RECOMMENDER, posterior_scores
from thesis_rec.evaluation.study import Study
from thesis_rec.knowledge.quadrants import Split

Floats = NDArray[np.floating]

#: (M, N) scores of all models on all datasets of a table, learned from what the study allows.
Method = Callable[[PublishedTable, Study], Floats]


def study_of(
    table: PublishedTable,
    unknown: Collection[str] = (),
    known: NDArray[np.bool_] | None = None,
    hidden: NDArray[np.bool_] | None = None,
    *,
    strict: bool = False,
    seed: int = 0,
) -> Study:
    """A table of which some things are left out.

    Args:
        table: The published table.
        unknown: Datasets that are unknown; the others are trained on.
        known: (M,) models that may be learned from; all by default.
        hidden: (M, N) further cells that must not be looked at; none by default.
        strict: Whether datasets that share images with an unknown one are left out too.
        seed: Seed of random methods.
    """
    models, datasets = table.model_ids, table.dataset_ids
    listed = [True] * len(models) if known is None else known.tolist()
    shared = {other for name in unknown for other in SHARED_IMAGES.get(name, ())} if strict else set()
    roles = {name: "test" if name in unknown else "train" for name in datasets if name in unknown or name not in shared}
    cells = {} if hidden is None else {(models[i], datasets[j]): "test" for i, j in np.argwhere(hidden)}
    groups = ["natural" if name.lower() in NATURAL else "specialised" for name in datasets]
    split = Split(dict(zip(models, listed, strict=True)), roles, cells)
    return Study(table.models, table.tokens, table.values, split, datasets, groups, seed=seed)


def posterior(table: PublishedTable, study: Study) -> Floats:
    """What answers requests, learned from the table alone."""
    return posterior_scores(study, study.knowledge()).score


def nearest_dataset(table: PublishedTable, study: Study) -> Floats:
    """Values on the nearest training dataset by the published distances; a known model that misses there is unranked.

    Raises:
        ValueError: If no distances are published.
    """
    if table.distances is None:
        raise ValueError(f"{table.name} publishes no distances between datasets")
    training = study.training_set()
    score = training.values[:, table.distances[:, study.columns("train")].argmin(axis=1)]
    return np.where(training.known[:, None], score, fill_by_family(score, table.families))


def metadata_ridge(table: PublishedTable, study: Study) -> Floats:
    """Ridge regression of the mean z-score on the models' metadata: also for models never tried."""
    from sklearn.linear_model import Ridge

    target, features = row_means(study.training_set().standardised()), table.models.embedding.astype(np.float64)
    rows = np.isfinite(target)
    score = Ridge(10.0).fit(features[rows], target[rows]).predict(features)
    return np.repeat(score[:, None], len(table.dataset_ids), axis=1)


def baseline(name: str) -> Method:
    """One of the project's baselines."""
    return lambda table, study: make_baseline(name).fit(study.training_set()).predict(study.tasks)


def simple_methods(table: PublishedTable) -> dict[str, Method]:
    """What answers requests, and the baselines that the table has the data for."""
    names = ["random", "static_mean_accuracy", "static_mean_z", "static_mean_rank", "matrix_factorisation"]
    if np.isfinite(table.n_parameters).any():
        names.append("parameter_count")
    found = {RECOMMENDER: posterior, **{name: baseline(name) for name in names}, "metadata_ridge": metadata_ridge}
    return found if table.distances is None else {**found, "nearest_dataset": nearest_dataset}


@dataclass(frozen=True)
class TrainedRanker:
    """A :class:`~thesis_rec.thesis.similarity_transformer.SimilarityTransformer` trained anew for each study.

    Attributes:
        epochs: Passes over the training datasets.
        width: Of all representations.
        validation: Training datasets on which training is stopped.
    """

    epochs: int = 15
    width: int = 32
    validation: int = 2

    def __call__(self, table: PublishedTable, study: Study) -> Floats:
        """(M, N) scores."""
        from thesis_rec.evaluation.quadrant_evaluation import network_scores
        from thesis_rec.thesis.similarity_training import Material, TaskSet, train_ranker
        from thesis_rec.training.settings import FitSettings, RankerTraining

        training = study.training_set()
        known = np.flatnonzero(training.known)
        order = np.random.default_rng([study.seed, len(known)]).permutation(len(training.tokens))
        held, shown = (
            TaskSet(
                [training.tokens[j] for j in part], training.values[np.ix_(known, part)].T.astype(np.float64)
            ).usable()
            for part in (order[: self.validation], order[self.validation :])
        )
        with tempfile.TemporaryDirectory() as folder:
            ranker, _ = train_ranker(
                Material(table.models.select(known), shown, held),
                {"width": self.width, "n_layers": 1, "n_heads": 4, "rank": 4, "dropout": 0.2},
                RankerTraining(models_per_step=128, tasks_per_epoch=48),
                FitSettings(epochs=self.epochs, batch_size=8, learning_rate=2e-3, accelerator="cpu", resume=False),
                Path(folder),
                seed=study.seed,
            )
        return network_scores(study, ranker).score
