"""What a ranker has to beat: functions that learn from a study and give a function that scores tasks.

``baseline(name)(training)(tasks)`` gives (M, n) scores. Models without any measured value get their family's mean
score, else the mean of all, unless the method has a way of its own (or none at all: learned tokens).
"""

from __future__ import annotations

from thesis_rec.evaluation.baselines import collaborative, regression
from thesis_rec.evaluation.baselines.base import Baseline, Scorer
from thesis_rec.evaluation.baselines.trees import boosted_trees
from thesis_rec.evaluation.study import Study


def learned_token(training: Study) -> Scorer:
    """Cross-attention of learned model tokens over class means, trained by a listwise loss (ListMLE)."""
    # The only one that needs torch, for which commands that read settings don't wait.
    from thesis_rec.evaluation.baselines.learned_token import train

    return train(training)


_FUNCTIONS: dict[str, Baseline] = {
    function.__name__: function
    for function in (
        collaborative.random,
        collaborative.parameter_count,
        collaborative.static_mean_accuracy,
        collaborative.static_mean_z,
        collaborative.static_mean_rank,
        collaborative.nearest_dataset,
        collaborative.matrix_factorisation,
        regression.ridge,
        regression.kernel_ridge,
        boosted_trees,
        learned_token,
    )
}

#: Names of all baselines.
BASELINES = tuple(_FUNCTIONS)


def baseline(name: str) -> Baseline:
    """The baseline of a name.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}; known: {', '.join(BASELINES)}")
    return _FUNCTIONS[name]
