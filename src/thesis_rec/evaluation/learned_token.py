"""A learned token per model, matched with the dataset's tokens: the design of Model Spider (Zhang et al. 2023).

Each known model has a vector that is trained together with the ranker; it queries the dataset's class tokens by
attention, and what comes back gives its score. The vector of a model exists only if the model was trained with, so
unknown models can't be ranked at all.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from thesis_rec.base.tables import Floats, TaskTokens, z_scores
from thesis_rec.evaluation.study import Study
from thesis_rec.thesis.losses import list_mle
from thesis_rec.thesis.ranker import pad_tokens

#: Length of a model's token, and datasets in one step.
_WIDTH, _BATCH = 32, 16


def train(training: Study, epochs: int = 25, max_classes: int = 16) -> Callable[[Sequence[TaskTokens]], Floats]:
    """Train tokens and attention on the known models, by a listwise loss (ListMLE).

    Args:
        training: What is learned from.
        epochs: Passes over the training datasets.
        max_classes: A dataset with more classes shows a random choice of them at each step.
    """
    z = z_scores(training.values)[training.known]
    target = torch.tensor(np.nan_to_num(z.T), dtype=torch.float32)  # (N, K)
    present = torch.tensor(np.isfinite(z.T))
    classes = [_class_means(task) for task in training.tasks]
    generator = torch.Generator().manual_seed(training.seed)
    prior = torch.tensor(np.nan_to_num(pd.DataFrame(z).mean(axis=1)), dtype=torch.float32)
    network = Network(classes[0].shape[1], prior, generator)
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * -(-len(classes) // _BATCH))
    for _ in range(epochs):
        order = torch.randperm(len(classes), generator=generator)
        for rows in order.split(_BATCH):
            shown = [
                means[torch.randperm(len(means), generator=generator)[:max_classes]]
                if len(means) > max_classes
                else means
                for means in (classes[i] for i in rows)
            ]
            loss = list_mle(network(*pad_tokens(shown)), target[rows], present[rows])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()

    def score(tasks: Sequence[TaskTokens]) -> Floats:
        scores = np.full((len(training.known), len(tasks)), np.nan)
        with torch.no_grad():
            for i, task in enumerate(tasks):
                scores[training.known, i] = network(*pad_tokens([_class_means(task)]))[0]
        return scores

    return score


def _class_means(task: TaskTokens) -> Tensor:
    return nn.functional.normalize(torch.tensor(np.asarray(task.features, dtype=np.float32).mean(axis=0)), eps=1e-6)


class Network(nn.Module):
    """Learned model tokens (K, W), W being :data:`_WIDTH`, that attend to a dataset's class tokens.

    Args:
        dimension: Length D of class tokens.
        prior: (K,) scores to start from.
        generator: Source of the first weights.
    """

    def __init__(self, dimension: int, prior: Tensor, generator: torch.Generator) -> None:
        super().__init__()

        def weight(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) / shape[-1] ** 0.5)

        self.token = weight(len(prior), _WIDTH)
        self.key, self.value = weight(_WIDTH, dimension), weight(_WIDTH, dimension)
        self.hidden, self.out = weight(_WIDTH, 2 * _WIDTH), nn.Parameter(torch.zeros(_WIDTH))
        self.bias = nn.Parameter(prior.clone())

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, C, D) tokens and (B, C) validity -> (B, K) scores."""
        key, value = tokens @ self.key.T, tokens @ self.value.T  # (B, C, W)
        logits = torch.einsum("kw,bcw->bkc", self.token, key) * _WIDTH**0.5
        seen = logits.masked_fill(~mask[:, None, :], float("-inf")).softmax(-1) @ value  # (B, K, W)
        joined = torch.cat([seen, self.token.expand_as(seen) * seen], dim=-1)
        return self.bias + nn.functional.gelu(joined @ self.hidden.T) @ self.out
