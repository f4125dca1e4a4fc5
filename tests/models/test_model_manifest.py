"""Reading manifests: what is usable is used, what isn't is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from thesis_rec.models.model_manifest import ManifestRow, read_manifest


def row(**changes: object) -> dict[str, object]:
    return {"model_id": "a", "loader": "timm", "source": "models/a", "family": "resnet"} | changes


def test_rows_keep_their_order_defaults_and_further_columns():
    table = pd.DataFrame([row(), row(model_id="b/c", source=" hf-hub:b/c ", licence="MIT", reference="https://x")])
    rows, failures = read_manifest(table)
    assert failures == []
    assert [r.model_id for r in rows] == ["a", "b/c"]
    assert rows[0].licence == rows[0].pretraining == "unknown"
    assert rows[0].extractor == rows[0].revision == ""
    assert rows[0].hub_id is None
    assert rows[1].hub_id == "b/c"
    assert rows[1].licence == "MIT"
    assert rows[1].model_extra == {"reference": "https://x"}


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, "", "  "])
def test_rows_without_a_source_are_failures(missing):
    rows, failures = read_manifest(pd.DataFrame([row(source=missing), row(model_id="b")]))
    assert [r.model_id for r in rows] == ["b"]
    assert failures[0].item == "a"
    assert "Line 2" in failures[0].error
    assert "source is empty" in failures[0].error
    assert failures[0].hint


def test_a_row_without_an_id_is_named_by_its_line():
    _, failures = read_manifest(pd.DataFrame([row(), row(model_id="")]))
    assert failures[0].item == "line 3"


def test_of_repeated_ids_the_first_counts():
    rows, failures = read_manifest(pd.DataFrame([row(), row(model_id="b"), row(source="other")]))
    assert [r.source for r in rows] == ["models/a", "models/a"]
    assert [f.item for f in failures] == ["a"]
    assert "Line 4" in failures[0].error
    assert "line 2" in failures[0].error


@pytest.mark.parametrize(
    ("identifier", "error"), [("a\nb", "printable"), ("x" * 201, "201 bytes"), ("é" * 80, "480 bytes")]
)
def test_ids_that_make_no_file_name_are_refused(identifier, error):
    rows, failures = read_manifest(pd.DataFrame([row(model_id=identifier)]))
    assert rows == []
    assert error in failures[0].error


def test_numbers_in_a_manifest_become_text():
    rows, _ = read_manifest(pd.DataFrame([row(model_id=7, n_parameters=12)]))
    assert rows == [ManifestRow(model_id="7", loader="timm", source="models/a", family="resnet", n_parameters="12")]
