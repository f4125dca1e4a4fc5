"""The pipeline dataset_features: wiring, failures, resumption and strictness through Kedro."""

import json
import os
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from tests.contracts import columns, validate_dataset_failures
from tests.images.encoders.tiny import colour_encoder, write_colour_folder
from thesis_rec.base.errors import NothingSucceeded, Unreached
from thesis_rec.base.files import load_arrays
from thesis_rec.catalog import AtomicJSONDataset, AtomicParquetDataset, KeyedPartitionDataset
from thesis_rec.catalog.validators import validate_token_shard
from thesis_rec.pipelines.dataset_features import nodes
from thesis_rec.pipelines.dataset_features.nodes import DatasetFeaturesParameters
from thesis_rec.pipelines.dataset_features.pipeline import create_pipeline


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    pytest.importorskip("torch")
    loads = []
    monkeypatch.setattr(nodes, "encoder_id", lambda config: "colour")
    monkeypatch.setattr(nodes, "load_encoder", lambda *args: loads.append(args) or colour_encoder())
    return loads


def manifest(*rows):
    blank = dict.fromkeys(columns("dataset_manifest"), "")
    return pd.DataFrame([blank | {"loader": "folder"} | row for row in rows])


def parameters(root, **changes):
    return DatasetFeaturesParameters.model_validate(
        {"encoder": {"source": "colour"}, "images_root": str(root), "batches": 3, "device": "cpu"} | changes
    )


def run(root, table, tags=(), **changes):
    tokens = {"path": root / "out" / "tokens", "depth": 3}
    outcomes = {"path": root / "out" / "outcomes", "format": "json"}
    evaluation = root / "out" / "evaluation.json"
    catalog = DataCatalog(
        {
            "dataset_manifest": MemoryDataset(table),
            "existing_dataset_tokens": KeyedPartitionDataset(**tokens),
            "dataset_tokens": KeyedPartitionDataset(**tokens),
            "dataset_outcomes": KeyedPartitionDataset(**outcomes),
            "existing_dataset_outcomes": KeyedPartitionDataset(**outcomes),
            "dataset_failures": AtomicParquetDataset(filepath=root / "out" / "failures.parquet"),
            "encoder_evaluation": AtomicJSONDataset(filepath=evaluation),
            "params:dataset_features": MemoryDataset(parameters(root, **changes), copy_mode="assign"),
        }
    )
    SequentialRunner().run(create_pipeline().filter(tags=tags), catalog)
    return catalog


@pytest.fixture
def root(tmp_path):
    write_colour_folder(tmp_path / "a", splits=("train", "test"))
    write_colour_folder(tmp_path / "b")
    return tmp_path


def test_every_kind_of_bad_row_is_reported_and_the_rest_completes(root):
    (root / "a/train/red/red_0.png").write_bytes(b"broken")
    (root / "b/yellow").mkdir()
    write_colour_folder(root / "one")
    for colour in ("red", "green"):
        for file in (root / "one" / colour).iterdir():
            file.rename(root / "one/blue" / file.name)
        (root / "one" / colour).rmdir()
    table = manifest(
        {"dataset_id": "a", "source": "a"},
        {"dataset_id": "b", "source": "b"},
        {"dataset_id": "a", "source": "b"},
        {"dataset_id": "missing", "source": "nowhere"},
        {"dataset_id": "one", "source": "one"},
        {"dataset_id": "odd", "source": "a", "loader": "ftp"},
        {"dataset_id": "untold", "source": "a", "labels": "absent.csv"},
        {"dataset_id": "sub", "loader": "", "parent": "a", "class_subset": "a:0;a:2"},
    )
    catalog = run(root, table, splits=["train"], batches=4)
    failures = catalog.load("dataset_failures")
    validate_dataset_failures(failures)
    found = failures.groupby("dataset_id")["error"].agg(" | ".join).to_dict()
    assert "repeats the dataset_id" in found["a"]
    assert "red_0.png" in found["a"]
    assert "'yellow'" in found["b"]
    assert "doesn't exist" in found["missing"]
    assert "one class only" in found["one"]
    assert "no loader 'ftp'" in found["odd"]
    assert "there is no table absent.csv" in found["untold"]
    assert (failures["hint"] != "").all()
    tokens = catalog.load("dataset_tokens")
    assert sorted(tokens) == ["a/train/00000", "b/train/00000"]
    for read in tokens.values():
        validate_token_shard(read())
    evaluation = catalog.load("encoder_evaluation")
    assert set(evaluation["datasets"]) == {"a", "b"}
    assert evaluation["mean"]["zero_shot"] == 1.0


def test_what_is_true_of_both_splits_is_one_row(root):
    table = manifest({"dataset_id": "a", "source": "a", "label_map": "rde=warm"})
    failures = run(root, table, splits=["train", "test"]).load("dataset_failures")
    assert failures["error"].tolist() == ["label_map names 'rde', which no image has."]


def test_a_second_run_encodes_nothing_and_ends_the_same(root, encoder):
    table = manifest({"dataset_id": "a", "source": "a"}, {"dataset_id": "b", "source": "b"})
    first = run(root, table, splits=["train", "test"])
    files = {path: path.read_bytes() for path in (root / "out/tokens").rglob("*.npz")}
    assert len(files) == 4
    assert first.load("encoder_evaluation")["datasets"]["a"]["tested_on"] == "test"
    loads, evaluation = len(encoder), first.load("encoder_evaluation")
    again = run(root, table, splits=["train", "test"])
    assert len(encoder) == loads
    assert again.load("encoder_evaluation") == evaluation
    assert {path: path.read_bytes() for path in (root / "out/tokens").rglob("*.npz")} == files
    run(root, table, splits=["train", "test"], prompts=["a drawing of {}."])
    assert len(encoder) == loads + 1  # only the evaluation's text features


def outcome_of(root, name):
    return json.loads((root / f"out/outcomes/{name}.json").read_text())


def test_a_finished_dataset_is_passed_over_without_opening_anything_of_it(root, monkeypatch):
    (root / "a/train/red/red_0.png").write_bytes(b"broken")
    table = manifest({"dataset_id": "a", "source": "a"}, {"dataset_id": "b", "source": "b"})
    failures = run(root, table, batches=4).load("dataset_failures")
    assert len(failures)

    def refuse(*arguments):
        raise AssertionError(f"{arguments} was read")

    for name in ("thesis_rec.images.copies.sha256_file", "thesis_rec.catalog.files.load_arrays"):
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr("thesis_rec.images.copies._digest", refuse)
    again = run(root, table, batches=4)
    assert again.load("dataset_failures").equals(failures)


@pytest.mark.parametrize("change", ["content", "shard", "lost shard", "settings"])
def test_what_no_longer_is_what_was_finished_is_looked_into(root, encoder, change):
    table = manifest({"dataset_id": "a", "source": "a"}, {"dataset_id": "b", "source": "b"})
    run(root, table)
    before = outcome_of(root, "a")
    shard, loads = root / "out/tokens/a/train/00000.npz", len(encoder)
    content = shard.read_bytes()
    if change == "content":
        # Two pictures of equal size change places and keep their dates: only the time of the change of status tells.
        one, other = root / "a/train/red/red_0.png", root / "a/train/blue/blue_0.png"
        contents = [path.read_bytes().ljust(4096, b"\0") for path in (one, other)]
        for path, data in zip((one, other), contents, strict=True):
            path.write_bytes(data)
        run(root, table)
        before, loads = outcome_of(root, "a"), len(encoder)
        for path, data in zip((other, one), contents, strict=True):
            found = path.stat()
            path.write_bytes(data)
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
            assert (path.stat().st_size, path.stat().st_mtime_ns) == (found.st_size, found.st_mtime_ns)
    elif change == "shard":
        shard.write_bytes((root / "out/tokens/b/train/00000.npz").read_bytes())
    elif change == "lost shard":
        shard.unlink()
    run(root, table, seed=int(change == "settings"))
    assert len(encoder) == loads + 1
    assert (outcome_of(root, "a") == before) == (change in ("shard", "lost shard"))
    if change in ("shard", "lost shard"):
        assert load_arrays(shard)["features"].tobytes() == load_arrays(BytesIO(content))["features"].tobytes()


def test_an_outcome_of_an_earlier_edition_is_looked_into_once(root, encoder):
    table = manifest({"dataset_id": "a", "source": "a"})
    run(root, table)
    whole, loads = outcome_of(root, "a"), len(encoder)
    for old in ({"error": "", "hint": "", "notes": []}, None):
        (root / "out/outcomes/a.json").write_text(json.dumps(old) if old else "{torn")
        run(root, table)
        assert outcome_of(root, "a") == whole
        # Its tokens are kept: only the encoder's own figures are made again.
        assert len(encoder) == (loads := loads + 1)


def test_shards_of_the_manifest_join_to_the_same(root):
    table = manifest({"dataset_id": "a", "source": "a"}, {"dataset_id": "b", "source": "b"})
    for index in (1, 0):
        catalog = run(root, table, shard={"index": index, "count": 2})
    assert len(catalog.load("dataset_tokens")) == 2
    assert catalog.load("dataset_failures").empty


def test_a_missing_shard_is_found_at_the_join(root):
    table = manifest({"dataset_id": "a", "source": "a"}, {"dataset_id": "b", "source": "b"})
    run(root, table, shard={"index": 0, "count": 2})
    with pytest.raises(Unreached, match="no job has come to 1 datasets: b"):
        run(root, table, tags=["join"])
    run(root, table, shard={"index": 1, "count": 2})
    run(root, table, tags=["join"])
    # With other settings, tokens of the earlier array don't stand for a task that is missing.
    run(root, table, shard={"index": 0, "count": 2}, batches=2)
    with pytest.raises(Unreached, match="no job has come to 1 datasets: b"):
        run(root, table, tags=["join"], batches=2)


def test_nothing_succeeded_or_strict(root):
    bad = {"dataset_id": "missing", "source": "nowhere"}
    with pytest.raises(NothingSucceeded, match="missing"):
        run(root, manifest(bad))
    good = {"dataset_id": "a", "source": "a"}
    run(root, manifest(bad, good))
    with pytest.raises(NothingSucceeded, match="1 of 2 datasets failed"):
        run(root, manifest(bad, good), strict=True)


def test_the_cap_on_drawn_tasks_leaves_out_none_of_one_s_own_datasets(root):
    drawn = ({"dataset_id": f"d{i}", "loader": "generated", "source": f"d{i}"} for i in range(5))
    own = ({"dataset_id": f"mine{i}", "source": "a"} for i in range(3))
    table, capped = manifest(*drawn, *own), parameters(root, max_datasets=2)
    chosen = [row.dataset_id for row in nodes._selected_rows(table, capped)]
    assert chosen == ["d0", "d4", "mine0", "mine1", "mine2"]


def test_parameters_are_strict():
    good = {"encoder": {"source": "x"}, "images_root": "r"}
    assert DatasetFeaturesParameters.model_validate(good).batches == 8
    for bad in ({"btaches": 3}, {"batches": 0}, {"prompts": ["no place"]}, {"prompts": []}, {"shard": {"index": 2}}):
        with pytest.raises(ValueError, match=r"."):
            DatasetFeaturesParameters.model_validate(good | bad)


def test_tokens_are_float16_of_unit_length(root):
    catalog = run(root, manifest({"dataset_id": "a", "source": "a"}))
    features = catalog.load("dataset_tokens")["a/train/00000"]()["features"]
    assert features.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(features.astype(np.float32), axis=-1), 1, atol=2e-3)
