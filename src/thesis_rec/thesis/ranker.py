"""The thesis's method, trained: weights' codes and dataset tokens in, a ranking out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thesis_rec.base.errors import ItemError
from thesis_rec.base.settings import evenly
from thesis_rec.base.tables import Floats, ModelTable, TaskTokens
from thesis_rec.thesis.similarity_transformer import SimilarityTransformer

FORMAT = 5
_TASKS_AT_ONCE = 16
#: Attention is quadratic in the models of one pass.
_MODELS_AT_ONCE = 64
_CLIP = 4.0
_ARRAYS = ("models", "tokens")


@dataclass(frozen=True)
class Inputs:
    """What the network reads: a model's code and size, one token for each class; standardised as in training.

    Attributes:
        models: (2, E + 1) mean and standard deviation of the codes and of log10 of the number of parameters.
        tokens: (2, D) mean and standard deviation of the tokens.
        max_tokens: Tokens of classes beyond this number are left out, evenly.
        encoder_id: The image encoder whose tokens these are.
    """

    models: Floats
    tokens: Floats
    max_tokens: int = 64
    encoder_id: str = ""

    @classmethod
    def fit(cls, known: ModelTable, tasks: Sequence[TaskTokens], max_tokens: int = 64) -> Inputs:
        """From the models and tasks that may be trained on."""
        rows = np.concatenate([_class_means(task, max_tokens) for task in tasks])
        return cls(_moments(_described(known)), _moments(rows), max_tokens, tasks[0].encoder_id)

    def fits(self, known: ModelTable) -> bool:
        """Whether these are the models that it was made from, with the codes that they had then."""
        moments = _moments(_described(known))
        return moments.shape == self.models.shape and np.allclose(moments, self.models, rtol=1e-4, equal_nan=True)

    def of_models(self, models: ModelTable) -> Floats:
        """(M, E + 1); what isn't known of a model is as it is on average."""
        return np.nan_to_num(np.clip((_described(models) - self.models[0]) / self.models[1], -_CLIP, _CLIP))

    def of_task(self, task: TaskTokens) -> Tensor:
        """(T, D) tokens of one dataset.

        Raises:
            ItemError: If they are another encoder's.
        """
        other = task.encoder_id and self.encoder_id and task.encoder_id != self.encoder_id
        if other or task.features.shape[2] != self.tokens.shape[1]:
            raise ItemError(
                task.dataset_id,
                f"was encoded by {task.encoder_id or 'an unknown encoder'} ({task.features.shape[2]} numbers a token), "
                f"the ranker was trained with {self.encoder_id or 'an unknown encoder'}.",
                "Encode it with the ranker's encoder, or train the ranker again.",
            )
        rows = (_class_means(task, self.max_tokens) - self.tokens[0]) / self.tokens[1]
        return torch.from_numpy(np.clip(rows, -_CLIP, _CLIP))


def _described(models: ModelTable) -> Floats:
    size = np.log10(np.maximum(np.asarray(models.n_parameters, dtype=np.float64), 1.0))
    return np.column_stack([models.embedding, size]).astype(np.float32)


def _class_means(task: TaskTokens, most: int) -> Floats:
    rows = np.asarray(task.features, dtype=np.float32).mean(0)
    return rows[evenly(range(len(rows)), most)]


def _moments(rows: Floats) -> Floats:
    """(2, F) mean, NaN where nothing is known, and standard deviation, 1 where all are equal."""
    unknown = np.isnan(rows).all(axis=0)
    filled = np.where(unknown, 0.0, rows)
    spread = np.nanstd(filled, axis=0)
    mean = np.where(unknown, np.nan, np.nanmean(filled, axis=0))
    return np.stack([mean, np.where(spread > 1e-6, spread, 1.0)]).astype(np.float32)


def pad_tokens(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Token sets (T_i, D) as one tensor (N, T, D) and the mask (N, T) of what is valid."""
    tokens = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
    return tokens, torch.arange(tokens.shape[1]) < torch.tensor([len(part) for part in parts])[:, None]


@dataclass(frozen=True)
class Ranker:
    """A trained :class:`SimilarityTransformer` with all that turns models and tokens into its inputs.

    Attributes:
        network: The network.
        config: Its constructor arguments.
        inputs: What it reads.
    """

    network: SimilarityTransformer
    config: Mapping[str, Any]
    inputs: Inputs

    @classmethod
    def from_checkpoint(cls, checkpoint: Mapping[str, Any]) -> Ranker:
        """Rebuild a ranker from what :meth:`to_checkpoint` gave.

        Raises:
            ItemError: If the checkpoint is of another format.
        """
        if checkpoint.get("format") != FORMAT:
            raise ItemError(
                "similarity_checkpoint",
                f"has format {checkpoint.get('format')!r}, this version reads {FORMAT}.",
                "Run `kedro run --pipelines=similarity_training` again.",
            )
        network = SimilarityTransformer(**checkpoint["config"])
        network.load_state_dict(checkpoint["network"])
        given = checkpoint["inputs"]
        inputs = Inputs(**given | {name: given[name].numpy() for name in _ARRAYS})
        return cls(network.eval(), checkpoint["config"], inputs)

    def to_checkpoint(self) -> dict[str, Any]:
        """Tensors and plain values only, readable with ``weights_only=True``."""
        return {
            "format": FORMAT,
            "config": dict(self.config),
            "network": {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()},
            "inputs": vars(self.inputs) | {name: torch.from_numpy(getattr(self.inputs, name)) for name in _ARRAYS},
        }

    def predict(self, models: ModelTable, tasks: Sequence[TaskTokens]) -> dict[str, NDArray[np.float64]]:
        """Rank the same models for several datasets.

        Args:
            models: M candidates, known or not.
            tasks: N datasets, encoded by the encoder that the ranker was trained with.

        Returns:
            ``score``, comparable within one dataset only, predicted performance ``value`` (a fraction) and its standard
            deviation ``std``, each (M, N).

        Raises:
            ItemError: If tokens are another encoder's.
        """
        described = torch.from_numpy(self.inputs.of_models(models))
        # Where a score depends on the other candidates, these can't be cut into pieces.
        step = len(described) if self.network.candidates_interact else _MODELS_AT_ONCE
        found = []
        with torch.inference_mode():
            for start in range(0, len(tasks), _TASKS_AT_ONCE):
                some = [self.inputs.of_task(task) for task in tasks[start : start + _TASKS_AT_ONCE]]
                tokens, mask = pad_tokens(some)
                parts = [self.network(rows, tokens, mask) for rows in described.split(step)]
                found.append({name: torch.cat([part[name] for part in parts], 1) for name in parts[0]})  # (B, M) each
        score, value, log_std = (
            torch.cat([part[name] for part in found]).double().numpy().T for name in ("score", "value", "log_std")
        )
        return {"score": score, "value": np.clip(value, 0.0, 1.0), "std": np.exp(log_std)}
