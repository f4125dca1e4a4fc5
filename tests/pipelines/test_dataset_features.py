"""The pipeline dataset_features: wiring, failures, resumption and strictness through Kedro."""

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from tests.images.encoders.tiny import colour_encoder, write_colour_folder
from thesis_rec.base.errors import NothingSucceeded, Unreached
from thesis_rec.catalog import AtomicJSONDataset, AtomicParquetDataset, KeyedPartitionDataset
from thesis_rec.catalog.validators import DATASET_MANIFEST_COLUMNS, validate_failures, validate_token_shard
from thesis_rec.pipelines.dataset_features import create_pipeline
from thesis_rec.pipelines.dataset_features.parameters import DatasetFeaturesParameters


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    pytest.importorskip("torch")
    import thesis_rec.images.encoders

    loads = []
    monkeypatch.setattr(thesis_rec.images.encoders, "encoder_id", lambda config: "colour")
    monkeypatch.setattr(
        thesis_rec.images.encoders, "load_encoder", lambda *args: loads.append(args) or colour_encoder()
    )
    return loads


def manifest(*rows):
    blank = dict.fromkeys(DATASET_MANIFEST_COLUMNS, "")
    return pd.DataFrame([blank | {"loader": "folder"} | row for row in rows])


def parameters(root, **changes):
    return DatasetFeaturesParameters.model_validate(
        {"encoder": {"source": "colour"}, "images_root": str(root), "batches": 3, "device": "cpu"} | changes
    )


def run(root, table, tag="dataset_features", **changes):
    tokens = {"path": root / "out" / "tokens", "depth": 3}
    catalog = DataCatalog(
        {
            "dataset_manifest": MemoryDataset(table),
            "existing_dataset_tokens": KeyedPartitionDataset(**tokens),
            "dataset_tokens": KeyedPartitionDataset(**tokens),
            "dataset_outcomes": KeyedPartitionDataset(path=root / "out" / "outcomes", format="json"),
            "dataset_failures": AtomicParquetDataset(filepath=root / "out" / "failures.parquet"),
            "encoder_evaluation": AtomicJSONDataset(filepath=root / "out" / "evaluation.json"),
            "params:dataset_features": MemoryDataset(parameters(root, **changes), copy_mode="assign"),
        }
    )
    SequentialRunner().run(create_pipeline().only_nodes_with_tags(tag), catalog)
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
        {"dataset_id": "sub", "loader": "", "parent": "a", "class_subset": "a:0;a:2"},
    )
    catalog = run(root, table, splits=["train"], batches=4)
    failures = catalog.load("dataset_failures")
    validate_failures(failures)
    found = failures.groupby("dataset_id")["error"].agg(" | ".join).to_dict()
    assert "repeats the id" in found["a"]
    assert "red_0.png" in found["a"]
    assert "'yellow'" in found["b"]
    assert "doesn't exist" in found["missing"]
    assert "one class only" in found["one"]
    assert "no loader 'ftp'" in found["odd"]
    assert (failures["hint"] != "").all()
    tokens = catalog.load("dataset_tokens")
    assert sorted(tokens) == ["a/train/00000", "b/train/00000"]
    for read in tokens.values():
        validate_token_shard(read())
    evaluation = catalog.load("encoder_evaluation")
    assert set(evaluation["datasets"]) == {"a", "b"}
    assert evaluation["mean"]["zero_shot"] == 1.0


def test_a_second_run_encodes_nothing_and_ends_the_same(root, encoder):
    table = manifest({"dataset_id": "a", "source": "a"}, {"dataset_id": "b", "source": "b"})
    first = run(root, table, splits=["train", "test"])
    files = {path: path.read_bytes() for path in (root / "out/tokens").rglob("*.npz")}
    assert len(files) == 4
    assert first.load("encoder_evaluation")["datasets"]["a"]["tested_on"] == "test"
    loads = len(encoder)
    run(root, table, splits=["train", "test"])
    assert len(encoder) - loads == 1  # only the evaluation's text features
    assert {path: path.read_bytes() for path in (root / "out/tokens").rglob("*.npz")} == files


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
        run(root, table, tag="join")


def test_nothing_succeeded_or_strict(root):
    bad = {"dataset_id": "missing", "source": "nowhere"}
    with pytest.raises(NothingSucceeded, match="missing"):
        run(root, manifest(bad))
    good = {"dataset_id": "a", "source": "a"}
    run(root, manifest(bad, good))
    with pytest.raises(NothingSucceeded, match="1 of 2 datasets failed"):
        run(root, manifest(bad, good), strict=True)


def test_cap_on_datasets(root):
    table = manifest(*({"dataset_id": f"d{i}", "source": "a"} for i in range(5)))
    assert sorted(run(root, table, max_datasets=2).load("dataset_tokens")) == ["d0/train/00000", "d4/train/00000"]


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
