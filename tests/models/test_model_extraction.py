"""Many models: failures stop nobody, what is done isn't repeated."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from tests.models.states import small_state
from thesis_rec.base.errors import Failure, failures_frame
from thesis_rec.base.resuming import outcome_failures
from thesis_rec.base.settings import Shard
from thesis_rec.models import model_extraction
from thesis_rec.models.model_extraction import (
    extract_model,
    extract_models,
    extracted_tables,
    open_model,
    real_failures,
)
from thesis_rec.models.model_manifest import ManifestRow


def row(name: str, **more: str) -> ManifestRow:
    return ManifestRow.model_validate({"model_id": name, "loader": "local", "source": f"{name}.pth", **more})


@pytest.fixture
def zoo(tmp_path):
    for seed, name in enumerate(("a", "b", "c")):
        torch.save(small_state(seed), tmp_path / f"{name}.pth")
    return tmp_path


def run(rows, zoo, existing=None, threads=None):
    vectors, outcomes = {}, {}
    lazy = {name: (lambda *names, v=value: v) for name, value in (existing or {}).items()}
    for made, outcome in extract_models(rows, zoo, None, lazy, {}, threads):
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
    assert (outcomes["a"]["error"], outcomes["a"]["hint"], outcomes["a"]["notes"]) == ("", "", [])
    failures = {
        name: Failure(name, found["error"], found["hint"]) for name, found in outcomes.items() if found["error"]
    }
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


class Kept:
    """What an earlier run left."""

    def __init__(self, value, written=0):
        self.value, self.written = value, written

    def __call__(self, *names):
        return self.value

    def changed(self):
        return self.written


class TestFilesThatDidNotChange:
    """They aren't read again; anything that a change of content can't avoid changing outdates them."""

    @pytest.fixture
    def first(self, zoo):
        return run([row("a")], zoo)

    def again(self, zoo, first, monkeypatch, **changed):
        """Whether the model's file is opened in a second run."""
        opened = []
        monkeypatch.setattr(model_extraction, "open_model", lambda *args: opened.append(args) or open_model(*args))
        vectors = {name: Kept(value) for name, value in first[0].items()}
        outcomes = {name: Kept(value | changed) for name, value in first[1].items()}
        list(extract_models([row("a")], zoo, None, vectors, outcomes))
        return bool(opened)

    def test_untouched(self, zoo, first, monkeypatch):
        assert not self.again(zoo, first, monkeypatch)

    def test_an_outcome_of_an_older_version(self, zoo, first, monkeypatch):
        first[1]["a"].pop("results")
        assert self.again(zoo, first, monkeypatch)

    def test_another_file_in_its_place_with_its_size_and_time(self, zoo, first, monkeypatch):
        before = (zoo / "a.pth").stat()
        (zoo / "b.pth").replace(zoo / "a.pth")
        os.utime(zoo / "a.pth", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (zoo / "a.pth").stat().st_size == before.st_size
        assert self.again(zoo, first, monkeypatch)

    def test_written_over_with_its_time_set_back(self, zoo, first, monkeypatch):
        before = (zoo / "a.pth").stat()
        (zoo / "a.pth").write_bytes((zoo / "b.pth").read_bytes())
        os.utime(zoo / "a.pth", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert self.again(zoo, first, monkeypatch)

    @pytest.mark.parametrize("changed", [{"made_from": "other"}, {"error": "it failed"}, {"results": ["lost"]}])
    def test_another_recipe_or_a_failure(self, zoo, first, monkeypatch, changed):
        assert self.again(zoo, first, monkeypatch, **changed)

    def test_a_damaged_outcome_or_vector(self, zoo, first, monkeypatch):
        def damaged(*names):
            raise ValueError("no JSON")

        vectors = {"a": lambda *names: first[0]["a"]}
        chunks = extract_models([row("a")], zoo, None, vectors, {"a": damaged})
        assert [outcome["a"]["sha256"] for _, outcome in chunks if outcome] == [first[1]["a"]["sha256"]]
        chunks = extract_models([row("a")], zoo, None, {"a": damaged}, {"a": lambda: first[1]["a"]})
        assert [name for made, _ in chunks for name in made] == ["a"]


def test_what_was_left_out_of_a_model_is_in_the_table_and_no_failure(zoo):
    torch.save(small_state() | {"attn_mask": torch.full((9, 9), float("-inf")).triu(1)}, zoo / "a.pth")
    vectors, outcomes = run([row("a"), row("b")], zoo)
    assert set(vectors) == {"a", "b"}
    table = failures_frame(outcome_failures(dict.fromkeys("ab"), outcomes.items(), lambda row: None, Shard()))
    assert table["model_id"].tolist() == ["a"]
    assert "% of the values were left out, as they are no weights: attn_mask (mask)" in table["error"].iloc[0]
    assert real_failures(table).empty


def test_changed_weights_methods_or_extractors_are_made_again(zoo, monkeypatch, caplog):
    first, _ = run([row("a"), row("b")], zoo)
    torch.save(small_state(9), zoo / "a.pth")
    changed, _ = run([row("a"), row("c"), row("b", extractor="huggingface")], zoo, first)
    # What was measured of a model says nothing of other weights of its name.
    assert [line for line in caplog.messages if line.startswith("The weights of a changed: ")]
    assert not np.array_equal(changed["a"]["parameters"], first["a"]["parameters"])
    assert run([row("a")], zoo, changed)[0] == {}
    assert set(run([row("a", extractor="huggingface")], zoo, changed)[0]) == {"a"}
    with monkeypatch.context() as patch:
        patch.setattr(model_extraction, "METHOD_VERSION", 0)
        assert set(run([row("a")], zoo, changed)[0]) == {"a"}
    # The number of threads doesn't change a vector, so it doesn't outdate one.
    assert run([row("a")], zoo, changed, threads=1)[0] == {}


def test_the_same_weights_in_another_file_format_are_up_to_date(zoo):
    first, _ = run([row("a")], zoo)
    torch.save({"state_dict": small_state(0), "epoch": 1}, zoo / "a.pth", _use_new_zipfile_serialization=False)
    assert run([row("a")], zoo, first)[0] == {}


def test_an_unreadable_partition_is_made_again(zoo):
    def unreadable():
        raise OSError("damaged")

    made = [v for v, _ in extract_models([row("a")], zoo, None, {"a": unreadable}, {})]
    assert set(made[0]) == {"a"}


def test_metadata_of_the_extracted_models(zoo):
    vectors, _ = run([row("a"), row("b")], zoo)
    lazy = {name: (lambda *names, v=value: v) for name, value in vectors.items()}
    rows = [row("b", family="resnet"), row("a"), row("missing")]
    table, spectra = extracted_tables(rows, lazy)
    np.testing.assert_array_equal(spectra["spectra"][0], vectors["b"]["spectra"])
    assert np.isnan(spectra["spectra"]).any()
    assert spectra["model_ids"].tolist() == ["b", "a"]
    assert table["model_id"].tolist() == ["b", "a"]
    assert table["family"].tolist() == ["resnet", "unknown"]
    assert table["n_parameters"].dtype == "int64"
    assert table["sha256"].nunique() == 2
    assert extracted_tables([], {})[0].columns.tolist() == table.columns.tolist()
