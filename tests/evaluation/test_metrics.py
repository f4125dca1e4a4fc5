"""Ranking figures against scipy, brute force and hand-made cases."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import ndcg_score

from thesis_rec.evaluation import metrics

values = arrays(np.float64, st.integers(2, 12), elements=st.floats(0, 1).map(lambda x: round(x, 2)))


def pair(rng, n=15):
    return rng.random(n), rng.random(n)


def test_correlations_are_scipys():
    truth, score = pair(np.random.default_rng(0))
    assert metrics.weighted_tau(truth, score) == pytest.approx(stats.weightedtau(truth, score).statistic)
    assert metrics.kendall_tau_b(truth, score) == pytest.approx(stats.kendalltau(truth, score).statistic)
    assert metrics.pearson(truth, score) == pytest.approx(stats.pearsonr(truth, score).statistic)


@given(values, st.integers(0, 1000), st.booleans())
def test_rank_correlations_are_scipys_with_ties_in_either(truth, seed, coarse):
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 4, len(truth)).astype(float) if coarse else rng.random(len(truth))
    if len(set(truth)) < 2 or len(set(score)) < 2:
        return
    assert metrics.weighted_tau(truth, score) == pytest.approx(stats.weightedtau(truth, score).statistic, abs=1e-6)
    assert metrics.kendall_tau_b(truth, score) == pytest.approx(stats.kendalltau(truth, score).statistic, abs=1e-6)


def test_weighted_tau_is_the_share_of_weight_of_pairs_in_order():
    """Vigna's definition by a plain sum over pairs: weights 1/(rank + 1), added, of both rankings in turn."""
    truth, score = np.random.default_rng(4).random((2, 12))
    found = []
    for ranking in (truth, score):
        weight = 1.0 / (1 + np.argsort(np.argsort(-ranking)))
        pairs = list(itertools.combinations(range(12), 2))
        shared = [weight[i] + weight[j] for i, j in pairs]
        signs = [np.sign((truth[i] - truth[j]) * (score[i] - score[j])) for i, j in pairs]
        found.append(np.dot(shared, signs) / np.sum(shared))
    assert metrics.weighted_tau(truth, score) == pytest.approx(np.mean(found))


def test_ndcg_is_sklearns_on_the_unit_scale():
    truth, score = pair(np.random.default_rng(1))
    gain = (truth - truth.min()) / (truth.max() - truth.min())
    assert metrics.ndcg_at_5(truth, score) == pytest.approx(ndcg_score([gain], [score], k=5))


def test_regret_and_recall_by_hand():
    truth = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.5])
    score = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, -1.0])
    assert metrics.regret(truth, score, 1) == pytest.approx(0.5)
    assert metrics.regret(truth, score, 4) == pytest.approx(0.2)
    assert metrics.regret(truth, score, 99) == 0
    # The fifth place is shared by models 4 and 6; the first five are 5, 4, 3, 2, 1.
    assert metrics.recall_at_5(truth, score) == pytest.approx(4 / 5)


def test_missing_cells_are_left_out():
    truth = np.array([0.1, np.nan, 0.3, 0.5, 0.7])
    score = np.array([1.0, 9.0, np.nan, 2.0, 3.0])
    assert metrics.weighted_tau(truth, score) == pytest.approx(1.0)
    assert metrics.metric_table(truth, score)["regret@1"] == 0
    value, rating = metrics.defined(truth, score)
    assert value.tolist() == [0.1, 0.5, 0.7]
    assert rating.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("function", [metrics.weighted_tau, metrics.kendall_tau_b, metrics.pearson, metrics.ndcg_at_5])
def test_what_has_no_order_is_nan(function):
    assert np.isnan(function([0.5], [1.0]))
    assert np.isnan(function([0.5, 0.5, 0.5], [1.0, 2.0, 3.0]))
    assert function([0.4, 0.6], [1.0, 2.0]) == pytest.approx(1.0)


@pytest.mark.parametrize("function", [metrics.weighted_tau, metrics.kendall_tau_b, metrics.pearson])
def test_equal_scores_have_no_correlation(function):
    assert np.isnan(function([0.4, 0.5, 0.6], [1.0, 1.0, 1.0]))


def test_empty_input():
    assert np.isnan(metrics.regret([], [], 1))
    assert np.isnan(metrics.recall_at_5([np.nan], [1.0]))
    assert all(np.isnan(v) for v in metrics.metric_table([0.5], [1.0]).values())


def test_infinite_scores_are_ranked_but_have_no_pearson():
    table = metrics.metric_table([0.1, 0.2, 0.3], [-np.inf, 0.0, 1.0])
    assert table["weighted_tau"] == pytest.approx(1.0)
    assert np.isnan(table["pearson"])


def test_ties_of_the_top_are_broken_at_random_not_by_position():
    truth = np.arange(6.0)
    # All scores equal: the mean over every order of the six models.
    exact = np.mean([max(truth) - truth[order[0]] for order in itertools.permutations(range(6))])
    table = metrics.metric_table(truth, np.ones(6), rng=0, draws=2000)
    assert table["regret@1"] == pytest.approx(exact, abs=0.15)
    assert abs(table["weighted_tau"]) < 0.05


def test_ties_in_correlations_are_scipys():
    truth, score = np.random.default_rng(3).random(40), np.repeat(np.arange(8.0), 5)
    table = metrics.metric_table(truth, score)
    assert table["weighted_tau"] == pytest.approx(stats.weightedtau(truth, score).statistic)
    assert table["kendall_tau"] == pytest.approx(stats.kendalltau(truth, score).statistic)


def test_table_is_repeatable_and_complete():
    truth, score = pair(np.random.default_rng(2))
    score = score.round(1)
    first = metrics.metric_table(truth, score, rng=5)
    assert first == metrics.metric_table(truth, score, rng=5)
    assert tuple(first) == metrics.METRICS


@given(values, st.integers(0, 1000))
def test_figures_are_bounded_and_invariant(truth, seed):
    score = np.random.default_rng(seed).permutation(len(truth)).astype(float)
    table = metrics.metric_table(truth, score)
    for name in ("weighted_tau", "kendall_tau", "pearson"):
        assert np.isnan(table[name]) or -1 - 1e-9 <= table[name] <= 1 + 1e-9
    assert 0 <= table["regret@5"] <= table["regret@1"] <= 1
    assert 0 <= table["recall@5"] <= 1
    shuffled = np.random.default_rng(seed + 1).permutation(len(truth))
    again = metrics.metric_table(truth[shuffled], score[shuffled])
    for name in ("kendall_tau", "pearson", "regret@1", "recall@5", "ndcg@5"):
        assert again[name] == pytest.approx(table[name], nan_ok=True)
    stretched = metrics.metric_table(truth, np.exp(score))
    for name in ("weighted_tau", "kendall_tau", "regret@1", "recall@5", "ndcg@5"):
        assert stretched[name] == pytest.approx(table[name], nan_ok=True)


@given(values)
def test_a_perfect_ranking_has_no_regret(truth):
    table = metrics.metric_table(truth, truth)
    assert table["regret@1"] == 0
    assert table["recall@5"] == 1


def test_interval_score_by_hand():
    score = metrics.interval_score([0.5, 0.1, 0.9], [0.4] * 3, [0.6] * 3, level=0.9)
    assert score == pytest.approx([0.2, 0.2 + 20 * 0.3, 0.2 + 20 * 0.3])
