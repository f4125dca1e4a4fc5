"""From what is known of a model that was never measured to what to expect of it.

A Gaussian process over descriptions: kind of pre-training, family and corpus are equal or not; size, resolution and
ImageNet accuracy count along lines. ImageNet figures of a classification head, a linear probe and a prompt aren't
comparable, so each is taken relative to the mean of models of the same kind. What a model lacks is left out of its
kernel and thereby widens its interval. Strengths are fixed: see :data:`STRENGTHS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.knowledge.covariance import Covariance
from thesis_rec.knowledge.kernels import Floats

#: Columns of a description; the first three are names, the others numbers, and any may be missing.
COLUMNS = ["kind", "family", "corpus", "n_parameters", "resolution", "imagenet"]
#: Columns of a factor that new models have in common with one another.
_SHARED = 12


#: Share of a model's mean that each part of its description explains (variances add up to the total, with :data:`OWN`).
#: Fixed, as choosing among 24 by leaving out families (by likelihood or by differences within a family) is unstable.
#: These rank open_clip's models of families never seen at weighted tau .64 and of corpora never seen at .63 (.63, .60
#: where sizes are near or far instead of counting along a line, which makes the largest models average). The sweep
#: was made on the models that it is reported on.
STRENGTHS = {"kind": 0.3, "family": 0.1, "corpus": 0.1, "size": 0.4, "imagenet": 1.0}
#: Share that no description explains.
OWN = 0.05


@dataclass(frozen=True)
class Extension(Covariance):
    """What is expected of N models that were never measured: their own variances hold what stays open of each.

    Behind the factors of the measured models are those that models that are alike share of what stays open.

    Attributes:
        open: (N,) uncertainty of ``mean`` and ``factor``, shared or not.
    """

    open: Floats


def extend(
    measured: Sequence[str], known: Covariance, counts: NDArray[np.integer], new: Sequence[str], models: pd.DataFrame
) -> Extension:
    """Mean and factor of models from those of measured models.

    Args:
        measured: K models.
        known: What was learned of them.
        counts: (K,) cells of each: the mean of a model with few is itself uncertain.
        new: N models.
        models: Descriptions, indexed by model_id, with the columns :data:`COLUMNS`; a model without a row has none.
    """
    table = models.reindex(columns=COLUMNS)
    old_table, new_table = table.reindex(list(measured)), table.reindex(list(new))
    centre = float(np.average(known.mean, weights=np.maximum(counts, 1)))
    noise = known.own / np.maximum(counts, 1)
    targets = np.column_stack([known.mean - centre, known.factor])
    variance = float(np.average((known.mean - centre) ** 2))
    among = _covariance(old_table, old_table, old_table)
    across = _covariance(new_table, old_table, old_table)
    within = _covariance(new_table, new_table, old_table)
    solve = np.linalg.inv(among + np.diag(OWN + _unknown(old_table) + noise / variance))
    expected = across @ solve @ targets
    # What stays open, in units of the prior variance; the mean and every loading share the kernel.
    open_ = within - across @ solve @ across.T
    scale = variance + float(np.square(known.factor).mean(0).sum())
    values, vectors = np.linalg.eigh((open_ + open_.T) / 2 * scale)
    values = np.clip(values, 0.0, None)
    kept = np.argsort(-values)[:_SHARED]
    shared = vectors[:, kept] * np.sqrt(values[kept])
    full = np.clip(np.diag(open_), 0.0, None) * scale
    alone = (OWN + _unknown(new_table)) * scale
    apart = np.clip(full - np.square(shared).sum(1), 0.0, None) + alone
    factor = np.hstack([expected[:, 1:], shared])
    return Extension(centre + expected[:, 0], factor, known.own.mean() + apart, full + alone)


def _covariance(left: pd.DataFrame, right: pd.DataFrame, reference: pd.DataFrame) -> Floats:
    """(N, M) of models, over the parts of their description; numbers are relative to ``reference``."""
    parts = {}
    for column in ("kind", "family", "corpus"):
        a, b = left[column].astype("object").to_numpy(), right[column].astype("object").to_numpy()
        known = pd.notna(a)[:, None] & pd.notna(b)[None, :]
        parts[column] = (known & (a[:, None] == b[None, :])).astype(np.float64)
    parts["size"] = _sizes(left, reference) @ _sizes(right, reference).T
    a, b = _relative_imagenet(left, reference), _relative_imagenet(right, reference)
    # Half of the line's slope is common to all kinds, half is a kind's own.
    parts["imagenet"] = a[:, None] * b[None, :] * (0.5 + 0.5 * parts["kind"])
    return np.asarray(sum(STRENGTHS[name] * part for name, part in parts.items()))


def _unknown(table: pd.DataFrame) -> Floats:
    """(N,) shares of the parts of each description that are missing: their whole variance stays open."""
    columns = ["kind", "family", "corpus", "n_parameters", "imagenet"]
    return table[columns].isna().to_numpy(dtype=np.float64) @ np.array([*STRENGTHS.values()])


def _sizes(table: pd.DataFrame, reference: pd.DataFrame) -> Floats:
    """(N, 2) logarithms of parameters and resolution in standard deviations of ``reference``; 0 if unknown."""
    columns = ["n_parameters", "resolution"]
    counted = (part[columns].astype(float) for part in (table, reference))
    own, usual = (np.log(sizes.where(sizes > 0)) for sizes in counted)
    relative = (own - usual.mean()) / usual.std(ddof=0).clip(lower=0.1)
    return relative.fillna(0.0).to_numpy()


def _relative_imagenet(table: pd.DataFrame, reference: pd.DataFrame) -> Floats:
    """(N,) ImageNet accuracy beyond the mean of its kind, in standard deviations; 0 where unknown."""
    both = pd.concat([reference, table[~table.index.isin(reference.index)]])
    accuracy = pd.to_numeric(both["imagenet"]).clip(0.001, 0.999)
    logit = pd.Series(np.log(accuracy / (1 - accuracy)), index=both.index)
    relative = logit - logit.groupby(both["kind"].to_numpy(), dropna=False).transform("mean")
    relative = relative / max(float(relative.std()) if relative.notna().sum() > 1 else 1.0, 1e-6)
    return relative.reindex(table.index).fillna(0.0).to_numpy(dtype=np.float64)
