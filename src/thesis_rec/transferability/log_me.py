"""LogME: the evidence of a Bayesian linear model of the labels.

You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor

from thesis_rec.transferability.inputs import ScoreInput

_SMALL = 1e-12


def log_me(data: ScoreInput, iterations: int = 100, tolerance: float = 1e-6) -> Tensor:
    """Maximum log evidence per image, averaged over classes.

    For the indicator ``y`` of one class, weights ``w ~ N(0, I / alpha)`` and noise of precision ``beta``, the evidence

        L(alpha, beta) = n/2 log beta + d/2 log alpha - n/2 log 2 pi
                         - beta/2 |F m - y|^2 - alpha/2 |m|^2 - 1/2 log |alpha I + beta F^T F|

    with ``m = beta (alpha I + beta F^T F)^-1 F^T y`` is maximised by MacKay's fixed point
    ``alpha = gamma / |m|^2``, ``beta = (n - gamma) / |F m - y|^2``, ``gamma`` being the effective number of weights.
    The eigenvectors of ``F^T F`` (of ``F F^T`` with fewer images than features, which has the same eigenvalues but for
    zeros) turn each step into sums over min(n, d) numbers, for all classes and tasks at once. Features
    are not centred and there is no intercept, as in the authors' code; they stop after at most 11 steps, here it is
    run to convergence.

    Args:
        data: Features and labels of T tasks.
        iterations: Most steps of the fixed point.
        tolerance: Relative change of ``alpha / beta`` below which all classes count as converged.

    Returns:
        (T,) scores, higher is better.
    """
    values, vectors = data.raw_eigen
    spectrum = values.unsqueeze(-1)  # (T, R, 1), R = min(N, D); the other D - R eigenvalues are zero
    n = data.count.view(-1, 1)  # (T, 1)
    width = data.features.shape[-1]
    projected = vectors.mT @ (data.features.mT @ data.one_hot)  # (T, R, C): coordinates of F^T y
    floor = width * torch.finfo(values.dtype).eps * values.amax(-1, keepdim=True).unsqueeze(-1)
    kept = spectrum > floor
    projected = projected.masked_fill(~kept, 0.0)
    spectrum = spectrum.masked_fill(~kept, 0.0)
    # Squared coordinates of y on the left singular vectors, and the part of y outside their span.
    inside = projected.square() / spectrum.masked_fill(~kept, 1.0)
    total = data.class_count  # |y|^2 of an indicator is the number of its ones
    outside = (total - inside.sum(1)).clamp(min=0.0)  # (T, C)

    target = (spectrum, projected, inside, outside)
    alpha = torch.ones_like(total)
    beta = torch.ones_like(total)
    for step in range(iterations):
        gamma, weight, residual = _moments(target, alpha, beta)
        before = alpha / beta
        alpha = (gamma / weight.clamp(min=_SMALL)).clamp(_SMALL, 1 / _SMALL)
        beta = ((n - gamma) / residual.clamp(min=_SMALL)).clamp(_SMALL, 1 / _SMALL)
        # Looking at the result makes a GPU wait, so it isn't done at every step.
        if step % 10 == 9 and bool(((alpha / beta / before - 1).abs() < tolerance).all()):
            break
    _, weight, residual = _moments(target, alpha, beta)
    log_det = (alpha.unsqueeze(1) + beta.unsqueeze(1) * spectrum).log().sum(1)
    log_det = log_det + (width - values.shape[-1]) * alpha.log()
    evidence = (
        0.5 * n * beta.log()
        + 0.5 * width * alpha.log()
        - 0.5 * n * torch.log(torch.tensor(2 * torch.pi, dtype=n.dtype, device=n.device))
        - 0.5 * beta * residual
        - 0.5 * alpha * weight
        - 0.5 * log_det
    )
    present = data.class_count > 0
    return (evidence / n).masked_fill(~present, 0.0).sum(1) / present.sum(1)


def _moments(target: tuple[Tensor, Tensor, Tensor, Tensor], alpha: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
    """Effective number of weights, |m|^2 and |F m - y|^2, each (T, C)."""
    spectrum, projected, inside, outside = target
    shrunk = beta.unsqueeze(1) * spectrum
    denominator = alpha.unsqueeze(1) + shrunk  # (T, R, C)
    gamma = (shrunk / denominator).sum(1)
    weight = (beta.unsqueeze(1) * projected / denominator).square().sum(1)
    residual = (inside * (alpha.unsqueeze(1) / denominator).square()).sum(1) + outside
    return gamma, weight, residual
