"""What a ranker has to beat, all behind one interface.

``make_baseline(name).fit(training).predict(tasks)`` gives (M, n) scores. Models without any measured value get their
family's mean score, else the mean of all, unless the method has a way of its own (or none at all: learned tokens).
"""

from __future__ import annotations

from thesis_rec.evaluation.baselines.base import (
    Baseline,
    TrainingSet,
    fill_by_family,
    row_means,
    row_means_of_others,
    score_matrix,
    seconds_per_dataset,
    z_scores,
)
from thesis_rec.evaluation.baselines.collaborative import (
    MatrixFactorisation,
    NearestDataset,
    ParameterCount,
    RandomOrder,
    StaticMeanAccuracy,
    StaticMeanRank,
    StaticMeanZ,
)
from thesis_rec.evaluation.baselines.learned_token import LearnedToken
from thesis_rec.evaluation.baselines.regression import KernelRidge, Ridge
from thesis_rec.evaluation.baselines.trees import BoostedTrees

_CLASSES: tuple[type[Baseline], ...] = (
    RandomOrder,
    ParameterCount,
    StaticMeanAccuracy,
    StaticMeanZ,
    StaticMeanRank,
    NearestDataset,
    MatrixFactorisation,
    LearnedToken,
    Ridge,
    KernelRidge,
    BoostedTrees,
)

#: Names of all baselines, in the order of the tables.
BASELINES = tuple(kind.name for kind in _CLASSES)

STATIC = ("static_mean_accuracy", "static_mean_z", "static_mean_rank")

__all__ = [
    "BASELINES",
    "STATIC",
    "Baseline",
    "TrainingSet",
    "fill_by_family",
    "make_baseline",
    "row_means",
    "row_means_of_others",
    "score_matrix",
    "seconds_per_dataset",
    "z_scores",
]


def make_baseline(name: str) -> Baseline:
    """A new baseline.

    Raises:
        ValueError: If the name is unknown.
    """
    for kind in _CLASSES:
        if kind.name == name:
            return kind()
    raise ValueError(f"unknown baseline {name!r}; known: {', '.join(BASELINES)}")
