"""The Gaussian over candidates, against dense algebra and in what it decides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_rec.knowledge.posterior import (
    AGREEMENT,
    SHARED,
    TARGET,
    Cell,
    Posterior,
    Scale,
    View,
    expected_improvement,
)

LINEAR = Scale(chance=0.0)


def a_posterior(seed: int = 0, size: int = 7, rank: int = 3, chance: float = 0.1) -> Posterior:
    """A Gaussian over ``size`` candidates and a cheap score of them."""
    rng = np.random.default_rng(seed)
    names = [f"m{i}" for i in range(size)]
    view = View(rng.normal(size=size), rng.normal(size=(size, rank)), rng.uniform(0.1, 0.5, size))
    return Posterior(
        names,
        rng.normal(size=size),
        rng.normal(size=(size, rank)),
        rng.uniform(0.05, 0.5, size),
        Scale(chance),
        {"logme": view},
    )


def dense_update(belief: Posterior, cells: list[Cell]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of targets and scores after the cells, by the textbook formula on the joint covariance."""
    view = belief.views["logme"]
    size = len(belief.model_ids)
    factor = np.vstack([belief.factor, view.factor])
    covariance = factor @ factor.T + np.diag(np.concatenate([belief.own, view.own]))
    mean = np.concatenate([belief.mean, view.mean])
    rows, values, noise = [], [], []
    for cell in cells:
        place = belief.model_ids.index(cell.model_id)
        if cell.protocol == TARGET:
            rows.append(place)
            values.append(float(belief.scale.latent(cell.value)))
            noise.append((cell.noise * float(belief.scale.slope(cell.value))) ** 2)
        else:
            rows.append(size + place)
            values.append(cell.value)
            noise.append(cell.noise**2)
    inner = covariance[np.ix_(rows, rows)] + np.diag(np.maximum(noise, 1e-8))
    gain = np.linalg.solve(inner, covariance[rows]).T
    return (mean + gain @ (np.array(values) - mean[rows]))[:size], (covariance - gain @ covariance[rows])[:size, :size]


def covariance_of(belief):
    """(M, M) covariance on the scale."""
    return belief.factor @ belief.factor.T + np.diag(belief.own)


CELLS = [
    Cell("m2", 0.7, 0.01),
    Cell("m5", 0.4, 0.02),
    Cell("m2", 0.72, 0.01),
    Cell("m1", 0.3, 0.1, "logme"),
    Cell("m2", -0.5, 0.2, "logme"),
]


def test_cells_update_as_the_dense_gaussian_does() -> None:
    """Repeats, other protocols and several models at once."""
    belief = a_posterior()
    mean, covariance = dense_update(belief, CELLS)
    found = belief.given(CELLS)
    np.testing.assert_allclose(found.mean, mean, atol=1e-8)
    np.testing.assert_allclose(covariance_of(found), covariance, atol=1e-8)
    np.testing.assert_allclose(found.std, np.sqrt(np.diagonal(covariance)), atol=1e-7)


@settings(max_examples=30)
@given(st.permutations(range(len(CELLS))), st.integers(0, len(CELLS)), st.integers(0, 50))
def test_the_order_of_cells_does_not_matter(order: list[int], cut: int, seed: int) -> None:
    """One at a time, in parts or all at once."""
    belief = a_posterior(seed)
    at_once = belief.given(CELLS)
    shuffled = [CELLS[i] for i in order]
    in_parts = belief.given(shuffled[:cut]).given(shuffled[cut:])
    np.testing.assert_allclose(in_parts.mean, at_once.mean, atol=1e-6)
    np.testing.assert_allclose(covariance_of(in_parts), covariance_of(at_once), atol=1e-6)
    assert set(in_parts.cells) == set(CELLS)


@settings(max_examples=50)
@given(
    st.floats(0.001, 0.9),
    st.lists(st.floats(-30, 30), min_size=1, max_size=6),
    st.floats(0.0, 20.0),
)
def test_nothing_is_predicted_below_chance_or_above_one(chance: float, mean: list[float], spread: float) -> None:
    """Values and both ends of any interval, however wide."""
    belief = Posterior(
        [str(i) for i in range(len(mean))], np.array(mean), np.full((len(mean), 1), spread), np.ones(len(mean)),
        Scale(chance),
    )  # fmt: skip
    low, high = belief.interval(0.99)
    for values in (belief.value(), low, high):
        assert (values >= chance - 1e-12).all()
        assert (values <= 1 + 1e-12).all()
    assert (low <= high).all()


@settings(max_examples=50)
@given(st.floats(0.0, 0.5), st.floats(0.0, 1.0))
def test_the_scale_and_back(chance: float, share: float) -> None:
    """Accuracies between chance and 1 survive; the slope is the derivative."""
    scale, value = Scale(chance), chance + share * (1 - chance)
    assert float(scale.value(scale.latent(value))) == pytest.approx(value, abs=1e-9)
    inside = float(np.clip(value, chance + 1e-4, 1 - 1e-4))
    step = 1e-6
    slope = (scale.latent(inside + step) - scale.latent(inside - step)) / (2 * step)
    assert float(scale.slope(inside)) == pytest.approx(float(slope), rel=1e-4)


def test_what_is_measured_lies_below_chance_counts_as_chance() -> None:
    """And moves the candidate down, not to minus infinity."""
    belief = a_posterior(chance=0.5)
    below, at = belief.given([Cell("m0", 0.3)]), belief.given([Cell("m0", 0.5)])
    np.testing.assert_allclose(below.mean, at.mean)
    assert below.value()[0] < belief.value()[0]


def test_a_measured_model_is_certain_and_moves_those_that_are_alike() -> None:
    """With an intercept in common all follow; what has nothing in common stays."""
    belief = Posterior(
        ["a", "b", "c"], np.zeros(3), np.array([[1.0], [0.5], [0.0]]), np.array([0.1, 0.1, 0.1]), Scale(0.0)
    )
    found = belief.given([Cell("a", 0.9, 0.0)])
    assert found.std[0] < 1e-3
    assert found.value()[0] == pytest.approx(0.9, abs=1e-3)
    assert found.mean[1] > belief.mean[1]
    assert found.mean[2] == pytest.approx(belief.mean[2], abs=1e-9)
    assert found.std[1] < belief.std[1]
    assert found.std[2] == pytest.approx(belief.std[2])


def test_noise_keeps_a_measurement_from_being_believed_wholly() -> None:
    """The more noise, the less it moves and the wider the interval stays."""
    belief = a_posterior()
    exact, noisy = (belief.given([Cell("m3", 0.95, noise)]) for noise in (0.001, 0.2))
    assert abs(noisy.mean[3] - belief.mean[3]) < abs(exact.mean[3] - belief.mean[3])
    assert noisy.std[3] > 5 * exact.std[3]


def test_selecting_candidates_selects_the_belief() -> None:
    """Cells of those left out go on informing the rest."""
    belief = a_posterior().given(CELLS)
    rows = [4, 2]
    part = belief.only(rows)
    assert part.model_ids == ["m4", "m2"]
    np.testing.assert_allclose(part.mean, belief.mean[rows])
    np.testing.assert_allclose(covariance_of(part), covariance_of(belief)[np.ix_(rows, rows)])
    assert {cell.model_id for cell in part.cells} == {"m2"}


def test_ranking_and_best() -> None:
    """Best first; equal ones in their order."""
    belief = Posterior(["a", "b", "c", "d"], np.array([0.1, 0.5, 0.5, 0.9]), np.zeros((4, 1)), np.ones(4))
    assert belief.ranking().tolist() == [3, 1, 2, 0]
    assert belief.best() == "d"


def test_unusable_cells_are_refused() -> None:
    """With the model's name; those of strangers are left aside."""
    belief = a_posterior()
    with pytest.raises(ValueError, match=r"m1.*finite"):
        belief.given([Cell("m1", float("nan"))])
    with pytest.raises(ValueError, match=r"m1.*at least 0"):
        belief.given([Cell("m1", 0.5, -1.0)])
    with pytest.raises(ValueError, match=r"m1.*h_score.*unknown"):
        belief.given([Cell("m1", 0.5, 0.0, "h_score")])
    assert belief.given([Cell("stranger", 0.5)]) is belief


def test_expected_improvement_by_quadrature() -> None:
    """The mean of what lies above the best so far."""
    rng = np.random.default_rng(0)
    draws = rng.normal(0.3, 0.2, 400_000)
    wanted = np.maximum(draws - 0.5, 0).mean()
    found = expected_improvement([0.3, 0.6, 0.4], [0.2, 0.0, 0.0], 0.5)
    assert found[0] == pytest.approx(wanted, rel=0.02)
    assert found[1:] == pytest.approx([0.1, 0.0])


def test_scores_update_as_the_dense_gaussian_does() -> None:
    """Scores without a unit: a share of what candidates are worth, an unknown mean, and errors, partly in common."""
    belief = a_posterior(size=8)
    scores = {"m1": 3.0, "m2": -1.0, "m4": 0.5, "m5": 2.0, "m7": 7.0}
    rows = np.array([1, 2, 4, 5, 7])
    covariance = covariance_of(belief)
    given = np.array(list(scores.values()))
    drawn_in = np.arcsinh((given - given.mean()) / given.std())
    observed = (drawn_in - drawn_in.mean()) / drawn_in.std()
    mean, factor = belief.mean - belief.mean[rows].mean(), belief.factor - belief.factor[rows].mean(0)
    shared = np.square(factor[rows]).sum(1).mean()
    slope = AGREEMENT / np.sqrt(np.square(mean[rows]).mean() + shared + belief.own[rows].mean())
    rest = 1 - AGREEMENT**2
    error = SHARED * rest / shared * belief.factor[rows] @ belief.factor[rows].T + (1 - SHARED) * rest * np.eye(5)
    inner = slope**2 * covariance[np.ix_(rows, rows)] + error + 100.0
    gain = np.linalg.solve(inner, slope * covariance[rows]).T
    found = belief.scored(scores, "score")
    np.testing.assert_allclose(found.mean, belief.mean + gain @ (observed - slope * mean[rows]), atol=1e-9)
    np.testing.assert_allclose(covariance_of(found), covariance - gain @ (slope * covariance[rows]), atol=1e-9)
    again = belief.scored({name: 1e3 * value - 7 for name, value in scores.items()} | {"stranger": 1.0}, "score")
    np.testing.assert_allclose(again.mean, found.mean)
    assert {cell.protocol for cell in found.cells} == {"score"}
    assert set(found.views) == {"logme"}
    # Cells of the target and of other views are still understood.
    assert found.given(CELLS).std[2] < 0.1


def test_a_score_moves_its_model_and_those_that_are_alike_and_narrows_their_intervals() -> None:
    """What has nothing in common with the scored ones keeps its place and its width."""
    factor = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.5, 0.0], [0.0, 1.0]])
    belief = Posterior(list("abcde"), np.zeros(5), factor, np.full(5, 0.1), Scale(0.1))
    found = belief.scored({"a": 2.0, "b": 1.0, "c": 0.0}, "score")
    assert found.mean[0] > found.mean[1] > found.mean[2]
    assert found.mean[3] > 0.0
    assert found.mean[4] == pytest.approx(0.0, abs=1e-6)
    assert (found.std[:4] < belief.std[:4]).all()
    assert found.std[4] == pytest.approx(belief.std[4])


def test_scores_that_say_nothing_change_nothing() -> None:
    """Two scores have no spread to be held against; equal ones have no order."""
    belief = a_posterior()
    assert belief.scored({"m1": 1.0, "m2": 2.0, "stranger": 3.0}, "score") is belief
    assert belief.scored({"m1": 1.0, "m2": 1.0, "m3": 1.0}, "score") is belief
    with pytest.raises(ValueError, match="isn't finite"):
        belief.scored({"m1": 1.0, "m2": 2.0, "m3": float("inf")}, "score")
