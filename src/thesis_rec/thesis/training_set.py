"""What a ranker is trained on: tasks with their tokens, and every model's performance on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.knowledge.landmark_prior import LandmarkPrior, described, descriptor, level_descriptor
from thesis_rec.knowledge.prior_fitting import (
    SUBTASK_WEIGHT,
    error_covariance,
    error_moment,
    fit_dataset_side,
    fit_error_side,
    fit_level_side,
    fit_model_side,
)
from thesis_rec.knowledge.static_prior import StaticPrior, family_means, leave_related_out, standardise
from thesis_rec.thesis.features import FeatureSettings, ModelFeatures, TokenFeatures, performance_factors

if TYPE_CHECKING:
    from thesis_rec.training.data import TensorTable


@dataclass(frozen=True)
class TaskSet:
    """Tasks with measured performance.

    Attributes:
        tasks: N tasks.
        parents: The base tasks that each is made of; its own id for a base task.
        value: (N, M) performance, NaN where it wasn't measured or may not be used.
        families: N families of datasets; each its own where none are given.
    """

    tasks: list[TaskTokens]
    parents: list[tuple[str, ...]]
    value: NDArray[np.float64]
    families: list[str] = field(default_factory=list)

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
        families = [self.families[i] for i in rows] if self.families else []
        parents = [self.parents[i] for i in rows]
        return TaskSet([self.tasks[i] for i in rows], parents, self.value[np.asarray(rows, dtype=int)], families)

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
        prior: What is expected of a model on a dataset before a network is asked.
        left_out: By base task of the training set, what the prior expects of it without its family: (K,) of the
            prior's measured models.
        one_out: The same with nothing but the task itself left out.
    """

    models: ModelFeatures
    tokens: TokenFeatures
    prior: LandmarkPrior
    left_out: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    one_out: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def fit(cls, known: ModelTable, training: TaskSet, settings: FeatureSettings) -> Inputs:
        """Fit to known models (the columns of ``training.value``) and training tasks."""
        standardised = standardise(training.value, training.measured)
        factors = performance_factors(standardised, training.measured, settings.factors)
        prior, left_out, one_out = fit_prior(known, training, standardised, landmarks=settings.landmarks)
        models, tokens = ModelFeatures.fit(known, settings, factors), TokenFeatures.fit(training.tasks, settings)
        return cls(models, tokens, prior, left_out, one_out)


def fit_prior(
    known: ModelTable, training: TaskSet, standardised: NDArray[np.float64], *, landmarks: bool = True
) -> tuple[LandmarkPrior, dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """The prior, and by base task with landmarks what it expects of it without its family, and without itself.

    Args:
        known: K known models.
        training: N training tasks; the static prior is of all base tasks, the regression of those with landmarks.
        standardised: (N, K) performance in standard deviations within each task.
        landmarks: Whether datasets' landmarks and models' reference probes are used; without them it is static.
    """
    static = StaticPrior.fit(standardised, training.measured, prior_weights(training), known.model_ids, known.families)
    rows = [row for row in np.flatnonzero(training.is_base) if described(training.tasks[row])] if landmarks else []
    if not rows:
        return LandmarkPrior(static), {}, {}
    families = [(training.families or [t.dataset_id for t in training.tasks])[row] for row in rows]
    measured = training.measured[rows]
    some = np.flatnonzero(measured.any(0))
    table = known.select(some)
    points = np.stack([descriptor(training.tasks[row]) for row in rows])
    datasets, expected, without_itself = fit_dataset_side(
        points, standardised[np.ix_(rows, some)], measured[:, some], families
    )
    models = fit_model_side(table, np.where(measured[:, some], standardised[np.ix_(rows, some)], expected))
    ids = [training.tasks[row].dataset_id for row in rows]
    left_out = dict(zip(ids, expected, strict=True))
    made_of = [expected_of(parents, left_out) for parents in training.parents]
    usable = np.array([row for row, value in enumerate(made_of) if value is not None])
    truth = np.where(training.measured, standardised, np.nan)[np.ix_(usable, some)]
    weight = np.where(training.is_base[usable], 1.0, SUBTASK_WEIGHT)
    moment = error_moment(truth - np.stack([value for value in made_of if value is not None]), weight)
    covariance, alike = error_covariance(moment), fit_error_side(table, moment)
    one_out = dict(zip(ids, without_itself, strict=True))
    hardness = np.stack([level_descriptor(training.tasks[row]) for row in rows])
    levels = fit_level_side(hardness, np.where(training.measured, training.value, np.nan)[rows], families)
    return LandmarkPrior(static, table.model_ids, datasets, models, covariance, levels, alike), left_out, one_out


def expected_of(parents: Sequence[str], left_out: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """(K,) what the prior expects of a task made of ``parents`` without their families; None if one isn't there."""
    if any(parent not in left_out for parent in parents):
        return None
    return np.asarray(np.mean([left_out[parent] for parent in parents], axis=0))


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
    """Training tasks as tensors; each task's prior leaves out all tasks that are related to it.

    A base task with landmarks has what the regression expects of it without its family, a sub-task the mean of its
    parents', any other task the mean over the tasks that share no parent with it.
    """
    standardised = standardise(training.value, training.measured)
    prior = leave_related_out(standardised, training.measured, prior_weights(training), training.parents)
    column = {model: i for i, model in enumerate(known.model_ids)}
    measured = [column[model] for model in inputs.prior.measured]
    for row, parents in enumerate(training.parents):
        expected = expected_of(parents, inputs.left_out)
        if expected is not None:
            prior[row, measured] = expected
    hidden = family_means(prior, np.asarray(training.measured.any(axis=0))[None], known.families)
    _, derived = inputs.prior.weights(known, hidden=True)
    if derived.any():
        hidden[:, derived] = inputs.prior.carried_over(prior[:, measured], known, hidden=True)[:, derived]
    return _table(inputs, training, standardised, prior, hidden)


def validation_table(inputs: Inputs, known: ModelTable, validation: TaskSet) -> TensorTable:
    """Validation tasks as tensors, with the priors that an unknown dataset has."""
    prior = inputs.prior(known, validation.tasks)
    hidden = inputs.prior(known, validation.tasks, hidden=True)
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
