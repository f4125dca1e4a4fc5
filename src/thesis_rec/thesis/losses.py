"""Losses that teach a ranker an order, and values, from partly measured truth.

All take batches of lists: ``score`` and ``truth`` are (B, M), B datasets with M models each, and ``mask`` is (B, M),
True where the truth was measured. A list with fewer than two measured models has no order and doesn't count.
"""

import math

import numpy as np
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
    return order.argsort(dim=1)


def _mean_over_lists(per_list: Tensor, mask: Tensor, least: int = 2) -> Tensor:
    """Mean over the lists with at least so many measured models; 0 where there is none."""
    valid = (mask.sum(1) >= least).to(per_list.dtype)
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


def pairwise_logistic(score: Tensor, truth: Tensor, mask: Tensor, gap_power: float = 1.0) -> Tensor:
    r"""Logistic loss over pairs of models, weighted by how much the pair matters.

    Burges et al., "Learning to Rank using Gradient Descent" (RankNet), ICML 2005: :math:`\log(1 + e^{-(s_i - s_j)})`
    for every pair with :math:`t_i > t_j`. Pairs that differ by no more than noise should count little, hence the power
    of the gap; pairs at the top of the true order decide the recommendation, hence the weights of
    ``scipy.stats.weightedtau``, ``1 / (1 + rank_i) + 1 / (1 + rank_j)`` of the true ranks.

    Args:
        score: (B, M) predicted scores.
        truth: (B, M) measured values.
        mask: (B, M) True where measured.
        gap_power: Weight ``(t_i - t_j) ** gap_power``.

    Returns:
        Scalar: mean over lists of the weighted mean over pairs.
    """
    gap = truth.unsqueeze(2) - truth.unsqueeze(1)  # (B, M, M), positive where row beats column
    pair = mask.unsqueeze(2) & mask.unsqueeze(1) & (gap > 0)
    place = 1.0 / (1.0 + truth_ranks(truth, mask).to(score.dtype))
    weight = pair * gap.clamp(min=0).pow(gap_power) * (place.unsqueeze(2) + place.unsqueeze(1))
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
    return _mean_over_cells((value - truth).square(), mask)


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
    return _mean_over_cells(log_std + 0.5 * (value - truth).square() * torch.exp(-2.0 * log_std), mask)


def _mean_over_cells(loss: Tensor, mask: Tensor) -> Tensor:
    return _mean_over_lists(loss.masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp(min=1), mask, least=1)


def weighted_tau(score: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Weighted Kendall's tau of every list (``scipy.stats.weightedtau``): what training is judged by.

    Args:
        score: (B, M) predicted scores.
        truth: (B, M) measured values.
        mask: (B, M) True where measured.

    Returns:
        (B,) values in [-1, 1], 0 where all scores are equal; NaN for lists with fewer than two measured models.
    """
    from scipy.stats import weightedtau

    lists = zip(*(part.detach().cpu().numpy() for part in (score, truth, mask)), strict=True)
    taus = [np.nan_to_num(weightedtau(s[m], t[m]).statistic) if m.sum() > 1 else math.nan for s, t, m in lists]
    return torch.tensor(taus, dtype=score.dtype, device=score.device)
