from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import sem

from thesis_rec.recommendation.bundle import mean_performance
from thesis_rec.recommendation.trying import REPEATED_NOISE, repeated_cells


def test_repeats_are_averaged_per_protocol():
    records = pd.DataFrame({
        "model_id": "m", "dataset_id": ["d", "d", "d", "e"], "value": [0.2, 0.4, 0.9, 0.5],
        "protocol": ["linear_probe", "linear_probe", "fine_tune", "linear_probe"],
    })  # fmt: skip
    found = mean_performance(records).set_index("dataset_id")["value"]
    assert found.to_dict() == pytest.approx({"d": 0.3, "e": 0.5})


def test_the_noise_of_a_mean_is_told_by_its_repeats():
    repeats = np.array([0.2, 0.5, 0.6, 0.3])
    cleaned = pd.DataFrame({
        "model_id": ["a", "b"], "dataset_id": "d", "value": [repeats.mean(), 0.5], "protocol": "linear_probe",
        "std": [repeats.std(ddof=1), np.nan], "n_repeats": [4, 1],
    })  # fmt: skip
    found = mean_performance(cleaned)
    assert found["noise"].tolist() == pytest.approx([sem(repeats), np.nan], nan_ok=True)
    pd.testing.assert_frame_equal(mean_performance(found), found)
    # Repeats that agree by chance, and a single one, aren't taken for exact.
    close = found.assign(noise=[1e-4, np.nan])
    assert [cell.noise for cell in repeated_cells(found)] == pytest.approx([sem(repeats), REPEATED_NOISE])
    assert [cell.noise for cell in repeated_cells(close)] == [REPEATED_NOISE] * 2


def test_repeats_that_share_few_test_images_agree_better_than_they_are_right():
    rng = np.random.default_rng(0)
    right, n_test, n_repeats = 0.8, 48, 3
    # Each measurement: how hard the few test images happen to be, and what each draw of training images adds.
    images = rng.binomial(n_test, right, 4000) / n_test
    values = images[:, None] + rng.normal(0, 0.01, (4000, n_repeats))
    told = mean_performance(
        pd.DataFrame({
            "model_id": np.arange(4000).astype(str), "dataset_id": "d", "value": values.mean(axis=1),
            "std": values.std(axis=1, ddof=1), "n_repeats": n_repeats, "n_test": n_test,
        })
    )  # fmt: skip
    assert told["noise"].mean() == pytest.approx((values.mean(axis=1) - right).std(), rel=0.05)
