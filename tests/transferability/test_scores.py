"""Each score against an independent computation from its paper's formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import NearestCentroid

from thesis_rec.transferability import estimates
from thesis_rec.transferability.estimates import ScoreInput, gbc, h_score, leep, log_me, n_leep, nearest_class_mean


def make_task(seed: int, n: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated, shifted features; every class has at least two images."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.repeat(np.arange(classes), 2), rng.integers(0, classes, n - 2 * classes)])
    centres = rng.normal(size=(classes, width))
    x = (centres[y] + rng.normal(size=(n, width))) @ rng.normal(size=(width, width)) / math.sqrt(width) + 0.5
    return x, y


def evidence_by_search(x: np.ndarray, target: np.ndarray) -> float:
    """Largest log evidence of one target, from the marginal normal N(0, I / beta + F F^T / alpha)."""
    gram, n = x @ x.T, len(target)

    def negative(log_precisions: np.ndarray) -> float:
        covariance = np.eye(n) * np.exp(-log_precisions[1]) + gram * np.exp(-log_precisions[0])
        _, log_det = np.linalg.slogdet(covariance)
        return 0.5 * (n * math.log(2 * math.pi) + log_det + target @ np.linalg.solve(covariance, target))

    starts = [(0.0, 0.0), (3.0, 1.0), (-2.0, 3.0)]
    options = {"xatol": 1e-7, "fatol": 1e-9}
    return -min(minimize(negative, start, method="Nelder-Mead", options=options).fun for start in starts)


@pytest.mark.parametrize(("n", "width"), [(40, 5), (25, 12), (24, 30)])
def test_log_me_is_the_maximum_of_the_evidence(n: int, width: int) -> None:
    x, y = make_task(n + width, n, width, 3)
    expected = np.mean([evidence_by_search(x, (y == c).astype(float)) / n for c in range(3)])
    found = log_me(ScoreInput(x, y), iterations=2000, tolerance=1e-12)
    assert found == pytest.approx(expected, abs=2e-6)
    assert log_me(ScoreInput(x, y)) == pytest.approx(expected, abs=2e-3)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), width=st.integers(1, 12))
def test_h_score_is_the_covariance_formula(seed: int, width: int) -> None:
    x, y = make_task(seed, 40, width, 4)
    means = np.stack([x[y == c].mean(0) for c in range(4)])[y]
    covariance, between = (np.atleast_2d(np.cov(part, rowvar=False)) for part in (x, means))
    expected = np.trace(np.linalg.pinv(covariance, rcond=1e-12) @ between)
    assert h_score(ScoreInput(x, y)) == pytest.approx(expected, rel=1e-6)


def test_h_score_ignores_constant_and_repeated_features() -> None:
    x, y = make_task(0, 40, 5, 3)
    more = np.concatenate([x, x[:, :2], np.full((40, 1), 4.0)], axis=1)
    assert h_score(ScoreInput(more, y)) == pytest.approx(h_score(ScoreInput(x, y)), rel=1e-6)


@pytest.mark.parametrize("width", [6, 50])
def test_shrunk_h_score_uses_ledoit_and_wolf(width: int) -> None:
    x, y = make_task(width, 30, width, 3)
    covariance, intensity = ledoit_wolf(x)
    means = np.stack([x[y == c].mean(0) for c in range(3)])[y]
    between = np.cov(means, rowvar=False, bias=True)
    expected = (1 - intensity) * np.trace(np.linalg.solve(covariance, between))
    assert h_score(ScoreInput(x, y), shrunk=True) == pytest.approx(expected, rel=1e-8)


def leep_by_loops(theta: np.ndarray, y: np.ndarray) -> float:
    """The definition, literally."""
    n, sources = theta.shape
    joint = np.zeros((y.max() + 1, sources))
    for i in range(n):
        for z in range(sources):
            joint[y[i], z] += theta[i, z] / n
    marginal = joint.sum(0)
    total = 0.0
    for i in range(n):
        total += math.log(sum(joint[y[i], z] / marginal[z] * theta[i, z] for z in range(sources) if marginal[z] > 0))
    return total / n


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), sources=st.integers(1, 9))
def test_leep_is_its_definition(seed: int, sources: int) -> None:
    x, y = make_task(seed, 25, sources, 3)
    theta = softmax(x * 3, axis=1)
    assert leep(theta, ScoreInput(x, y).one_hot) == pytest.approx(leep_by_loops(theta, y), rel=1e-9)


def test_leep_of_source_classes_that_are_the_target_classes_is_zero() -> None:
    x, y = make_task(0, 30, 3, 3)
    data = ScoreInput(x, y)
    assert leep(data.one_hot, data.one_hot) == pytest.approx(0.0)
    constant = np.full((30, 4), 0.25)
    shares = np.bincount(y) / 30
    assert leep(constant, data.one_hot) == pytest.approx(float((shares * np.log(shares)).sum()))


@pytest.mark.parametrize("n", [90, 12])
def test_n_leep_is_leep_of_a_mixture_on_the_components_that_explain_most(n: int) -> None:
    x, y = make_task(5, n, 12, 3)
    reduced = PCA(n_components=0.8, svd_solver="full").fit_transform(x)
    reduced /= np.sqrt(reduced.var(0).mean())
    mixture = GaussianMixture(min(15, n), covariance_type="diag", random_state=0).fit(reduced)
    expected = leep_by_loops(mixture.predict_proba(reduced), y)
    assert n_leep(ScoreInput(x, y)) == pytest.approx(expected, rel=1e-6)


def gbc_by_loops(x: np.ndarray, y: np.ndarray, components: int) -> float:
    """The definition, pair by pair with matrices."""
    reduced = PCA(n_components=min(components, x.shape[1])).fit_transform(x)
    total = 0.0
    gaussians = []
    for c in range(y.max() + 1):
        variance = np.full(reduced.shape[1], reduced[y == c].var(0).mean())
        gaussians.append((reduced[y == c].mean(0), np.diag(np.maximum(variance, 1e-4))))
    for i, (mean_i, cov_i) in enumerate(gaussians):
        for j, (mean_j, cov_j) in enumerate(gaussians):
            if i != j:
                middle, d = (cov_i + cov_j) / 2, mean_i - mean_j
                determinants = [np.linalg.slogdet(part)[1] for part in (middle, cov_i, cov_j)]
                distance = d @ np.linalg.solve(middle, d) / 8 + 0.5 * (
                    determinants[0] - 0.5 * (determinants[1] + determinants[2])
                )
                total -= math.exp(-distance)
    return total


@pytest.mark.parametrize("components", [3, 64])
def test_gbc_is_its_definition(components: int) -> None:
    x, y = make_task(11, 60, 8, 4)
    expected = gbc_by_loops(x, y, components)
    found = gbc(ScoreInput(x, y), components)
    assert found == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e5])
@pytest.mark.parametrize("dead", [0, 8, 100])
def test_gbc_and_n_leep_depend_neither_on_constant_features_nor_on_the_unit(factor: float, dead: int) -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 20)
    x = rng.normal(size=(60, 8)) + np.eye(3)[y] @ rng.normal(size=(3, 8))
    other = np.concatenate([x, np.full((60, dead), 2.0)], axis=1) * factor
    assert gbc(ScoreInput(x, y)) == pytest.approx(gbc_by_loops(x, y, 64), rel=1e-7)
    for score in (gbc, n_leep):
        assert score(ScoreInput(other, y)) == pytest.approx(score(ScoreInput(x, y)), rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_features_without_any_variance_give_finite_scores(value: float) -> None:
    data = ScoreInput(np.full((60, 8), value), np.repeat([0, 1, 2], 20))
    assert gbc(data) == pytest.approx(-6.0)  # every pair of classes overlaps wholly
    assert n_leep(data) == pytest.approx(math.log(1 / 3))
    assert math.isfinite(log_me(data))
    assert h_score(data) == h_score(data, shrunk=True) == 0


@pytest.mark.parametrize(("n", "width"), [(24, 30), (30, 200)])
def test_fewer_images_than_features_give_what_the_wide_problem_gives(
    monkeypatch: pytest.MonkeyPatch, n: int, width: int
) -> None:
    task = make_task(n, n, width, 3)
    scores = (log_me, h_score, lambda d: h_score(d, shrunk=True), gbc, n_leep)
    found = [score(ScoreInput(*task)) for score in scores]
    solve = estimates.scatter_eigen
    # Rows of zeros change nothing but make the problem tall.
    monkeypatch.setattr(estimates, "scatter_eigen", lambda rows: solve(np.pad(rows, ((0, width), (0, 0)))))
    for score, value in zip(scores, found, strict=True):
        np.testing.assert_allclose(score(ScoreInput(*task)), value, rtol=1e-6, atol=1e-9)


def test_the_solver_never_sees_more_than_as_many_rows_as_images(monkeypatch: pytest.MonkeyPatch) -> None:
    solve, sizes = np.linalg.eigh, []
    monkeypatch.setattr(estimates.np.linalg, "eigh", lambda m: sizes.append(m.shape[-1]) or solve(m))
    rng = np.random.default_rng(0)
    data = ScoreInput(rng.normal(size=(50, 4096)), np.arange(50) % 5)
    assert all(math.isfinite(score(data)) for score in (log_me, h_score, gbc, n_leep))
    assert set(sizes) == {50}


def test_every_score_prefers_separated_classes() -> None:
    x, y = make_task(2, 80, 10, 4)
    better = x + 3 * np.random.default_rng(0).normal(size=(4, 10))[y]
    for score in (log_me, h_score, gbc, n_leep):
        assert score(ScoreInput(better, y)) > score(ScoreInput(x, y))


def test_bad_shapes_are_refused_and_classes_may_be_named_by_any_numbers() -> None:
    x, y = make_task(0, 20, 3, 2)
    assert log_me(ScoreInput(x, y)) == log_me(ScoreInput(x, 7 * y - 2))
    with pytest.raises(ValueError, match="don't fit"):
        ScoreInput(x, y[:-1])
    with pytest.raises(ValueError, match="two classes"):
        ScoreInput(x, np.zeros_like(y))


def test_nearest_class_mean_is_the_nearest_centroid_left_one_out() -> None:
    """On features as they are: a dimension of a larger unit counts more."""
    features, labels = make_task(3, 40, 6, 4)
    features = features * np.array([30.0, 1, 1, 1, 1, 1])
    expected = cross_val_score(NearestCentroid(), features, labels, cv=LeaveOneOut()).mean()
    assert 0.2 < expected < 1
    found = nearest_class_mean(ScoreInput(features, labels))
    assert found == pytest.approx(expected)


def test_an_image_that_is_alone_in_its_class_is_an_error() -> None:
    found = nearest_class_mean(ScoreInput([[0.0], [0.1], [5.0]], [0, 0, 1]))
    assert found == pytest.approx(2 / 3)
