"""Training the thesis's SimilarityTransformer: from measured cells to a ranker, with a ranking loss.

One step sees some whole tasks and some of the models measured on them.
"""

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
from torch import Tensor, nn

from thesis_rec.base.errors import NothingSucceeded
from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.knowledge.quadrants import Split, training_mask
from thesis_rec.thesis import losses as ranking_losses
from thesis_rec.thesis.ranker import Inputs, Ranker, pad_tokens
from thesis_rec.thesis.similarity_transformer import SimilarityTransformer
from thesis_rec.training.callbacks import History
from thesis_rec.training.data import Batch, TensorTable
from thesis_rec.training.fit import fit
from thesis_rec.training.module import FitModule
from thesis_rec.training.settings import FitSettings, RankerTraining


class RankerModule(FitModule):
    """Ranking loss of a network; in validation the weighted tau beside it.

    A batch holds ``tokens`` (B, T, D), ``token_mask`` (B, T), ``standardised`` and ``value`` (B, M) with 0 where
    unmeasured, and ``measured`` (B, M).

    Args:
        network: The network.
        settings: Optimiser and schedule.
        options: Terms of the loss, sizes of a step.
        models: (M, E) features of all models.
    """

    models: Tensor

    def __init__(self, network: nn.Module, settings: FitSettings, options: RankerTraining, models: Tensor) -> None:
        super().__init__(network, settings, monitor="val_tau", mode="max")
        self.options = options
        self.register_buffer("models", models, persistent=False)

    def losses(self, batch: Batch, training: bool) -> dict[str, Tensor]:
        """Losses of a batch; in training of some of the models, drawn at random."""
        rows = torch.arange(len(self.models), device=self.models.device)
        if training:
            rows = torch.randperm(len(rows), device=rows.device)[: self.options.models_per_step]
        models = self.models[rows].expand(len(batch["tokens"]), -1, -1)
        out: dict[str, Tensor] = self.network(models, batch["tokens"], batch["token_mask"])
        terms = self._terms(out, batch, rows)
        if not training:
            tau = ranking_losses.weighted_tau(out["score"], batch["standardised"][:, rows], batch["measured"][:, rows])
            terms["tau"] = tau.nanmean().nan_to_num(0.0)
        return terms

    def _terms(self, out: dict[str, Tensor], batch: Batch, rows: Tensor) -> dict[str, Tensor]:
        weights = self.options.losses
        truth, mask = batch["standardised"][:, rows], batch["measured"][:, rows]
        score = out["score"]
        terms = {
            "listwise": lambda: ranking_losses.list_mle(score, truth, mask, discount=True),
            "pairwise": lambda: ranking_losses.pairwise_logistic(score, truth, mask, weights.gap_power),
            "regression": lambda: ranking_losses.masked_mse(score, truth, mask),
            "value": lambda: ranking_losses.gaussian_nll(out["value"], out["log_std"], batch["value"][:, rows], mask),
        }
        # A weight of zero switches a term off, so that it isn't even computed.
        used = {name: term() for name, term in terms.items() if getattr(weights, name)}
        total = torch.stack([getattr(weights, name) * term for name, term in used.items()]).sum()
        return {"loss": total, **used}


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
    usable = [str(dataset) for dataset in cells.index if dataset in tokens]

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
            f"{len(cells)} datasets measured by {protocol}, {len(usable)} of them with tokens. Run "
            "model_extraction, autoencoder and dataset_features on the models and datasets of the performance records."
        )
    return Material(known, training, tasks(split.with_role(usable, "validation")).usable())


def standardise(values: NDArray[np.floating], floor: float = FLOOR) -> NDArray[np.float64]:
    """Performance (N, M) in standard deviations within each task, 0 where it is NaN.

    Args:
        values: (N, M) performance, NaN where unmeasured.
        floor: Smallest standard deviation: on a task where all models do the same, differences are noise.
    """
    table = pd.DataFrame(np.asarray(values, dtype=np.float64).T)
    return ((table - table.mean()) / table.std(ddof=0).clip(lower=floor)).fillna(0.0).to_numpy().T


def tensor_table(inputs: Inputs, tasks: TaskSet) -> TensorTable:
    """Tasks as the tensors that :class:`~thesis_rec.thesis.similarity_training.RankerModule` reads."""
    tokens, mask = pad_tokens([inputs.of_task(task) for task in tasks.tasks])
    columns = {
        "standardised": standardise(tasks.value).astype(np.float32),
        "value": np.nan_to_num(tasks.value).astype(np.float32),
        "measured": np.isfinite(tasks.value),
    }
    given = {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()}
    return TensorTable({"tokens": tokens, "token_mask": mask, **given})


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
