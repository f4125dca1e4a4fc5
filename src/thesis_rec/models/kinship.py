"""Which checkpoints come from one another, by what their weights show against random ones.

Fine-tuning moves weights little, so that copies and fine-tunes have nearly the same numbers, and independent trainings
of one architecture don't. Two *untrained* networks of an architecture are alike as well, without being related.
"""

import numpy as np
from numpy.typing import NDArray

from thesis_rec.models.spectra import NAMES

Floats = NDArray[np.floating]

#: Distance below which the weights are the same, rounded perhaps, and below which one comes from the other or both from
#: a third: ``benchmarks/weights.py`` finds no two independent trainings of the embedded zoo that near.
SAME, RELATED = 0.01, 0.2
_READ = [i for i, name in enumerate(NAMES) if name.startswith(("stem.", "body."))]
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
    gaps = np.nan_to_num(others - one)[:, _READ] / np.maximum(spread[_READ], 1e-6)
    alike = np.abs(others[:, _TENSORS] - one[_TENSORS]) < 5e-3  # logarithms in half precision; never of what is NaN
    return np.where(alike, np.sqrt(np.square(np.clip(gaps, -4, 4)).mean(1)), np.inf)
