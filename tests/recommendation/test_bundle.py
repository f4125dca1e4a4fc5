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
