"""Policies of probing in worlds with a known answer."""

import numpy as np
import pytest

from thesis_rec.knowledge.active_probing import Fidelity
from thesis_rec.knowledge.probing_policies import POLICIES, Candidates, simulate


def world(seed=0, size=60):
    """Errors of the predictions come in groups, so that a probe says something about its group."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 6, size=size)
    mean = rng.normal(0.6, 0.05, size=size)
    covariance = 0.09**2 * (group[:, None] == group[None, :]) + 0.02**2 * np.eye(size)
    truth = rng.multivariate_normal(mean, covariance)
    cheap = truth + 0.04 * rng.normal(size=size) + 2.0
    cost = np.ones(size)
    return Candidates(truth, truth + 0.005 * rng.normal(size=size), mean, covariance, cost, cheap, 0.5 * cost)


def test_active_beats_the_policies_it_should():
    kind = Fidelity(1.0, 0.04, 2.0, 0.3)
    found = {policy: [] for policy in POLICIES}
    for seed in range(30):
        for policy in POLICIES:
            outcomes = simulate(world(seed), policy, [6], np.random.default_rng(seed), fidelity=kind)
            found[policy].append((outcomes[0].regret, outcomes[0].tau, outcomes[0].seconds))
    mean = {policy: np.mean(rows, axis=0) for policy, rows in found.items()}
    for other in ("prior_top", "random_probes", "cheap_score_all"):
        assert mean["active"][0] < mean[other][0]
    assert mean["active"][1] > mean["prior_top"][1]
    assert mean["active_two_fidelities"][1] > mean["active"][1]
    assert mean["active"][2] == 6
    assert mean["successive_halving"][2] == 36
    assert mean["cheap_score_all"][2] == 30


def test_probing_everything_leaves_no_regret_but_noise():
    for policy in ("active", "prior_top", "random_probes", "successive_halving"):
        last = simulate(world(), policy, [3, 60, 99], np.random.default_rng(0))[-1]
        assert last.probes == 60
        assert last.regret < 0.01
        assert last.tau > 0.95


def test_simulation_refuses_nonsense():
    with pytest.raises(ValueError, match="unknown policy"):
        simulate(world(), "magic", [1], np.random.default_rng(0))
    with pytest.raises(ValueError, match="fidelity"):
        simulate(world(), "active_two_fidelities", [1], np.random.default_rng(0))
