"""What both ways of training have in common: which weights decay, and how the learning rate rises and falls."""

import math
from typing import Any

from torch import nn


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters of AdamW (Loshchilov and Hutter, 2019); biases, norms and single numbers aren't decayed."""
    trained = [p for p in module.parameters() if p.requires_grad]
    decayed, free = [p for p in trained if p.dim() > 1], [p for p in trained if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def cosine_with_warmup(step: int, total: int, warmup: int) -> float:
    """Factor of the learning rate: linear from 0 to 1 over ``warmup`` steps, then half a cosine down to 0 at ``total``.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, without restarts.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
