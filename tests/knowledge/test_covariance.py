"""The covariance of models over tasks: against scipy, against simulation, and with gaps."""

from __future__ import annotations

import numpy as np
import pytest

from thesis_rec.knowledge.covariance import Covariance, Shrinkage, fit_covariance, standardised


def _simulated(tasks: int = 400, models: int = 12, rank: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    factor = generator.normal(size=(models, rank))
    mean = generator.normal(size=models)
    noise = 0.5 * generator.normal(size=(tasks, models))
    return mean + generator.normal(size=(tasks, rank)) @ factor.T + noise, factor @ factor.T + 0.25 * np.eye(models)


def test_finds_the_covariance_that_made_the_values() -> None:
    values, truth = _simulated()
    found = fit_covariance(values, shrinkage=Shrinkage(rank=2, loadings=0.1, own=0.1, mean=0.0), steps=200)
    np.testing.assert_allclose(found.factor @ found.factor.T + np.diag(found.own), truth, atol=0.45)
    np.testing.assert_allclose(found.mean, values.mean(0), atol=0.02)


def test_gaps_cost_accuracy_but_no_bias() -> None:
    values, truth = _simulated(2000)
    values[np.random.default_rng(1).random(values.shape) < 0.4] = np.nan
    found = fit_covariance(values, shrinkage=Shrinkage(rank=2, loadings=0.1, own=0.1, mean=0.0), steps=200)
    np.testing.assert_allclose(found.factor @ found.factor.T + np.diag(found.own), truth, atol=0.45)


def test_errors_of_measurement_are_no_variance_of_the_models() -> None:
    values, truth = _simulated(1500, rank=1)
    noisy = values + 2 * np.random.default_rng(2).normal(size=values.shape)
    strengths = Shrinkage(rank=1, loadings=0.1, own=0.1, mean=0.0)
    told = fit_covariance(noisy, np.full_like(noisy, 2.0), strengths, steps=300)
    untold = fit_covariance(noisy, shrinkage=strengths, steps=300)
    assert np.median(told.own) == pytest.approx(0.25, abs=0.1)
    assert np.median(untold.own) == pytest.approx(4.25, abs=0.4)
    np.testing.assert_allclose(told.factor @ told.factor.T, truth - 0.25 * np.eye(12), atol=0.45)


def test_cells_of_which_no_error_is_known_count_as_exact_and_inexact_ones_less() -> None:
    values, _ = _simulated(40)
    exact, unknown = fit_covariance(values, np.zeros_like(values)), fit_covariance(values, np.full_like(values, np.nan))
    np.testing.assert_array_equal(unknown.factor @ unknown.factor.T, exact.factor @ exact.factor.T)
    np.testing.assert_array_equal(unknown.own, exact.own)
    # One model's values say nothing: what the others have in common is as it is without it.
    errors = np.zeros_like(values)
    errors[:, 0] = 1e4
    values[:, 0] = np.random.default_rng(9).normal(size=40)
    blind, without = fit_covariance(values, errors, steps=300), fit_covariance(values[:, 1:], steps=300)
    common = blind.factor[1:] @ blind.factor[1:].T
    np.testing.assert_allclose(common, without.factor @ without.factor.T, atol=0.05)


def test_scores_are_the_regression_of_dense_algebra() -> None:
    """The mean of ``w`` given the observed cells, by the textbook formula on their joint covariance."""
    generator = np.random.default_rng(3)
    known = Covariance(generator.normal(size=5), generator.normal(size=(5, 2)), generator.random(5) + 0.1)
    values = generator.normal(size=(3, 5))
    values[1, [0, 3]] = np.nan
    errors = np.full_like(values, 0.2)
    for row, found in zip(values, known.scores(values, errors), strict=True):
        seen = np.isfinite(row)
        matrix = (known.factor @ known.factor.T + np.diag(known.own + 0.04))[np.ix_(seen, seen)]
        np.testing.assert_allclose(found, known.factor[seen].T @ np.linalg.solve(matrix, (row - known.mean)[seen]))


def test_a_model_tried_where_all_do_well_is_no_better_for_it() -> None:
    """Its mean is what is left once what the tasks have in common is taken out."""
    generator = np.random.default_rng(6)
    common = generator.normal(size=(300, 1))
    values = common + 0.3 * generator.normal(size=(300, 8))
    values[common[:, 0] < 0.5, 0] = np.nan
    known = fit_covariance(values, shrinkage=Shrinkage(rank=1, loadings=0.1, own=0.1, mean=0.3), steps=100)
    assert np.nanmean(values[:, 0]) > 1.0
    assert abs(known.mean[0]) < 0.2


def test_levels_are_set_against_the_same_models() -> None:
    # Two tasks of equal difficulty, one of which only the strong models were tried on.
    generator = np.random.default_rng(4)
    values = np.linspace(0, 1, 10) + 0.01 * generator.normal(size=(6, 10))
    values[5, :5] = np.nan
    scaled, level, spread = standardised(values)
    assert level[5] == pytest.approx(level[:5].mean(), abs=0.05)
    np.testing.assert_allclose(level[:, None] + spread[:, None] * scaled, values, equal_nan=True)


def test_a_task_that_tells_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rows \[1\]"):
        standardised([[0.1, 0.2], [0.3, np.nan]])
    with pytest.raises(ValueError, match="without values"):
        fit_covariance(np.full((2, 2), np.nan))
