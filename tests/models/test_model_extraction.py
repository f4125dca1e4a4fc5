"""Many models: failures stop nobody, what is done isn't repeated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.states import small_state
from thesis_rec.models.model_extraction import (
    ExtractionSettings,
    extract_model,
    extract_models,
    metadata_table,
    outcome_failures,
)
from thesis_rec.models.model_manifest import ManifestRow


def row(name: str, **more: str) -> ManifestRow:
    return ManifestRow.model_validate({"model_id": name, "loader": "local", "source": f"{name}.pth", **more})


@pytest.fixture
def zoo(tmp_path):
    for seed, name in enumerate(("a", "b", "c")):
        torch.save(small_state(seed), tmp_path / f"{name}.pth")
    return tmp_path


def run(rows, zoo, existing=None, settings=None):
    vectors, outcomes = {}, {}
    lazy = {name: (lambda v=value: v) for name, value in (existing or {}).items()}
    for made, outcome in extract_models(rows, zoo, None, settings or ExtractionSettings(), lazy):
        vectors |= made
        outcomes |= outcome
    return vectors, outcomes


def test_a_vector_comes_with_all_that_tells_whether_it_is_current(zoo):
    vector = extract_model(row("a"), zoo)
    assert vector["parameters"].shape == (8192,)
    assert vector["parameters"].dtype == np.float32
    state = small_state(0)
    learned = [t for name, t in state.items() if t.is_floating_point() and "running" not in name]
    assert vector["n_parameters"] == sum(t.numel() for t in learned)
    assert vector["bytes"] == (zoo / "a.pth").stat().st_size
    assert len(str(vector["sha256"])) == len(str(vector["settings"])) == 64
    assert not any(np.asarray(value).dtype.hasobject for value in vector.values())


def test_failures_stop_no_other_model(zoo, caplog):
    broken = small_state()
    broken["fc.bias"][0] = float("nan")
    torch.save(broken, zoo / "nan.pth")
    (zoo / "cut.pth").write_bytes((zoo / "a.pth").read_bytes()[:500])
    rows = [row("a"), row("nan"), row("cut"), row("gone"), row("b", extractor="unheard_of"), row("c")]
    vectors, outcomes = run(rows, zoo)
    assert list(vectors) == ["a", "c"]
    assert outcomes["a"] == {"error": "", "hint": ""}
    failures = {failure.item: failure for failure in outcome_failures(outcomes.items())}
    assert set(failures) == {"nan", "cut", "gone", "b"}
    for name, words in {"nan": "fc.bias", "cut": "truncated", "gone": "doesn't exist", "b": "unheard_of"}.items():
        assert words in failures[name].error
        assert failures[name].hint
        assert name in caplog.text


def test_what_is_up_to_date_is_not_made_again(zoo):
    first, _ = run([row("a"), row("b")], zoo)
    again, outcomes = run([row("a"), row("b")], zoo, first)
    assert again == {}
    assert {outcome["error"] for outcome in outcomes.values()} == {""}


def test_changed_weights_settings_or_extractors_are_made_again(zoo):
    first, _ = run([row("a")], zoo)
    torch.save(small_state(9), zoo / "a.pth")
    changed, _ = run([row("a")], zoo, first)
    assert not np.array_equal(changed["a"]["parameters"], first["a"]["parameters"])
    assert run([row("a")], zoo, changed)[0] == {}
    assert set(run([row("a", extractor="huggingface")], zoo, changed)[0]) == {"a"}
    shorter, _ = run([row("a")], zoo, changed, ExtractionSettings(length=100))
    assert shorter["a"]["parameters"].shape == (100,)
    # The number of threads doesn't change a vector, so it doesn't outdate one.
    assert run([row("a")], zoo, changed, ExtractionSettings(threads=1))[0] == {}


def test_the_same_weights_in_another_file_format_are_up_to_date(zoo):
    first, _ = run([row("a")], zoo)
    torch.save({"state_dict": small_state(0), "epoch": 1}, zoo / "a.pth", _use_new_zipfile_serialization=False)
    assert run([row("a")], zoo, first)[0] == {}


def test_an_unreadable_partition_is_made_again(zoo):
    def unreadable():
        raise OSError("damaged")

    made = [v for v, _ in extract_models([row("a")], zoo, None, ExtractionSettings(), {"a": unreadable})]
    assert set(made[0]) == {"a"}


def test_metadata_of_the_extracted_models(zoo):
    vectors, _ = run([row("a"), row("b")], zoo)
    lazy = {name: (lambda v=value: v) for name, value in vectors.items()}
    table = metadata_table([row("b", family="resnet"), row("a"), row("missing")], lazy)
    assert table["model_id"].tolist() == ["b", "a"]
    assert table["family"].tolist() == ["resnet", "unknown"]
    assert table["n_parameters"].dtype == "int64"
    assert table["sha256"].nunique() == 2
    assert metadata_table([], {}).columns.tolist() == table.columns.tolist()
