"""Training the thesis's SimilarityTransformer: from measured cells to a ranker, with a ranking loss."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from thesis_rec.base.errors import NothingSucceeded
from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.knowledge.quadrants import Split, training_mask
from thesis_rec.thesis.ranker import Inputs, Ranker, pad_tokens
from thesis_rec.thesis.ranker_module import RankerModule
from thesis_rec.thesis.similarity_transformer import SimilarityTransformer
from thesis_rec.training.callbacks import History
from thesis_rec.training.data import TensorTable
from thesis_rec.training.fit import fit
from thesis_rec.training.settings import FitSettings, RankerTraining

logger = logging.getLogger(__name__)

#: Smallest standard deviation of performance within a dataset that counts: below it, differences are noise.
FLOOR = 0.02
#: A dataset with fewer measured models has no order to learn from.
_LEAST = 3


@dataclass(frozen=True)
class TaskSet:
    """N tasks and (N, M) performance of M models on them, NaN where it wasn't measured or may not be used."""

    tasks: list[TaskTokens]
    value: NDArray[np.float64]

    def usable(self) -> TaskSet:
        """The tasks on which enough models were measured."""
        rows = np.flatnonzero(np.isfinite(self.value).sum(1) >= _LEAST)
        return TaskSet([self.tasks[row] for row in rows], self.value[rows])


@dataclass(frozen=True)
class Material:
    """The known models, what is trained on, and the datasets of validation families; these may be none."""

    known: ModelTable
    training: TaskSet
    validation: TaskSet


def assemble(
    models: ModelTable,
    tokens: Mapping[str, TaskTokens],
    performance: pd.DataFrame,
    splits: pd.DataFrame,
    *,
    protocol: str = "linear_probe",
) -> Material:
    """Everything that may be trained on, and the validation tasks.

    Args:
        models: All models with an embedding.
        tokens: Tokens of the datasets.
        performance: One value per model, dataset and protocol.
        splits: Table of :func:`thesis_rec.knowledge.quadrants.assign_splits`.
        protocol: The protocol that is predicted.

    Raises:
        NothingSucceeded: If nothing is left to train on.
    """
    split = Split.of(splits)
    known = models.select(np.flatnonzero(split.known_models(models.model_ids)))
    table = performance[performance["protocol"] == protocol]
    cells = table.pivot_table(index="dataset_id", columns="model_id", values="value", aggfunc="mean")
    cells = cells.reindex(columns=known.model_ids)
    measured = [str(dataset) for dataset in cells.index]
    usable = [dataset for dataset in measured if dataset in tokens]

    def tasks(ids: list[str]) -> TaskSet:
        value = cells.reindex(ids).to_numpy(dtype=np.float64).reshape(len(ids), len(known))
        return TaskSet([tokens[name] for name in ids], value)

    ids = split.with_role(usable, "train")
    training = tasks(ids)
    allowed = training_mask(split, known.model_ids, ids).T
    training = TaskSet(training.tasks, np.where(allowed, training.value, np.nan)).usable()
    if not training.tasks:
        raise NothingSucceeded(
            f"there is no dataset to train the ranker on: {len(known)} known models with an embedding, "
            f"{len(measured)} datasets measured by {protocol}, {len(usable)} of them with tokens. Run "
            "model_extraction, autoencoder and dataset_features on the models and datasets of the performance records."
        )
    return Material(known, training, tasks(split.with_role(usable, "validation")).usable())


def standardise(values: NDArray[np.floating], floor: float = FLOOR) -> NDArray[np.float64]:
    """Performance (N, M) in standard deviations within each task, 0 where it is NaN.

    Args:
        values: (N, M) performance, NaN where unmeasured.
        floor: Smallest standard deviation: on a task where all models do the same, differences are noise.
    """
    measured = np.isfinite(values)
    count = np.maximum(measured.sum(1, keepdims=True), 1)
    filled = np.where(measured, values, 0.0).astype(np.float64)
    centred = np.where(measured, filled - filled.sum(1, keepdims=True) / count, 0.0)
    deviation = np.sqrt(np.square(centred).sum(1, keepdims=True) / count)
    return np.asarray(centred / np.maximum(deviation, floor))


def tensor_table(inputs: Inputs, tasks: TaskSet) -> TensorTable:
    """Tasks as the tensors that :class:`~thesis_rec.thesis.ranker_module.RankerModule` reads."""
    tokens, mask = pad_tokens([inputs.of_task(task) for task in tasks.tasks])
    columns: dict[str, NDArray[Any]] = {
        "tokens": tokens,
        "token_mask": mask,
        "standardised": standardise(tasks.value).astype(np.float32),
        "value": np.nan_to_num(tasks.value).astype(np.float32),
        "measured": np.isfinite(tasks.value),
    }
    return TensorTable({name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()})


def train_ranker(
    material: Material,
    network: Mapping[str, Any],
    training: RankerTraining,
    settings: FitSettings,
    folder: Path,
    *,
    max_tokens: int = 64,
    seed: int = 0,
) -> tuple[Ranker, History]:
    """Train the network.

    Args:
        material: What to train on.
        network: Constructor arguments, without the input widths.
        training: Terms of the loss, sizes of a step.
        settings: Optimiser and schedule.
        folder: Where the run keeps its files.
        max_tokens: Most tokens of one dataset.
        seed: Seed of first weights and training.

    Returns:
        The ranker, and what every epoch gave.
    """
    inputs = Inputs.fit(material.known, material.training.tasks, max_tokens)
    models = torch.from_numpy(inputs.of_models(material.known))
    config = {"model_dim": models.shape[1], "token_dim": inputs.tokens.shape[1], **network}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer = SimilarityTransformer(**config)
    result = fit(
        RankerModule(transformer, settings, training, models),
        tensor_table(inputs, material.training),
        tensor_table(inputs, material.validation) if material.validation.tasks else None,
        folder / f"similarity_transformer-seed{seed}",
        seed=seed,
        description=f"similarity_transformer seed {seed}",
        per_epoch=training.tasks_per_epoch,
    )
    return Ranker(transformer.eval(), config, inputs), result.history
