"""H-score: between-class variance in units of the features' covariance.

Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning", ICIP 2019; its shrunk form
is of Ibrahim et al., "Newer is not always better: Rethinking transferability metrics, their peculiarities, stability
and performance", ECML PKDD 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor

from thesis_rec.transferability.inputs import ScoreInput


def h_score(data: ScoreInput, shrunk: bool = False) -> Tensor:
    """``tr(cov(f)^+ cov(E[f | y]))``.

    Args:
        data: Features and labels of T tasks.
        shrunk: Replace the covariance by Ledoit and Wolf's ``(1 - a) S + a tr(S)/D I`` and multiply the score by
            ``1 - a``, as Ibrahim et al. propose for few images; else the pseudo-inverse is used, where eigenvalues
            below ``D * eps`` times the largest count as zero.

    Returns:
        (T,) scores, higher is better; at most C - 1 without shrinkage.
    """
    values, vectors = data.centred_eigen  # of the scatter, n times the covariance
    width = data.features.shape[-1]
    spread = (data.class_means @ vectors).square()  # (T, C, R), R = min(N, D)
    between = (data.class_count.unsqueeze(-1) * spread).sum(1)  # (T, R): diagonal of the between scatter
    if not shrunk:
        floor = width * torch.finfo(values.dtype).eps * values.amax(-1, keepdim=True)
        kept = values > floor
        return (between / values.masked_fill(~kept, 1.0)).masked_fill(~kept, 0.0).sum(-1)
    n = data.count.unsqueeze(-1)
    covariance = values / n
    intensity = shrinkage(data).unsqueeze(-1)
    target = covariance.sum(-1, keepdim=True) / width
    regular = (1 - intensity) * covariance + intensity * target
    safe = regular.clamp(min=torch.finfo(values.dtype).tiny)
    return ((1 - intensity) * between / n / safe).sum(-1)


def shrinkage(data: ScoreInput) -> Tensor:
    """Ledoit and Wolf's (2004) optimal weight of the scaled identity, (T,) in 0..1."""
    values, _ = data.centred_eigen
    n, width = data.count, data.features.shape[-1]
    covariance = values / n.unsqueeze(-1)
    norm = covariance.square().sum(-1)
    distance = norm - covariance.sum(-1).square() / width
    noise = (data.centred.square().sum(-1).square().sum(-1) / n - norm) / n
    return torch.where(distance > 0, noise.clamp(min=0.0) / distance.clamp(min=1e-300), 1.0).clamp(0.0, 1.0)
