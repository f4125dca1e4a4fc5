"""Losses that teach a ranker an order, and values, from partly measured truth.

All take batches of lists: ``score`` and ``truth`` are (B, M), B datasets with M models each, and ``mask`` is (B, M),
True where the truth was measured. A list with fewer than two measured models has no order and doesn't count.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_LOWEST = -1e9


def truth_ranks(truth: Tensor, mask: Tensor) -> Tensor:
    """Rank of every model by its truth, 0 the best; unmeasured models come last.

    Args:
        truth: (B, M) measured values, anything where unmeasured.
        mask: (B, M) True where measured.

    Returns:
        (B, M) int64.
    """
    order = truth.masked_fill(~mask, -math.inf).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1, stable=True)


def _mean_over_lists(per_list: Tensor, mask: Tensor) -> Tensor:
    valid = (mask.sum(1) > 1).to(per_list.dtype)
    return (per_list * valid).sum() / valid.sum().clamp(min=1)


def list_mle(score: Tensor, truth: Tensor, mask: Tensor, discount: bool = False) -> Tensor:
    r"""Negative log-likelihood of the true order under the Plackett-Luce model of the scores.

    Xia et al., "Listwise Approach to Learning to Rank: Theory and Algorithm", ICML 2008:
    :math:`-\frac1n \sum_i \log \frac{\exp s_{\pi(i)}}{\sum_{j \ge i} \exp s_{\pi(j)}}`, where :math:`\pi` sorts by
    truth.

    Args:
        score: (B, M) predicted scores.
        truth: (B, M) measured values.
        mask: (B, M) True where measured.
        discount: Weight position i by 1 / (i + 1), as weighted tau does, so that the top of the list counts most
            (Lan et al., "Position-Aware ListMLE", UAI 2014, with a hyperbolic weight).

    Returns:
        Scalar: mean over lists of the (weighted) mean over positions.
    """
    order = truth.masked_fill(~mask, -math.inf).argsort(dim=1, descending=True, stable=True)
    valid = mask.gather(1, order)
    # Unmeasured models stand last with a score that adds nothing to any sum.
    ordered = score.gather(1, order).masked_fill(~valid, _LOWEST)
    tails = ordered.flip(1).logcumsumexp(1).flip(1)  # (B, M) log of the sum over the list from i on
    weight = valid.to(score.dtype)
    if discount:
        weight = weight / torch.arange(1, score.shape[1] + 1, device=score.device, dtype=score.dtype)
    loss = ((tails - ordered) * weight).sum(1) / weight.sum(1).clamp(min=1e-12)
    return _mean_over_lists(loss, mask)


def pairwise_logistic(
    score: Tensor, truth: Tensor, mask: Tensor, gap_power: float = 1.0, hyperbolic: bool = True
) -> Tensor:
    r"""Logistic loss over pairs of models, weighted by how much the pair matters.

    Burges et al., "Learning to Rank using Gradient Descent" (RankNet), ICML 2005: :math:`\log(1 + e^{-(s_i - s_j)})`
    for every pair with :math:`t_i > t_j`. Pairs that differ by no more than noise should count little, hence the power
    of the gap; pairs at the top of the true order decide the recommendation, hence the weights of
    ``scipy.stats.weightedtau``.

    Args:
        score: (B, M) predicted scores.
        truth: (B, M) measured values.
        mask: (B, M) True where measured.
        gap_power: Weight ``(t_i - t_j) ** gap_power``; 0 gives RankNet.
        hyperbolic: Multiply by ``1 / (1 + rank_i) + 1 / (1 + rank_j)`` of the true ranks.

    Returns:
        Scalar: mean over lists of the weighted mean over pairs.
    """
    gap = truth.unsqueeze(2) - truth.unsqueeze(1)  # (B, M, M), positive where row beats column
    pair = mask.unsqueeze(2) & mask.unsqueeze(1) & (gap > 0)
    weight = pair.to(score.dtype)
    if gap_power:
        weight = weight * gap.clamp(min=0).pow(gap_power)
    if hyperbolic:
        place = 1.0 / (1.0 + truth_ranks(truth, mask).to(score.dtype))
        weight = weight * (place.unsqueeze(2) + place.unsqueeze(1))
    loss = functional.softplus(score.unsqueeze(1) - score.unsqueeze(2))  # softplus(-(s_i - s_j))
    per_list = (loss * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-12)
    return _mean_over_lists(per_list, mask)


def masked_mse(value: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over measured cells, every list counting the same.

    Args:
        value: (B, M) predicted values.
        truth: (B, M) measured values.
        mask: (B, M) True where measured.
    """
    count = mask.sum(1)
    error = (value - truth).square().masked_fill(~mask, 0.0).sum(1) / count.clamp(min=1)
    valid = (count > 0).to(error.dtype)
    return (error * valid).sum() / valid.sum().clamp(min=1)


def gaussian_nll(value: Tensor, log_std: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    r"""Negative log-likelihood of the truth under independent normal predictions, without the constant.

    Nix and Weigend, "Estimating the mean and variance of the target probability distribution", 1994:
    :math:`\log\sigma + (t - v)^2 / (2 \sigma^2)`.

    Args:
        value: (B, M) predicted means.
        log_std: (B, M) natural logarithm of the predicted standard deviations.
        truth: (B, M) measured values.
        mask: (B, M) True where measured.
    """
    count = mask.sum(1)
    loss = log_std + 0.5 * (value - truth).square() * torch.exp(-2.0 * log_std)
    per_list = loss.masked_fill(~mask, 0.0).sum(1) / count.clamp(min=1)
    valid = (count > 0).to(per_list.dtype)
    return (per_list * valid).sum() / valid.sum().clamp(min=1)


def weighted_tau(score: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    r"""Weighted Kendall's tau of every list: what training is judged by.

    Vigna, "A weighted correlation index for rankings with ties", WWW 2015, with the additive hyperbolic weights that
    ``scipy.stats.weightedtau`` has by default, averaged over the two rankings. Scores that are all equal give 0.

    Args:
        score: (B, M) predicted scores.
        truth: (B, M) measured values.
        mask: (B, M) True where measured.

    Returns:
        (B,) values in [-1, 1]; NaN for lists with fewer than two measured models.
    """
    score_sign = torch.sign(score.unsqueeze(2) - score.unsqueeze(1))
    truth_sign = torch.sign(truth.unsqueeze(2) - truth.unsqueeze(1))
    pair = (mask.unsqueeze(2) & mask.unsqueeze(1)).to(score.dtype)
    total = torch.zeros(score.shape[0], dtype=score.dtype, device=score.device)
    for first, second in ((score, truth), (truth, score)):
        place = 1.0 / (1.0 + _ranks_with_tie_break(first, second, mask).to(score.dtype))
        weight = pair * (place.unsqueeze(2) + place.unsqueeze(1))
        norm = ((weight * score_sign.square()).sum((1, 2)) * (weight * truth_sign.square()).sum((1, 2))).sqrt()
        total += (weight * score_sign * truth_sign).sum((1, 2)) / norm.clamp(min=1e-12)
    return (total / 2).masked_fill(mask.sum(1) < 2, math.nan)


def _ranks_with_tie_break(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Ranks by decreasing ``first``, ties by decreasing ``second``."""
    by_second = second.masked_fill(~mask, -math.inf).argsort(dim=1, descending=True, stable=True)
    resorted = first.masked_fill(~mask, -math.inf).gather(1, by_second)
    order = by_second.gather(1, resorted.argsort(dim=1, descending=True, stable=True))
    return order.argsort(dim=1, stable=True)
