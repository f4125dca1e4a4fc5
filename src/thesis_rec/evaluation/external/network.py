"""The project's own ranker on a published table: model tokens from metadata, dataset tokens from published distances.

The published tables have neither weights nor images, so the ranker sees of a model what its model card says, and of a
dataset where it lies among the others: its coordinates by classical scaling of the distances (Torgerson 1952), or
nothing where no distances are published. Everything else is the code that ranks the project's own zoo.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.evaluation.external.methods import Task, model_features
from thesis_rec.evaluation.external.tables import PublishedTable

Floats = NDArray[np.floating]

_PROTOCOL = "imported:published"


@dataclass(frozen=True)
class TrainedRanker:
    """A :class:`~thesis_rec.thesis.similarity_transformer.SimilarityTransformer` trained anew without each target.

    Attributes:
        epochs: Passes over the training datasets.
        width: Of all representations.
        validation: Training datasets on which training is stopped.
    """

    epochs: int = 15
    width: int = 32
    validation: int = 2

    def __call__(self, task: Task) -> Floats:
        """(M,) scores."""
        from thesis_rec.thesis.similarity_training import assemble, train_ranker
        from thesis_rec.training.settings import FitSettings, RankerTraining

        table = task.table
        tokens = dataset_tokens(table)
        order = np.random.default_rng([task.seed, task.target]).permutation(task.columns)
        roles = {int(j): "validation" if place < self.validation else "train" for place, j in enumerate(order)}
        values = task.training() / table.unit
        rows, columns = np.nonzero(np.isfinite(values))
        performance = pd.DataFrame(
            {
                "model_id": np.asarray(table.model_ids, dtype=object)[rows],
                "dataset_id": np.asarray(table.dataset_ids, dtype=object)[task.columns[columns]],
                "protocol": _PROTOCOL,
                "value": values[rows, columns],
            }
        )
        splits = pd.DataFrame(
            [
                ("model", m, "", bool(k), "train" if k else "test")
                for m, k in zip(table.model_ids, task.known, strict=True)
            ]
            + [("dataset", table.dataset_ids[j], "", True, role) for j, role in roles.items()],
            columns=["kind", "id", "id2", "known", "role"],
        )
        models = model_table(table)
        material = assemble(models, {t.dataset_id: t for t in tokens}, performance, splits, protocol=_PROTOCOL)
        with tempfile.TemporaryDirectory() as folder:
            ranker, _ = train_ranker(
                material,
                {"width": self.width, "n_layers": 1, "n_heads": 4, "rank": 4, "dropout": 0.2},
                RankerTraining(models_per_step=128, tasks_per_epoch=48),
                FitSettings(epochs=self.epochs, batch_size=8, learning_rate=2e-3, accelerator="cpu", resume=False),
                Path(folder),
                seed=task.seed,
            )
        score: Floats = ranker.predict(models, [tokens[task.target]])[0].score
        return score


def model_table(table: PublishedTable) -> ModelTable:
    """The models by their metadata."""
    sizes = np.where(np.isfinite(table.n_parameters), table.n_parameters, 0.0)
    return ModelTable(table.model_ids, model_features(table).astype(np.float32), table.families, sizes)


def dataset_tokens(table: PublishedTable, components: int = 8) -> list[TaskTokens]:
    """One token per dataset: its coordinates by classical scaling, of length 1; alike for all without distances."""
    count = len(table.dataset_ids)
    if table.distances is None:
        coordinates = np.ones((count, 1))
    else:
        centre = np.eye(count) - 1.0 / count
        values, vectors = np.linalg.eigh(-0.5 * centre @ table.distances**2 @ centre)
        kept = np.argsort(values)[::-1][:components]
        coordinates = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0.0))
        # A constant keeps the direction of datasets in the middle from being noise.
        typical = np.linalg.norm(coordinates, axis=1).mean()
        coordinates = np.column_stack([coordinates, np.full(count, typical)])
    coordinates = coordinates / np.maximum(np.linalg.norm(coordinates, axis=1, keepdims=True), 1e-12)
    return [
        TaskTokens(name, row[None, None].astype(np.float32), [name], 1, table.name)
        for name, row in zip(table.dataset_ids, coordinates, strict=True)
    ]
