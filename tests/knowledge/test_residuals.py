"""What errors on earlier tasks say, against what was drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_rec.knowledge.residuals import rbf_kernel, residual_covariance


def psd(size, seed=0):
    a = np.random.default_rng(seed).normal(size=(size, size))
    return a @ a.T / size + 0.01 * np.eye(size)


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
