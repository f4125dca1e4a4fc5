"""Whether a checkpoint was ever trained, and which come from one another, by their weights alone.

What tells of training is a logistic regression on how far the body's matrices are from random ones, fitted by
``benchmarks/weights.py`` to the embedded zoo's trained models and to random checkpoints of the same architectures. The
median over all layers and the mean of the last third are used: training changes late layers first, and one outlier of
an initialiser moves a mean.

Fine-tuning moves weights little, so that copies and fine-tunes have nearly the same numbers, and independent trainings
of one architecture don't. Two *untrained* networks of an architecture are alike as well, without being related.
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


Floats = NDArray[np.floating]

#: Distance below which the weights are the same, rounded perhaps, and below which one comes from the other or both from
#: a third: ``benchmarks/weights.py`` finds no two independent trainings of the embedded zoo that near.
SAME, RELATED = 0.01, 0.2
_COMPARED = [i for i, name in enumerate(NAMES) if name.startswith(("stem.", "body."))]
_TENSORS = NAMES.index("size.tensors")


def weight_distances(one: Floats, others: Floats, spread: Floats) -> NDArray[np.float64]:
    """How far a model's weights are from those of others.

    Args:
        one: (P,) description of the model, as :func:`thesis_rec.models.spectra.describe` gives it.
        others: (M, P) descriptions.
        spread: (P,) standard deviation of each number over many models.

    Returns:
        (M,) root mean square of the differences of first layer and body in these deviations; infinite for a model with
        another number of tensors, which is of another architecture.
    """
    gaps = np.nan_to_num(others - one)[:, _COMPARED] / np.maximum(spread[_COMPARED], 1e-6)
    alike = np.abs(others[:, _TENSORS] - one[_TENSORS]) < 5e-3  # logarithms in half precision; never of what is NaN
    return np.where(alike, np.sqrt(np.square(np.clip(gaps, -4, 4)).mean(1)), np.inf)
