"""GBC, the Gaussian Bhattacharyya coefficient.

Pandy et al., "Transferability Estimation using Bhattacharyya Class Separability", CVPR 2022.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from thesis_rec.transferability.inputs import ScoreInput

#: Variances below this share of the features' mean variance are raised to it, so that a feature that is constant in two
#: classes doesn't decide alone.
MIN_VARIANCE = 1e-4


def gbc(data: ScoreInput, components: int = 64, covariance: Literal["spherical", "diagonal"] = "spherical") -> Tensor:
    """Minus the summed overlap of all pairs of classes.

    Features are reduced to their first ``components`` principal axes, each class becomes a Gaussian, and

        GBC = - sum_{i != j} exp(-D_B(i, j)),
        D_B = 1/8 d^T S^-1 d + 1/2 log(|S| / sqrt(|S_i| |S_j|)),  d = mu_i - mu_j,  S = (S_i + S_j) / 2.

    Axes along which nothing varies (constant features, more axes than images) are left out, and the floor of the
    variances is relative, so the score depends neither on constant features nor on the features' unit.

    Args:
        data: Features and labels of T tasks.
        components: Number of principal axes (64 in the paper).
        covariance: ``spherical`` (one variance per class, the paper's best) or ``diagonal``.

    Returns:
        (T,) scores, at most 0, higher is better.
    """
    x, whole = data.principal(components)  # (T, N, P), (T, P)
    used = whole > 0
    axes = used.sum(-1).clamp(min=1).view(-1, 1, 1)
    floor = MIN_VARIANCE * whole.sum(-1).view(-1, 1, 1) / axes
    count = data.class_count.clamp(min=1.0).unsqueeze(-1)  # (T, C, 1)
    mean = data.one_hot.mT @ x / count  # (T, C, P)
    # Deviations from the class's own mean first: differences of large squares would lose small variances.
    deviation = (x - data.one_hot @ mean).square()
    variance = data.one_hot.mT @ deviation / count  # (T, C, P)
    if covariance == "spherical":
        variance = (variance.sum(-1, keepdim=True) / axes).expand_as(variance)
    # An axis that isn't used has the same variance in all classes, so that it adds nothing.
    variance = torch.maximum(variance, floor).masked_fill(~used.unsqueeze(1), 1.0)
    first, second = variance.unsqueeze(2), variance.unsqueeze(1)  # (T, C, 1, P), (T, 1, C, P)
    middle = (first + second) / 2
    distance = (mean.unsqueeze(2) - mean.unsqueeze(1)).square() / middle
    log_ratio = middle.log() - 0.5 * (first.log() + second.log())
    overlap = torch.exp(-(distance.sum(-1) / 8 + log_ratio.sum(-1) / 2))  # (T, C, C)
    present = data.class_count > 0
    itself = torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    pairs = present.unsqueeze(2) & present.unsqueeze(1) & ~itself
    return -overlap.masked_fill(~pairs, 0.0).sum((1, 2))
