"""What a ranker has to beat, all behind one interface.

``make_baseline(name).fit(training).predict(tasks)`` gives (M, n) scores. Models without any measured value get their
family's mean score, else the mean of all, unless the method has a way of its own (or none at all: learned tokens).
"""

from __future__ import annotations

from thesis_rec.evaluation.baselines import collaborative
from thesis_rec.evaluation.baselines.base import Baseline
from thesis_rec.evaluation.baselines.learned_token import LearnedToken
from thesis_rec.evaluation.baselines.regression import KernelRidge, Ridge
from thesis_rec.evaluation.baselines.trees import BoostedTrees

_CLASSES: tuple[type[Baseline], ...] = (
    collaborative.RandomOrder,
    collaborative.ParameterCount,
    collaborative.StaticMeanAccuracy,
    collaborative.StaticMeanZ,
    collaborative.StaticMeanRank,
    collaborative.NearestDataset,
    collaborative.MatrixFactorisation,
    LearnedToken,
    Ridge,
    KernelRidge,
    BoostedTrees,
)

#: Names of all baselines, in the order of the tables.
BASELINES = tuple(kind.name for kind in _CLASSES)


def make_baseline(name: str) -> Baseline:
    """A new baseline.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}; known: {', '.join(BASELINES)}")
    return _CLASSES[BASELINES.index(name)]()
