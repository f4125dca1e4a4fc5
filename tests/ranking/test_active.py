"""Active probing against dense Gaussian algebra, numerical integrals and worlds with a known answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from thesis_rec.ranking.active import (
    POLICIES,
    ActiveProbe,
    Candidates,
    Fidelity,
    ProbeBudget,
    expected_improvement,
    fit_fidelity,
    rbf_kernel,
    residual_covariance,
    scale_to,
    simulate,
)


def psd(size, seed=0):
    a = np.random.default_rng(seed).normal(size=(size, size))
    return a @ a.T / size + 0.01 * np.eye(size)


def names(size):
    return [f"m{i}" for i in range(size)]


@given(st.floats(-1, 1), st.floats(0.05, 2), st.floats(-1, 1))
@settings(max_examples=25, deadline=None)
def test_expected_improvement_is_the_integral(mean, std, best):
    low = max(best, mean - 10 * std)
    exact, _ = integrate.quad(lambda x: (x - best) * stats.norm.pdf(x, mean, std), low, max(low, mean + 10 * std))
    assert expected_improvement([mean], [std], best)[0] == pytest.approx(exact, abs=1e-5)


def test_expected_improvement_without_spread():
    assert expected_improvement([0.4, 0.6], [0.0, 0.0], 0.5) == pytest.approx([0.0, 0.1])


def test_observations_in_turn_equal_one_joint_update():
    covariance, mean = psd(6), np.linspace(0, 1, 6)
    probe = ActiveProbe(names(6), mean, covariance, noise_std=0.1)
    for model, value in (("m1", 0.3), ("m4", 0.9), ("m1", 0.5)):
        probe.observe(model, value)
    h = np.eye(6)[[1, 4, 1]]
    s = h @ covariance @ h.T + 0.01 * np.eye(3)
    gain = covariance @ h.T @ np.linalg.inv(s)
    posterior = probe.posterior()
    assert posterior.mean == pytest.approx(mean + gain @ (np.array([0.3, 0.9, 0.5]) - h @ mean))
    assert posterior.std**2 == pytest.approx(np.diagonal(covariance - gain @ h @ covariance))


def test_cheap_score_shifts_with_its_unknown_offset():
    covariance, mean = 0.04 * np.eye(3), np.full(3, 0.5)
    kind = Fidelity(slope=2.0, noise_std=0.01, offset_mean=0.0, offset_std=100.0)
    probe = ActiveProbe(names(3), mean, covariance, fidelities={"logme": kind})
    # One score alone says nothing about the value: the offset is free.
    probe.observe("m0", 7.0, fidelity="logme", seconds=2.5)
    assert probe.posterior().mean == pytest.approx(mean, abs=1e-3)
    probe.observe("m1", 7.2, fidelity="logme")
    probe.observe("m2", 6.8, fidelity="logme")
    after = probe.posterior().mean
    assert after[1] - after[0] == pytest.approx(0.1, abs=0.01)
    assert after[2] < after[0] < after[1]
    assert probe.seconds == 2.5
    assert not probe.observed


def test_known_offset_is_taken_off():
    probe = ActiveProbe(["a"], [0.0], [[1.0]], fidelities={"cheap": Fidelity(1.0, 1e-4, offset_mean=3.0)})
    probe.observe("a", 3.5, fidelity="cheap")
    assert probe.posterior().mean[0] == pytest.approx(0.5, abs=1e-4)


def test_first_choice_is_the_best_predicted_and_none_is_probed_twice():
    probe = ActiveProbe(names(5), [0.1, 0.9, 0.5, 0.3, 0.2], psd(5))
    tried = []
    while (model := probe.next()) is not None:
        tried.append(model)
        probe.observe(model, 0.5)
    assert tried[0] == "m1"
    assert sorted(tried) == names(5)


def test_budget_of_candidates_seconds_and_threshold():
    mean, covariance = [0.5, 0.4, 0.3], 0.01 * np.eye(3)
    probe = ActiveProbe(names(3), mean, covariance, budget=ProbeBudget(candidates=1))
    probe.observe(probe.next(), 0.5)
    assert probe.next() is None
    probe = ActiveProbe(names(3), mean, covariance, costs=[1.0, 5.0, 1.0], budget=ProbeBudget(seconds=3.0))
    probe.observe(probe.next(), 0.5)
    assert probe.next() == "m2"
    probe.observe("m2", 0.1, seconds=3.0)
    assert probe.next() is None
    probe = ActiveProbe(names(3), mean, covariance, budget=ProbeBudget(seconds=3.0))
    probe.observe("m0", 0.5, seconds=3.5)
    assert probe.next() is None
    probe = ActiveProbe(names(3), mean, 1e-8 * np.eye(3), budget=ProbeBudget(threshold=0.01))
    probe.observe("m0", 0.9)
    assert probe.next() is None


def test_expensive_candidates_must_promise_more():
    mean, covariance = [0.9, 0.5, 0.5], 0.04 * np.eye(3)
    probe = ActiveProbe(names(3), mean, covariance, costs=[1.0, 10.0, 1.0])
    probe.observe("m0", 0.5)
    assert probe.next() == "m2"


def test_underflow_still_gives_an_order():
    probe = ActiveProbe(names(3), [0.1, 0.2, 0.3], 1e-12 * np.eye(3))
    probe.observe("m0", 0.99)
    assert probe.next() == "m2"


def test_a_probe_teaches_about_similar_models_only():
    kernel = rbf_kernel([[0.0], [0.01], [5.0]])
    probe = ActiveProbe(names(3), [0.5, 0.5, 0.5], 0.04 * kernel, noise_std=1e-3)
    probe.observe("m0", 0.8)
    mean = probe.posterior().mean
    assert mean[1] == pytest.approx(0.8, abs=0.01)
    # The kernel falls to 1/e at the median distance.
    assert mean[2] - 0.5 == pytest.approx(0.3 * np.exp(-1), abs=0.01)
    assert probe.best() in ("m0", "m1")


@pytest.mark.parametrize(
    "arguments",
    [
        (["a", "a"], [0, 0], np.eye(2)),
        (["a"], [0, 0], np.eye(2)),
        (["a", "b"], [0, np.nan], np.eye(2)),
    ],
)
def test_bad_input_is_refused(arguments):
    with pytest.raises(ValueError, match="mean"):
        ActiveProbe(*arguments)


def test_bad_observations_and_costs_are_refused():
    probe = ActiveProbe(["a", "b"], [0, 0], np.eye(2))
    with pytest.raises(ValueError, match="finite"):
        probe.observe("a", float("nan"))
    with pytest.raises(KeyError):
        probe.observe("c", 0.5)
    with pytest.raises(ValueError, match="costs"):
        ActiveProbe(["a", "b"], [0, 0], np.eye(2), costs=[1.0, 0.0])


def test_residual_covariance_finds_groups():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 10)
    errors = 0.1 * rng.normal(size=(60, 2))[:, group] + 0.02 * rng.normal(size=(60, 20))
    covariance = residual_covariance(errors, rbf_kernel(group[:, None]))
    scale = np.sqrt(np.diagonal(covariance))
    correlation = covariance / scale[:, None] / scale[None, :]
    same = group[:, None] == group[None, :]
    off = ~np.eye(20, dtype=bool)
    assert correlation[same & off].mean() > 0.85
    assert abs(correlation[~same].mean()) < 0.4
    assert np.diagonal(covariance).mean() == pytest.approx(0.1**2 + 0.02**2, rel=0.3)


def test_unknown_models_take_part_through_the_kernel():
    rng = np.random.default_rng(1)
    group = np.repeat([0, 1], 8)
    errors = (0.1 * rng.normal(size=(50, 2))[:, group] + 0.02 * rng.normal(size=(50, 16)))[:, 1:]
    covariance = residual_covariance(errors, rbf_kernel(group[:, None]), range(1, 16))
    assert covariance.shape == (16, 16)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    scale = np.sqrt(np.diagonal(covariance))
    correlation = covariance / scale[:, None] / scale[None, :]
    assert correlation[0, 1:8].mean() > correlation[0, 8:].mean() + 0.3
    # The known models' part is what it would be without the unknown one.
    alone = residual_covariance(errors, rbf_kernel(group[:, None])[1:, 1:])
    assert covariance[1:, 1:] == pytest.approx(alone, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 15), st.integers(2, 8), st.integers(0, 3), st.floats(0, 0.5), st.integers(0, 999))
def test_residual_covariance_is_always_a_covariance(tasks, known, unknown, missing, seed):
    rng = np.random.default_rng(seed)
    errors = np.where(rng.random((tasks, known)) < missing, np.nan, rng.normal(size=(tasks, known)))
    errors[0, 0] = 1.0
    kernel = rbf_kernel(rng.normal(size=(known + unknown, 3)))
    covariance = residual_covariance(errors, kernel, range(known))
    assert np.isfinite(covariance).all()
    assert covariance == pytest.approx(covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9


def test_residual_covariance_refuses_nonsense():
    with pytest.raises(ValueError, match="at least one value"):
        residual_covariance(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="square kernel"):
        residual_covariance(np.ones((3, 2)), np.eye(3))


def test_scale_to_keeps_correlations():
    covariance = psd(4)
    scaled = scale_to(covariance, [1.0, 2.0, 3.0, 4.0])
    assert np.sqrt(np.diagonal(scaled)) == pytest.approx([1.0, 2.0, 3.0, 4.0])
    before, after = (c / np.sqrt(np.outer(np.diagonal(c), np.diagonal(c))) for c in (covariance, scaled))
    assert before == pytest.approx(after)


def test_fidelity_is_recovered_from_data():
    rng = np.random.default_rng(0)
    values = rng.random((80, 60))
    offsets = rng.normal(5.0, 2.0, size=(80, 1))
    scores = offsets + 3.0 * values + 0.2 * rng.normal(size=values.shape)
    scores[rng.random(values.shape) < 0.1] = np.nan
    kind = fit_fidelity(values, scores)
    assert kind.slope == pytest.approx(3.0, abs=0.05)
    assert kind.noise_std == pytest.approx(0.2, abs=0.01)
    assert kind.offset_mean == pytest.approx(offsets.mean(), abs=0.1)
    assert kind.offset_std == pytest.approx(offsets.std(), abs=0.1)
    assert fit_fidelity(values[:1], scores[:1]).offset_std > 0
    with pytest.raises(ValueError, match="no task"):
        fit_fidelity([[0.5, np.nan]], [[1.0, 2.0]])


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
