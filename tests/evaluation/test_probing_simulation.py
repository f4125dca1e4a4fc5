"""Policies of trying in worlds with a known answer."""

import numpy as np
import pytest
from scipy.stats import weightedtau

from thesis_rec.evaluation.probing_simulation import POLICIES, Candidates, simulate
from thesis_rec.knowledge.posterior import Cell, Posterior, Scale, next_probe


def world(seed: int = 0, size: int = 60) -> Candidates:
    """Errors of the predictions come in groups, so that a try says something about its group."""
    rng = np.random.default_rng(seed)
    scale = Scale(0.1)
    member = np.eye(6)[rng.integers(0, 6, size=size)]
    mean = rng.normal(0.4, 0.2, size=size)
    latent = mean + 0.5 * member @ rng.normal(size=6) + 0.1 * rng.normal(size=size)
    belief = Posterior([f"m{i}" for i in range(size)], mean, 0.5 * member, np.full(size, 0.01), scale)
    truth = scale.value(latent)
    cheap = truth + 0.04 * rng.normal(size=size) + 2.0
    seconds = np.ones(size)
    return Candidates(belief, truth, truth + 0.005 * rng.normal(size=size), 0.005, seconds, cheap, 0.5 * seconds)


def test_active_beats_the_policies_it_should() -> None:
    """In regret, and in the order of all."""
    found: dict[str, list[tuple[float, float, float]]] = {policy: [] for policy in POLICIES}
    for seed in range(30):
        for policy in POLICIES:
            outcome = simulate(world(seed), policy, [6], np.random.default_rng(seed))[0]
            found[policy].append((outcome.regret, outcome.tau, outcome.seconds))
    mean = {policy: np.mean(rows, axis=0) for policy, rows in found.items()}
    for other in ("own_top", "random_probes", "cheap_score_all"):
        assert mean["active"][0] < mean[other][0]
    assert mean["active"][1] > mean["own_top"][1]
    assert mean["active"][0] <= mean["best_observed"][0] + 0.005
    assert mean["active"][2] == mean["best_observed"][2] == 6
    assert mean["successive_halving"][2] == 36
    assert mean["cheap_score_all"][2] == 30
    assert mean["halving"][2] <= 6


def test_halving_spends_the_seconds_of_the_own_top_on_scores_and_on_tries_of_the_best_scored() -> None:
    """By hand: of nine seconds six score the best predicted, a score costing one, and three try the best of them."""
    whole = world()
    even = Candidates(**{**whole.__dict__, "cheap_seconds": np.ones(60), "observed": whole.truth})
    order = even.belief.ranking()
    tried = sorted(order[:6], key=lambda row: -even.cheap[row])[:3]
    outcome = simulate(even, "halving", [9], np.random.default_rng(0))[0]
    assert (outcome.probes, outcome.seconds) == (3, 9.0)
    assert outcome.regret == pytest.approx(even.truth.max() - even.truth[tried].max())
    # A score that costs next to nothing is made of all, and tries are left for as many as before.
    free = Candidates(**{**even.__dict__, "cheap_seconds": np.full(60, 1e-12)})
    all_scored = simulate(free, "successive_halving", [9], np.random.default_rng(0))[0]
    assert simulate(free, "halving", [9], np.random.default_rng(0))[0].regret == all_scored.regret
    # One second is enough for one score; one is tried whatever it takes.
    assert simulate(even, "halving", [1], np.random.default_rng(0))[0].probes == 1


def test_what_was_not_tried_is_ranked_by_what_its_policy_knows_of_it() -> None:
    """A cheap score that is the truth, in other units, leaves nothing out of order; beliefs do, and learn."""
    whole = world()
    told = Candidates(**{**whole.__dict__, "cheap": 5 * whole.truth - 9, "observed": whole.truth})
    tau = {policy: simulate(told, policy, [6], np.random.default_rng(0))[0].tau for policy in POLICIES}
    assert tau["successive_halving"] == tau["cheap_score_all"] == pytest.approx(1.0)
    assert tau["own_top"] < tau["active"] < 0.99
    belief, tried = told.belief, list[int]()
    for _ in range(6):
        tried.append(belief.model_ids.index(next_probe(belief, dict.fromkeys(belief.model_ids, 1.0))))
        belief = belief.given([Cell(belief.model_ids[tried[-1]], float(told.truth[tried[-1]]), told.noise)])
    order = sorted(range(60), key=lambda row: (row in tried, told.truth[row] if row in tried else belief.mean[row]))
    assert tau["best_observed"] == pytest.approx(weightedtau(told.truth, np.argsort(order)).statistic)


def test_trying_everything_leaves_no_regret_but_noise() -> None:
    """And no more candidates are tried than there are."""
    for policy in ("active", "own_top", "random_probes", "successive_halving", "best_observed"):
        last = simulate(world(), policy, [3, 60, 99], np.random.default_rng(0))[-1]
        assert last.probes == 60
        assert last.regret < 0.02
        assert last.tau > 0.95


def test_noise_of_the_simulation_is_that_of_its_cells() -> None:
    """Ten times the announced noise makes the belief follow a try less."""
    exact = world()
    loud = Candidates(**{**exact.__dict__, "noise": 0.3})
    one, other = (simulate(item, "random_probes", [60], np.random.default_rng(0))[0] for item in (exact, loud))
    assert one.tau > other.tau


def test_simulation_refuses_nonsense() -> None:
    """With the names that it knows."""
    with pytest.raises(ValueError, match="unknown policy"):
        simulate(world(), "magic", [1], np.random.default_rng(0))
