"""The losses against loops over their published formulas."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import weightedtau

from thesis_rec.thesis import losses


def lists(seed: int, batch: int = 3, models: int = 6, missing: float = 0.3, decimals: int = 6):
    rng = np.random.default_rng(seed)
    mask = rng.random((batch, models)) > missing
    score, truth = rng.normal(size=(2, batch, models))
    truth = np.where(mask, truth.round(decimals), np.nan_to_num(rng.normal(size=truth.shape) * 100))
    return [torch.tensor(x) for x in (score, truth, mask)]


def brute_list_mle(score, truth, mask, discount):
    total, count = 0.0, 0
    for s, t, m in zip(score.tolist(), truth.tolist(), mask.tolist(), strict=True):
        measured = sorted((i for i in range(len(s)) if m[i]), key=lambda i: -t[i])
        if len(measured) < 2:
            continue
        count += 1
        weights = [1 / (p + 1) if discount else 1.0 for p in range(len(measured))]
        loss = sum(
            -w * math.log(math.exp(s[i]) / sum(math.exp(s[j]) for j in measured[p:]))
            for p, (i, w) in enumerate(zip(measured, weights, strict=True))
        )
        total += loss / sum(weights)
    return total / max(count, 1)


def brute_pairwise(score, truth, mask, power):
    total, count = 0.0, 0
    for s, t, m in zip(score.tolist(), truth.tolist(), mask.tolist(), strict=True):
        measured = sorted((i for i in range(len(s)) if m[i]), key=lambda i: -t[i])
        if len(measured) < 2:
            continue
        count += 1
        top = bottom = 0.0
        for a, b in combinations(range(len(measured)), 2):
            i, j = measured[a], measured[b]
            if t[i] == t[j]:
                continue
            w = (t[i] - t[j]) ** power * (1 / (a + 1) + 1 / (b + 1))
            top += w * math.log1p(math.exp(-(s[i] - s[j])))
            bottom += w
        total += top / bottom if bottom else 0.0
    return total / max(count, 1)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.booleans())
def test_list_mle_is_the_plackett_luce_likelihood(seed, discount):
    score, truth, mask = lists(seed)
    assert losses.list_mle(score, truth, mask, discount).item() == pytest.approx(
        brute_list_mle(score, truth, mask, discount), rel=1e-8
    )


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0, 2.0]))
def test_pairwise_logistic_sums_over_ordered_pairs(seed, power):
    score, truth, mask = lists(seed)
    assert losses.pairwise_logistic(score, truth, mask, power).item() == pytest.approx(
        brute_pairwise(score, truth, mask, power), rel=1e-8
    )


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([1, 6]))
def test_weighted_tau_is_scipys_by_default_arguments(seed, decimals):
    score, truth, mask = lists(seed, models=9, decimals=decimals)
    for tau, s, t, m in zip(losses.weighted_tau(score, truth, mask), score, truth, mask, strict=True):
        if m.sum() < 2:
            assert tau.isnan()
        else:
            # What has no order has a tau of 0, where scipy's is undefined.
            expected = np.nan_to_num(weightedtau(s[m].numpy(), t[m].numpy()).statistic)
            assert tau.item() == pytest.approx(expected, abs=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_regression_losses_count_measured_cells_only(seed):
    # Lists with one measured model have no order, but a value.
    score, truth, mask = lists(seed, missing=0.7)
    log_std = torch.full_like(score, math.log(0.5))
    mse, nll, count = 0.0, 0.0, 0
    for s, t, m in zip(score.numpy(), truth.numpy(), mask.numpy(), strict=True):
        if m.any():
            count += 1
            mse += ((s[m] - t[m]) ** 2).mean()
            nll += (math.log(0.5) + (s[m] - t[m]) ** 2 / (2 * 0.25)).mean()
    assert losses.masked_mse(score, truth, mask).item() == pytest.approx(mse / max(count, 1))
    assert losses.gaussian_nll(score, log_std, truth, mask).item() == pytest.approx(nll / max(count, 1))


@pytest.mark.parametrize("loss", [losses.list_mle, losses.pairwise_logistic, losses.masked_mse])
def test_unmeasured_cells_have_no_influence(loss):
    score, truth, mask = lists(5)
    score.requires_grad_()
    value = loss(score, truth, mask)
    value.backward()
    assert (score.grad[~mask] == 0).all()
    assert score.grad[mask].abs().sum() > 0
    moved = torch.where(mask, score.detach(), score.detach() + 1000)
    assert loss(moved, truth, mask).item() == pytest.approx(value.item())


def test_lists_without_an_order_give_zero_and_a_finite_gradient():
    score = torch.randn(2, 4, requires_grad=True)
    mask = torch.zeros(2, 4, dtype=torch.bool)
    for loss in (losses.list_mle, losses.pairwise_logistic, losses.masked_mse):
        value = loss(score, torch.zeros(2, 4), mask)
        value.backward()
        assert value.item() == 0
    assert score.grad.isfinite().all()


def test_ranks_put_unmeasured_models_last():
    truth = torch.tensor([[0.2, 9.0, 0.7, 0.5]])
    mask = torch.tensor([[True, False, True, True]])
    assert losses.truth_ranks(truth, mask).tolist() == [[2, 3, 0, 1]]
