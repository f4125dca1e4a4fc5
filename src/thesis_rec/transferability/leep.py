"""LEEP: log expected empirical prediction through the source classes.

Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", ICML 2020.
"""

from __future__ import annotations

from torch import Tensor


def leep(probabilities: Tensor, one_hot: Tensor) -> Tensor:
    """Mean log-likelihood of the labels when they are predicted from the source classes alone.

    With ``theta_i(z)`` the source model's probability of source class z for image i, the empirical joint
    ``P(y, z) = 1/n sum_{i: y_i = y} theta_i(z)`` gives ``P(y | z)``, and

        LEEP = 1/n sum_i log sum_z P(y_i | z) theta_i(z).

    Args:
        probabilities: (T, N, Z) probabilities of the source classes.
        one_hot: (T, N, C) labels, all-zero rows being padding.

    Returns:
        (T,) scores, at most 0, higher is better.
    """
    valid = one_hot.sum(-1) > 0  # (T, N)
    theta = probabilities.to(one_hot.dtype).masked_fill(~valid.unsqueeze(-1), 0.0)
    joint = one_hot.mT @ theta  # (T, C, Z), n times P(y, z)
    conditional = joint / joint.sum(1, keepdim=True).clamp(min=1e-300)
    expected = (theta @ conditional.mT * one_hot).sum(-1)  # (T, N): probability of each image's own label
    logs = expected.clamp(min=1e-300).log().masked_fill(~valid, 0.0)
    return logs.sum(-1) / valid.sum(-1)
