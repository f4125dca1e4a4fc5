"""A learned token per model, matched with the dataset's tokens: the design of Model Spider (Zhang et al. 2023).

Each known model has a vector that is trained together with the ranker; it queries the dataset's class tokens by
attention, and what comes back gives its score. The vector of a model exists only if the model was trained with, so
unknown models can't be ranked at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thesis_rec.base.tables import TaskTokens
from thesis_rec.evaluation.baselines.base import Baseline, Floats, TrainingSet


class LearnedToken(Baseline):
    """Cross-attention of learned model tokens over class means, trained by a listwise loss (ListMLE).

    Args:
        width: Length of the tokens.
        epochs: Passes over the training datasets.
        learning_rate: Of Adam, falling to zero by a cosine.
        max_classes: A dataset with more classes shows a random choice of them at each step.
        batch: Datasets in one step.
    """

    name = "learned_token"

    def __init__(
        self,
        width: int = 32,
        epochs: int = 25,
        learning_rate: float = 5e-3,
        max_classes: int = 16,
        batch: int = 16,
    ) -> None:
        self.width, self.epochs, self.learning_rate = width, epochs, learning_rate
        self.max_classes, self.batch = max_classes, batch

    def fit(self, training: TrainingSet) -> LearnedToken:
        """Train tokens and attention on the known models."""
        import torch

        from thesis_rec.evaluation.baselines.base import row_means

        self._known = training.known
        z = training.standardised()[training.known]
        target = torch.tensor(np.nan_to_num(z.T), dtype=torch.float32)  # (N, K)
        present = torch.tensor(np.isfinite(z.T))
        classes = [_class_means(task) for task in training.tokens]
        generator = torch.Generator().manual_seed(training.seed)
        prior = torch.tensor(np.nan_to_num(row_means(z)), dtype=torch.float32)
        self._network = _network(classes[0].shape[1], prior, self.width, generator)
        optimiser = torch.optim.AdamW(self._network.parameters(), lr=self.learning_rate, weight_decay=1e-2)
        steps = self.epochs * -(-len(classes) // self.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(self.epochs):
            order = torch.randperm(len(classes), generator=generator)
            for rows in order.split(self.batch):
                tokens, mask = _pad([classes[i] for i in rows], self.max_classes, generator)
                loss = _list_mle(self._network(tokens, mask), target[rows], present[rows])
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
        return self

    def predict(self, tasks: Sequence[TaskTokens]) -> Floats:
        """(M, n) scores of known models, NaN for unknown ones."""
        import torch

        scores = np.full((len(self._known), len(tasks)), np.nan)
        with torch.no_grad():
            for i, task in enumerate(tasks):
                tokens, mask = _pad([_class_means(task)], None, None)
                scores[self._known, i] = self._network(tokens, mask)[0].numpy()
        return scores


def _class_means(task: TaskTokens) -> Any:
    import torch

    means = np.asarray(task.features, dtype=np.float32).mean(axis=0)
    return torch.tensor(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6))


def _pad(classes: Sequence[Any], limit: int | None, generator: Any) -> tuple[Any, Any]:
    """(B, C, D) tokens and (B, C) validity of datasets with different numbers of classes."""
    import torch

    parts = []
    for tokens in classes:
        if limit is not None and len(tokens) > limit:
            parts.append(tokens[torch.randperm(len(tokens), generator=generator)[:limit]])
        else:
            parts.append(tokens)
    lengths = torch.tensor([len(part) for part in parts])
    padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
    return padded, torch.arange(padded.shape[1])[None, :] < lengths[:, None]


def _list_mle(score: Any, target: Any, present: Any) -> Any:
    """Negative log-likelihood of the true order under Plackett-Luce (Xia et al. 2008), per measured model."""
    import torch

    low = torch.finfo(score.dtype).min / 4
    order = torch.where(present, target, low).argsort(dim=1, descending=True)
    ranked = torch.where(present, score, low).gather(1, order)
    valid = present.gather(1, order)
    rest = ranked.flip(1).logcumsumexp(1).flip(1)
    return torch.where(valid, rest - ranked, 0.0).sum() / valid.sum().clamp(min=1)


def _network(dimension: int, prior: Any, width: int, generator: Any) -> Any:
    """The module; built inside a function so that importing this file doesn't import torch."""
    import torch
    from torch import nn

    class Network(nn.Module):
        """Learned model tokens (K, W) that attend to a dataset's class tokens."""

        def __init__(self) -> None:
            super().__init__()

            def weight(*shape: int) -> nn.Parameter:
                return nn.Parameter(torch.randn(*shape, generator=generator) / shape[-1] ** 0.5)

            self.token = weight(len(prior), width)
            self.key, self.value = weight(width, dimension), weight(width, dimension)
            self.hidden, self.out = weight(width, 2 * width), nn.Parameter(torch.zeros(width))
            self.bias = nn.Parameter(prior.clone())

        def forward(self, tokens: Any, mask: Any) -> Any:
            """(B, C, D) tokens and (B, C) validity -> (B, K) scores."""
            key, value = tokens @ self.key.T, tokens @ self.value.T  # (B, C, W)
            logits = torch.einsum("kw,bcw->bkc", self.token, key) * width**0.5
            attention = logits.masked_fill(~mask[:, None, :], float("-inf")).softmax(-1)
            seen = attention @ value  # (B, K, W)
            joined = torch.cat([seen, self.token.expand_as(seen) * seen], dim=-1)
            return self.bias + torch.nn.functional.gelu(joined @ self.hidden.T) @ self.out

    return Network()
