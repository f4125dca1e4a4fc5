"""How good a model is before anything is known about the dataset: its mean over the training tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

#: Smallest standard deviation of performance within a dataset that counts: below it, differences are noise.
FLOOR = 0.02


def standardise(values: NDArray[np.floating], measured: NDArray[np.bool_], floor: float = FLOOR) -> Values:
    """Performance in standard deviations within each task, 0 where unmeasured.

    Args:
        values: (N, M) performance.
        measured: (N, M) which cells count.
        floor: Smallest standard deviation: on a task where all models do the same, differences are noise.

    Returns:
        (N, M) with mean 0 over the measured cells of each task.
    """
    count = np.maximum(measured.sum(1, keepdims=True), 1)
    filled = np.where(measured, values, 0.0).astype(np.float64)
    centred = np.where(measured, filled - filled.sum(1, keepdims=True) / count, 0.0)
    deviation = np.sqrt(np.square(centred).sum(1, keepdims=True) / count)
    return np.asarray(centred / np.maximum(deviation, floor))


def related(parents: Sequence[Sequence[str]], others: Sequence[Sequence[str]] | None = None) -> NDArray[np.bool_]:
    """(N, K) whether two tasks have a parent in common; a base task is its own parent."""
    others = parents if others is None else others
    names = {name: i for i, name in enumerate(sorted({p for group in [*parents, *others] for p in group}))}

    def incidence(groups: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        table = np.zeros((len(groups), len(names)), dtype=np.float32)
        for row, group in enumerate(groups):
            table[row, [names[name] for name in group]] = 1.0
        return table

    shared: NDArray[np.bool_] = incidence(parents) @ incidence(others).T > 0
    return shared


@dataclass(frozen=True)
class StaticPrior:
    """Mean standardised performance of each model; of its family for a model never measured; else 0, the mean of all.

    Attributes:
        models: Prior of each measured model.
        families: Mean prior of each family.
    """

    models: Mapping[str, float] = field(default_factory=dict)
    families: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        standardised: Values,
        measured: NDArray[np.bool_],
        weight: NDArray[np.floating],
        model_ids: Sequence[str],
        families: Sequence[str],
    ) -> StaticPrior:
        """Average over training tasks.

        Args:
            standardised: (N, M) from :func:`standardise`.
            measured: (N, M) which cells count.
            weight: (N,) weight of each task.
            model_ids: M ids.
            families: Their M families.
        """
        count = weight @ measured
        mean = (weight @ np.where(measured, standardised, 0.0)) / np.maximum(count, 1e-12)
        models = {m: float(v) for m, v, n in zip(model_ids, mean, count, strict=True) if n > 0}
        groups: dict[str, list[float]] = {}
        for model_id, family in zip(model_ids, families, strict=True):
            if model_id in models:
                groups.setdefault(family, []).append(models[model_id])
        return cls(models, {family: float(np.mean(values)) for family, values in groups.items()})

    def __call__(self, model_ids: Sequence[str], families: Sequence[str]) -> Values:
        """(M,) priors."""
        return np.array(
            [
                self.models.get(model, self.families.get(family, 0.0))
                for model, family in zip(model_ids, families, strict=True)
            ],
            dtype=np.float64,
        )

    def hidden(self, model_ids: Sequence[str], families: Sequence[str]) -> Values:
        """(M,) priors that models would have, had they never been measured: the mean of the rest of their family."""
        own = np.array([self.models.get(model, np.nan) for model in model_ids])[None]
        return family_means(np.nan_to_num(own), np.isfinite(own), families)[0]

    def state(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {"models": dict(self.models), "families": dict(self.families)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> StaticPrior:
        """Undo :meth:`state`."""
        return cls(dict(state["models"]), dict(state["families"]))


def leave_related_out(
    standardised: Values, measured: NDArray[np.bool_], weight: NDArray[np.floating], parents: Sequence[Sequence[str]]
) -> Values:
    """(N, M) static prior of every model for each training task, from tasks that share no parent with it.

    With the task itself in the mean, a network would learn to trust its prior more than it deserves.
    """
    apart = (~related(parents)) * weight[None, :]
    count = apart @ measured.astype(np.float64)
    return np.asarray((apart @ np.where(measured, standardised, 0.0)) / np.maximum(count, 1e-12))


def family_means(prior: Values, known: NDArray[np.bool_], families: Sequence[str]) -> Values:
    """(N, M) mean prior of the other known members of each model's family, 0 where there are none.

    Args:
        prior: (N, M) priors.
        known: (N, M) or (1, M) which of them are known.
        families: M families.
    """
    names = sorted(set(families))
    member = np.array([[family == name for name in names] for family in families], dtype=np.float64)  # (M, F)
    known = np.broadcast_to(known, prior.shape).astype(np.float64)
    total = (prior * known) @ member @ member.T - prior * known
    count = known @ member @ member.T - known
    return np.where(count > 0.5, total / np.maximum(count, 1.0), 0.0)
