"""Models from afar: what is believed of one whose size, resolution or corpus is that of no measured model.

One of another size no regression over the measured models reaches, and what it was made for is rarely what they were.
What such models do was measured: see :data:`ADVANTAGE`. It shares with the measured models only how hard the dataset is
for all of them, so that a try of it says nothing of one of them in particular, but of other models from afar.

One of another resolution or corpus could be any of the measured ones: intervals of 90 % of a random one of open_clip's
models hold .90 to .96 of the figures of a corpus that was left out, and .83 to .97 of those of a resolution.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.knowledge.posterior import Posterior, View, any_of

#: How far a model from afar lies above the mean of the measured ones, on the scale of
#: :class:`~thesis_rec.knowledge.posterior.Scale`: its mean, the standard deviation that all such models share on a
#: dataset, and that of one beside the others. Of nine real checkpoints of more weights than any model of the embedded
#: zoo, which are four kinds, on eight real datasets (``data/01_raw/real/performance_records.parquet``), by analysis of
#: variance of datasets and kinds. The deviations of datasets, 0.53, and of kinds, 0.24, are widened to what they say of
#: a further one: Student's t of seven and of three degrees of freedom at 90 %, and the error of the mean.
ADVANTAGE = (1.17, 0.65, 0.42)


def strangers(about: pd.DataFrame, measured: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Never measured models that lie outside of all that were, each with what sets it apart.

    Args:
        about: Of each model, by model_id, ``n_parameters`` (0 where the weights were never counted: such a model is a
            stranger as well), ``resolution`` and ``corpus``, which may be missing.
        measured: Identifiers of the measured models.

    Returns:
        Those of another size; and those of a resolution or corpus that no measured model has.
    """
    known = about.index.isin(list(measured))
    usual, others = about[known], about[~known]

    def outside(column: str, text: str) -> dict[str, str]:
        values = usual[column][usual[column] > 0]
        low, high = values.min(), values.max()
        # With nothing known both ends are missing, and nothing lies outside.
        apart = others[column][(others[column] < low) | (others[column] > high)]
        uncounted = "its weights were never counted"
        return {str(one): text.format(value, low, high) if value > 0 else uncounted for one, value in apart.items()}

    of_another_size = outside("n_parameters", "it has {:,.0f} weights, the measured models have {:,.0f} to {:,.0f}")
    corpora, told = set(usual["corpus"].dropna()), others["corpus"].dropna()
    unheard = told[~told.isin(corpora)] if corpora else told[:0]
    learned = {str(one): f"it learned from {corpus}, which no measured model did" for one, corpus in unheard.items()}
    sees = "it sees images of {:.0f} pixels, the measured models of {:.0f} to {:.0f}"
    return of_another_size, learned | outside("resolution", sees)


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

    def changed(view: View) -> View:
        mean, factor, own = view.mean.copy(), view.factor.copy(), view.own.copy()
        middle, common, apart = any_of(mean[others], factor[others], own[others])
        if like is None:
            advantage, together, alone = ADVANTAGE
            middle, apart = middle + advantage, alone**2
            # A column of their own: a try of one says what the others may do.
            factor, common = np.column_stack([factor, np.zeros(len(mean))]), np.append(common, together)
        mean[strange], factor[strange], own[strange] = middle, common, apart
        return replace(view, mean=mean, factor=factor, own=own)

    return belief.changed(changed)
