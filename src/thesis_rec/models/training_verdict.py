"""Whether a checkpoint was ever trained, by its weights alone.

A logistic regression on how far the body's matrices are from random ones, fitted by ``benchmarks/weights.py`` to the
embedded zoo's trained models and to random checkpoints of the same architectures. The median over all layers and the
mean of the last third are used: training changes late layers first, and one outlier of an initialiser moves a mean.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thesis_rec.models.spectra import NAMES

#: The numbers that are read, of the magnitudes of which logarithms are taken.
READ = tuple(
    f"body.{place}.{name}"
    for place in ("median", "last")
    for name in ("largest", "participation", "row_alignment", "column_alignment")
)
#: What was fitted: a weight for each number, and the constant.
WEIGHTS = (0.631, 0.565, 0.17, 0.755, 1.722, 0.505, 0.676, 0.212)
CONSTANT = 16.974
_COLUMNS = [NAMES.index(name) for name in READ]


@dataclass(frozen=True)
class Verdict:
    """What weights say about training.

    Attributes:
        probability: Of never having been trained.
        untrained: Whether that is more likely than not.
        reason: A sentence for people.
    """

    probability: float
    untrained: bool
    reason: str


def looks_untrained(description: ArrayLike) -> Verdict | None:
    """Whether a model's weights look like an initialisation.

    Args:
        description: (P,) its numbers, named by :data:`thesis_rec.models.spectra.NAMES`; one that it lacks is NaN or 0.

    Returns:
        None where nothing can be said, because the checkpoint has no matrices besides a first layer and a head.
    """
    numbers = np.nan_to_num(np.asarray(description, dtype=np.float64))
    if numbers[_COLUMNS[0]] == 0:
        return None
    odds = float(distances(numbers[None])[0] @ np.array(WEIGHTS) + CONSTANT)
    probability = float(1 / (1 + np.exp(np.clip(odds, -500, 500))))
    typical = np.exp(numbers[_COLUMNS[0]])
    told = f"the largest singular value of its typical layer is {typical:.2f} times that of a random matrix"
    if probability > 0.5:
        return Verdict(probability, True, f"Its weights look untrained ({probability:.0%}): {told}.")
    return Verdict(probability, False, f"Its weights look trained ({1 - probability:.0%}): {told}.")


def distances(spectra: NDArray[np.floating]) -> NDArray[np.float64]:
    """(M, P) descriptions to (M, 8) logarithms of how far the body is from random; what is missing counts as random."""
    chosen = np.nan_to_num(np.abs(np.asarray(spectra, dtype=np.float64)[:, _COLUMNS]))
    return np.log(chosen + 0.01)
