"""What a ranker has to beat, all behind one interface.

``make_baseline(name).fit(training).predict(tasks)`` gives (M, n) scores. Models without any measured value get their
family's mean score, else the mean of all, unless the method has a way of its own (or none at all: learned tokens).
"""

from __future__ import annotations

from thesis_rec.evaluation.baselines import collaborative
from thesis_rec.evaluation.baselines.base import Baseline
from thesis_rec.evaluation.baselines.regression import KernelRidge, Ridge
from thesis_rec.evaluation.baselines.trees import BoostedTrees

_CLASSES: dict[str, type[Baseline]] = {
    kind.name: kind
    for kind in (
        collaborative.RandomOrder,
        collaborative.ParameterCount,
        collaborative.StaticMeanAccuracy,
        collaborative.StaticMeanZ,
        collaborative.StaticMeanRank,
        collaborative.NearestDataset,
        collaborative.MatrixFactorisation,
        Ridge,
        KernelRidge,
        BoostedTrees,
    )
}

#: Names of all baselines.
BASELINES = (*_CLASSES, "learned_token")


def make_baseline(name: str) -> Baseline:
    """A new baseline.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}; known: {', '.join(BASELINES)}")
    if name == "learned_token":
        # The only one that needs torch, for which commands that read settings don't wait.
        from thesis_rec.evaluation.baselines.learned_token import LearnedToken

        return LearnedToken()
    return _CLASSES[name]()
