"""Models from afar: what is believed of one whose size lies outside that of all measured models.

No regression over the measured models reaches it, and what it was made for is rarely what they were. What such models
do was measured: see :data:`ADVANTAGE`. It shares with the measured models only how hard the dataset is for all of them,
so that a try of it says nothing of one of them in particular, but of other models from afar.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import ModelTable
from thesis_rec.knowledge.posterior import Posterior, any_of

#: How far a model from afar lies above the mean of the measured ones, on the scale of
#: :class:`~thesis_rec.knowledge.posterior.Scale`: its mean, the standard deviation that all such models share on a
#: dataset, and that of one beside the others. Of nine real checkpoints of more weights than any model of the embedded
#: zoo, which are four kinds, on eight real datasets (``data/01_raw/real/performance_records.parquet``), by analysis of
#: variance of datasets and kinds. The deviations of datasets, 0.53, and of kinds, 0.24, are widened to what they say of
#: a further one: Student's t of seven and of three degrees of freedom at 90 %, and the error of the mean.
ADVANTAGE = (1.17, 0.65, 0.42)


def size_range(models: ModelTable, measured: Collection[str]) -> tuple[float, float] | None:
    """Fewest and most weights of the measured models; None where no size is known."""
    known = np.isin(models.model_ids, list(measured))
    sizes = np.asarray(models.n_parameters, dtype=np.float64)[known]
    sizes = sizes[sizes > 0]
    return (float(sizes.min()), float(sizes.max())) if len(sizes) else None


def strangers(models: ModelTable, measured: Collection[str]) -> NDArray[np.bool_]:
    """(M,) which models were never measured and are smaller or larger than all that were.

    Args:
        models: M models; one whose weights were never counted (0) is a stranger as well.
        measured: Identifiers of the measured models.
    """
    limits = size_range(models, measured)
    if limits is None:
        return np.zeros(len(models), dtype=bool)
    sizes = np.asarray(models.n_parameters, dtype=np.float64)
    return ~np.isin(models.model_ids, list(measured)) & ((sizes < limits[0]) | (sizes > limits[1]))


def with_strangers(belief: Posterior, strange: NDArray[np.bool_], like: NDArray[np.bool_] | None = None) -> Posterior:
    """The belief in which a stranger does as models from afar do, or is a random one of some models.

    Args:
        belief: Of M models, before any cell is given: one row may not stand for another afterwards.
        strange: (M,) which of them are strangers.
        like: (M,) which of them it could be. By default it lies above the mean of all others as models from afar were
            measured to, so that how the others differ among themselves isn't added.
    """
    others = ~strange if like is None else like
    if not strange.any() or not others.any():
        return belief
    mean, factor, own = belief.mean.copy(), belief.factor.copy(), belief.own.copy()
    middle, common, apart = any_of(mean[others], factor[others], own[others])
    if like is None:
        advantage, together, alone = ADVANTAGE
        middle, apart = middle + advantage, alone**2
        # A column of their own: a try of one says what the others may do.
        factor, common = np.column_stack([factor, np.zeros(len(mean))]), np.append(common, together)
    mean[strange], factor[strange], own[strange] = middle, common, apart
    return replace(belief, mean=mean, factor=factor, own=own)
