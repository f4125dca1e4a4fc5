"""Active probing against dense Gaussian algebra and numerical integrals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from thesis_rec.knowledge.active_probing import ActiveProbe, Fidelity, ProbeBudget, expected_improvement
from thesis_rec.knowledge.residuals import rbf_kernel


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
