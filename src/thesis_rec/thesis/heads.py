"""The heads of the ranker: ranking score, predicted value and its uncertainty."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MIN_LOG_STD, MAX_LOG_STD = -6.0, 1.0


class RankingHeads(nn.Module):
    r"""From a representation of every (model, dataset) pair to a score, a value and a log standard deviation.

    The score is what the pair shows plus a bilinear interaction,
    :math:`s_{md} = f(h_{md}) + \langle a_m, b_d \rangle / \sqrt r`; with f and b at zero, as they start, all models
    are alike. The value is an affine function of the score with the dataset's own level and spread, plus a small
    correction.

    Args:
        width: Width of the representations.
        rank: Rank of the bilinear interaction.
        dropout: Probability of dropping a unit of the pair's representation.
    """

    def __init__(self, width: int, rank: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        self.rank = rank
        self.pair = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout))
        self.per_pair = nn.Linear(width, 3)  # interaction, correction of the value, log std
        self.of_model = nn.Linear(width, rank)
        self.of_task = nn.Linear(width, rank)
        self.per_task = nn.Linear(width, 3)  # level, spread, log std
        for zeroed in (self.per_pair, self.of_task):
            nn.init.zeros_(zeroed.weight)
            nn.init.zeros_(zeroed.bias)
        nn.init.zeros_(self.per_task.weight)
        # Before training: level 0.5, spread about 0.1, standard deviation about 0.1.
        self.per_task.bias.data.copy_(torch.tensor([0.5, -2.25, -2.3]))

    def forward(self, pair: Tensor, model: Tensor, task: Tensor) -> dict[str, Tensor]:
        """Heads of a batch.

        Args:
            pair: (B, M, W) representation of each model as it sees the dataset.
            model: (B, M, W) representation of each model alone.
            task: (B, W) representation of the dataset.

        Returns:
            ``score``, ``value`` and ``log_std``, each (B, M).
        """
        interaction, correction, log_std = self.per_pair(self.pair(pair)).unbind(-1)
        bilinear = torch.einsum("bmr,br->bm", self.of_model(model), self.of_task(task)) / self.rank**0.5
        score = interaction + bilinear
        level, spread, task_log_std = self.per_task(task).unsqueeze(1).unbind(-1)  # each (B, 1)
        value = level + nn.functional.softplus(spread) * (score + correction)
        return {
            "score": score,
            "value": value,
            "log_std": (log_std + task_log_std).clamp(MIN_LOG_STD, MAX_LOG_STD),
        }


def project_models(projection: nn.Module, models: Tensor) -> Tensor:
    """``projection(models)``, computed once when all datasets of a batch share the same models.

    Args:
        projection: Any module that works on the last dimension.
        models: (B, M, E), possibly expanded along B.
    """
    if models.dim() == 3 and models.shape[0] > 1 and models.stride(0) == 0:
        shared = projection(models[:1])
        return shared.expand(models.shape[0], *shared.shape[1:])
    out: Tensor = projection(models)
    return out
