"""What weights alone say of models that were never measured: whether they were trained at all, and what they are of."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from thesis_rec.base.errors import listed
from thesis_rec.base.tables import ModelTable
from thesis_rec.knowledge.posterior import Posterior, with_strangers
from thesis_rec.models.training_verdict import RELATED, SAME, Verdict, looks_untrained, weight_distances

#: Measured models whose weights must be known to say how far apart models are.
_LEAST = 20


def verdicts(models: ModelTable, judged: Collection[str]) -> dict[str, Verdict]:
    """Whether some of the models were trained, of those whose weights were read."""
    if models.spectra is None:
        return {}
    return {
        model: verdict
        for model, numbers in zip(models.model_ids, models.spectra, strict=True)
        if model in judged and np.isfinite(numbers).all() and (verdict := looks_untrained(numbers)) is not None
    }


def _untrained(found: Mapping[str, Verdict]) -> list[str]:
    return [model for model, verdict in found.items() if verdict.untrained]


def told_by_weights(models: ModelTable, measured: set[str]) -> tuple[dict[str, list[str]], list[str]]:
    """What is to be said of models that were never measured: sentences on each, and what the user must know."""
    found = verdicts(models, set(models.model_ids) - measured)
    notes = []
    if untrained := _untrained(found):
        notes.append(f"By its weights alone this looks untrained, and is placed as such: {listed(untrained, 3)}.")
    told = {model: [verdict.reason, *_relative(models, measured, model, verdict)] for model, verdict in found.items()}
    return told, notes


def _relative(models: ModelTable, measured: set[str], model: str, verdict: Verdict) -> list[str]:
    """The model that it was fine-tuned from or into, in a sentence; nothing where none is that near."""
    names = models.model_ids
    table = np.asarray(models.spectra, dtype=np.float64)
    known = np.isin(names, list(measured)) & np.isfinite(table).all(axis=1)
    # Untrained networks of an architecture are all alike; a few models don't say how far apart models are.
    if verdict.untrained or known.sum() < _LEAST:
        return []
    own = names.index(model)
    distance = weight_distances(table[own], table, table[known].std(0))
    distance[own] = np.inf
    nearest = int(distance.argmin())
    if distance[nearest] < SAME:
        return [f"Its weights are those of {names[nearest]}."]
    if distance[nearest] < RELATED:
        return [f"Its weights are near those of {names[nearest]}: one is a fine-tune of the other, or both of a third."]
    return []


def with_untrained(belief: Posterior, models: ModelTable, measured: set[str]) -> Posterior:
    """The belief in which a model that looks untrained does as untrained models do.

    It is a random one of the measured models that look untrained. Where none of these is, it is expected to lie between
    chance and the weakest model, as uncertain as before.

    Args:
        belief: Of the models, before any cell is given: one row may not stand for another afterwards.
        models: The models.
        measured: Those that were measured.
    """
    rows = np.isin(belief.model_ids, _untrained(verdicts(models, set(models.model_ids) - measured)))
    if not rows.any() or rows.all():
        return belief
    like = np.isin(belief.model_ids, _untrained(verdicts(models, measured)))
    if like.any():
        return with_strangers(belief, rows, like)
    mean = belief.mean.copy()
    mean[rows] = (belief.scale.latent(belief.scale.chance) + belief.mean[~rows].min()) / 2
    return replace(belief, mean=mean)
