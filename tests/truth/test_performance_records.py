"""From raw records to one value per cell."""

import numpy as np
import pandas as pd
import pytest

from thesis_rec.catalog.validators import validate_performance
from thesis_rec.truth.performance_records import COLUMNS, clean_performance


def records(*rows):
    base = {"protocol": "linear_probe", "metric": "accuracy", "n_train": 16, "source": "s", "seed": 0}
    return pd.DataFrame([{**base, "model_id": m, "dataset_id": d, "value": v, **extra} for m, d, v, extra in rows])


def test_repeats_are_averaged_and_their_spread_kept():
    rows = ("a", "x", 0.2, {}), ("a", "x", 0.4, {"seed": 1}), ("b", "x", 0.5, {"seed": -1})
    table = clean_performance([records(*rows)])
    validate_performance(table)
    a, b = table.to_dict("records")
    assert a["value"] == pytest.approx(0.3)
    assert a["std"] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    assert (a["n_repeats"], b["n_repeats"]) == (2, 1)
    assert np.isnan(b["std"])


def test_ones_own_measurements_replace_published_ones():
    own, published = records(("a", "x", 0.9, {})), records(("a", "x", 0.1, {}), ("b", "x", 0.2, {}))
    table = clean_performance([own, published]).set_index("model_id")["value"]
    assert table.to_dict() == {"a": 0.9, "b": 0.2}


def test_revisions_are_not_mixed():
    rows = ("a", "x", 0.9, {"model_revision": "2"}), ("a", "x", 0.1, {"model_revision": "1", "seed": 1})
    assert clean_performance([records(*rows)])["value"].tolist() == [0.1]
    assert clean_performance([records(("a", "x", 0.3, {})), records(*rows)])["value"].tolist() == [0.3]


def test_metrics_and_protocols_are_not_mixed():
    table = clean_performance(
        [records(("a", "x", 0.9, {}), ("a", "x", 0.1, {"metric": "f1"}), ("a", "x", 0.3, {"protocol": "fine_tune"}))]
    )
    assert table[["protocol", "value"]].values.tolist() == [["fine_tune", 0.3], ["linear_probe", 0.9]]


def test_values_that_are_no_fractions_are_left_out(caplog):
    table = clean_performance([records(("a", "x", 90.0, {}), ("a", "y", np.nan, {}), ("a", "z", 0.5, {}))])
    assert table["dataset_id"].tolist() == ["z"]
    assert "2 records" in caplog.text


def test_nothing_measured_is_an_empty_table():
    table = clean_performance([records().reindex(columns=["model_id"])])
    assert list(table.columns) == COLUMNS
    validate_performance(table)
