from __future__ import annotations

import pandas as pd
import pytest

from thesis_rec.recommendation.bundle import mean_performance


def test_repeats_are_averaged_per_protocol():
    records = pd.DataFrame({
        "model_id": "m", "dataset_id": ["d", "d", "d", "e"], "value": [0.2, 0.4, 0.9, 0.5],
        "protocol": ["linear_probe", "linear_probe", "fine_tune", "linear_probe"],
    })  # fmt: skip
    found = mean_performance(records).set_index("dataset_id")["value"]
    assert found.to_dict() == pytest.approx({"d": 0.3, "e": 0.5})
