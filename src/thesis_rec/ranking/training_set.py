"""What a ranker is trained on: tasks with their tokens, and every model's performance on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thesis_rec.ranking.data import ModelTable, TaskTokens
from thesis_rec.ranking.features import FeatureSettings, ModelFeatures, TokenFeatures, performance_factors
from thesis_rec.ranking.priors import StaticPrior, family_means, leave_related_out, standardise

if TYPE_CHECKING:
    from thesis_rec.training.data import TensorTable


@dataclass(frozen=True)
class TaskSet:
    """Tasks with measured performance.

    Attributes:
        tasks: N tasks.
        parents: The base tasks that each is made of; its own id for a base task.
        value: (N, M) performance, NaN where it wasn't measured or may not be used.
    """

    tasks: list[TaskTokens]
    parents: list[tuple[str, ...]]
    value: NDArray[np.float64]

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(N, M) which cells are there."""
        return np.isfinite(self.value)

    @property
    def is_base(self) -> NDArray[np.bool_]:
        """(N,) which tasks aren't made of others."""
        return np.array([parents == (t.dataset_id,) for t, parents in zip(self.tasks, self.parents, strict=True)])

    def select(self, rows: Sequence[int] | NDArray[np.integer]) -> TaskSet:
        """The tasks at ``rows``."""
        return TaskSet([self.tasks[i] for i in rows], [self.parents[i] for i in rows], self.value[np.asarray(rows)])

    def usable(self, least: int = 3) -> TaskSet:
        """The tasks on which at least ``least`` models were measured: fewer have no order to learn from."""
        return self.select(np.flatnonzero(self.measured.sum(1) >= least))

    def capped(self, count: int | None, seed: int) -> TaskSet:
        """At most ``count`` tasks: all base tasks first, then sub-tasks drawn by seed."""
        if count is None or len(self.tasks) <= count:
            return self
        order = np.random.default_rng(seed).permutation(len(self.tasks))
        kept = sorted(order, key=lambda i: not self.is_base[i])[:count]
        return self.select(np.sort(kept))


@dataclass(frozen=True)
class Inputs:
    """Everything fitted to training data that turns models and tokens into a network's inputs.

    Attributes:
        models: Features of models.
        tokens: Features of tokens.
        prior: Static prior.
    """

    models: ModelFeatures
    tokens: TokenFeatures
    prior: StaticPrior

    @classmethod
    def fit(cls, known: ModelTable, training: TaskSet, settings: FeatureSettings) -> Inputs:
        """Fit to known models (the columns of ``training.value``) and training tasks."""
        standardised = standardise(training.value, training.measured)
        factors = performance_factors(standardised, training.measured, settings.factors)
        prior = StaticPrior.fit(
            standardised, training.measured, prior_weights(training), known.model_ids, known.families
        )
        return cls(ModelFeatures.fit(known, settings, factors), TokenFeatures.fit(training.tasks, settings), prior)


def prior_weights(training: TaskSet) -> NDArray[np.float64]:
    """(N,) weight of each task in the static prior: base tasks alone, unless there are hardly any.

    Sub-tasks of one task say nearly the same about a model, and tasks with many classes have more of them.
    """
    base = training.is_base
    return (base if base.sum() >= 5 else np.ones_like(base)).astype(np.float64)


def pad_tokens(parts: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Token sets (T_i, D) as one array (N, T, D) and the mask (N, T) of what is valid."""
    longest = max(len(part) for part in parts)
    tokens = np.zeros((len(parts), longest, parts[0].shape[1]), dtype=np.float32)
    mask = np.zeros((len(parts), longest), dtype=bool)
    for row, part in enumerate(parts):
        tokens[row, : len(part)] = part
        mask[row, : len(part)] = True
    return tokens, mask


def training_table(inputs: Inputs, known: ModelTable, training: TaskSet) -> TensorTable:
    """Training tasks as tensors; each task's prior leaves out all tasks that share a parent with it."""
    standardised = standardise(training.value, training.measured)
    prior = leave_related_out(standardised, training.measured, prior_weights(training), training.parents)
    known_models = np.asarray(training.measured.any(axis=0))[None]
    hidden = family_means(prior, known_models, known.families)
    return _table(inputs, training, standardised, prior, hidden)


def validation_table(inputs: Inputs, known: ModelTable, validation: TaskSet) -> TensorTable:
    """Validation tasks as tensors, with the priors that an unknown dataset has."""
    shape = validation.value.shape
    prior = np.broadcast_to(inputs.prior(known.model_ids, known.families), shape)
    hidden = np.broadcast_to(inputs.prior.hidden(known.model_ids, known.families), shape)
    return _table(inputs, validation, standardise(validation.value, validation.measured), prior, hidden)


def _table(
    inputs: Inputs,
    tasks: TaskSet,
    standardised: NDArray[np.float64],
    prior: NDArray[np.float64],
    hidden: NDArray[np.float64],
) -> TensorTable:
    import torch

    from thesis_rec.training.data import TensorTable

    tokens, mask = pad_tokens([inputs.tokens(task) for task in tasks.tasks])
    columns: Mapping[str, NDArray[np.generic]] = {
        "tokens": tokens,
        "token_mask": mask,
        "standardised": standardised.astype(np.float32),
        "value": np.nan_to_num(tasks.value).astype(np.float32),
        "measured": tasks.measured,
        "prior": prior.astype(np.float32),
        "family_prior": hidden.astype(np.float32),
    }
    return TensorTable({name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()})
