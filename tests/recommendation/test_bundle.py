from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.fabricated import N_MODELS, fabricated_bundle
from thesis_rec.recommendation.bundle import ResidualCovariance, extend_covariance, mean_performance, residuals


def test_repeats_are_averaged_per_protocol():
    records = pd.DataFrame({
        "model_id": "m", "dataset_id": ["d", "d", "d", "e"], "value": [0.2, 0.4, 0.9, 0.5],
        "protocol": ["linear_probe", "linear_probe", "fine_tune", "linear_probe"],
    })  # fmt: skip
    found = mean_performance(records).set_index("dataset_id")["value"]
    assert found.to_dict() == pytest.approx({"d": 0.3, "e": 0.5})


def test_covariance_reaches_unmeasured_models():
    bundle = fabricated_bundle()
    known = ResidualCovariance(bundle.covariance.model_ids[:-2], bundle.covariance.matrix[:-2, :-2])
    # The last model is a copy of the first: their errors must go together more than with others.
    embedding = bundle.models.embedding.copy()
    embedding[-1] = embedding[0] + 1e-3
    models = replace(bundle.models, embedding=embedding)
    found = extend_covariance(known, models)
    np.testing.assert_allclose(found[:-2, :-2], known.matrix, atol=1e-12)
    assert np.linalg.eigvalsh(found).min() > -1e-10
    scale = np.sqrt(np.diagonal(found))
    correlation = found / scale[:, None] / scale[None, :]
    assert correlation[-1, :-1].argmax() == 0
    assert found[-1, -1] >= np.diagonal(known.matrix).mean() * 0.99
    stranger = ResidualCovariance(["x"], np.array([[0.25]]))
    np.testing.assert_array_equal(extend_covariance(stranger, models), 0.25 * np.eye(N_MODELS))


def test_residuals_are_truth_minus_prediction():
    performance = pd.DataFrame({"model_id": ["a", "b", "a"], "dataset_id": ["x", "x", "y"], "value": [0.5, 0.6, 0.7]})
    found = residuals({"x": np.array([0.4, 0.4]), "y": np.array([0.4, 0.4])}, performance, ["a", "b"])
    np.testing.assert_allclose(found, [[0.1, 0.2], [0.3, np.nan]])
