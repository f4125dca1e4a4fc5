"""Existing artefacts come in whole, with source and protocol, or say why not."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_rec.catalog.validators import (
    validate_dataset_tokens,
    validate_model_embeddings,
    validate_model_vectors,
    validate_performance_records,
)
from thesis_rec.errors import ItemError
from thesis_rec.ranking import imports


def put(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def cells(records):
    return {(r.model_id, r.dataset_id): round(r.value, 6) for r in records.itertuples()}


def test_wide_table(tmp_path):
    path = put(tmp_path / "mine.csv", "model,d1,d2\na,91.5,\nb,50,60\n")
    records = imports.import_wide_csv(path)
    validate_performance_records(records)
    assert cells(records) == {("a", "d1"): 0.915, ("b", "d1"): 0.5, ("b", "d2"): 0.6}
    assert set(records["protocol"]) == {"imported:mine"}
    assert imports.import_wide_csv(put(path, "m,d\na,0.9\n"), "fraction", "lab")["source"].tolist() == ["lab"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model\na\n", "fewer than two"),
        ("m,d\na,1\na,2\n", "twice"),
        ("m,d\na,x\n", "no performance"),
        ("", "can't be read"),
    ],
)
def test_bad_wide_tables(tmp_path, text, message):
    with pytest.raises(ItemError, match=message):
        imports.import_wide_csv(put(tmp_path / "t.csv", text))


def test_values_outside_the_unit_are_refused(tmp_path):
    with pytest.raises(ItemError, match=r"outside 0\.\.1"):
        imports.import_wide_csv(put(tmp_path / "t.csv", "m,d\na,91\n"), "fraction")
    with pytest.raises(ValueError, match="unknown unit"):
        imports.scale_of([1.0], "permille")


def test_transfergraph_in_both_layouts(tmp_path):
    own = put(tmp_path / "a.csv", "model,finetuned_dataset,eval_accuracy\nx/y,pets,0.8\nx/y,pets,0.9\nz,pets,\n")
    assert cells(imports.import_transfergraph(own)) == {("x/y", "pets"): 0.9}
    long = put(tmp_path / "b.csv", "model_id,dataset_id,metric,value\nx,cars,eval_accuracy,0.5\n")
    records = imports.import_transfergraph(long)
    validate_performance_records(records)
    assert records["protocol"].tolist() == ["imported:transfergraph"]
    with pytest.raises(ItemError, match="no column for dataset_id"):
        imports.import_transfergraph(put(tmp_path / "c.csv", "model,eval_accuracy\nx,0.5\n"))


def test_timm_results(tmp_path):
    path = put(tmp_path / "results-imagenet-a.csv", "model,top1,top5\nvit,85.1,97\nresnet18,,\n")
    assert cells(imports.import_timm_results(path)) == {("vit", "imagenet-a"): 0.851}
    assert imports.import_timm_results(path, "imagenet")["dataset_id"].tolist() == ["imagenet"]
    with pytest.raises(ItemError, match="no columns"):
        imports.import_timm_results(put(tmp_path / "x.csv", "a,b\n1,2\n"))


def test_thesis_files_and_the_proxy(tmp_path):
    performance = imports.import_thesis_performance(
        put(tmp_path / "p.json", {"mnist": {"m1": 99.0, "m2": {"accuracy": 80.0}}, "svhn": {"m2": 90.0}})
    )
    assert cells(performance)[("m2", "mnist")] == 0.8
    similarity = imports.read_similarity(put(tmp_path / "s.json", {"mnist": {"svhn": 0.5, "usps": 0.9}}))
    assert similarity["usps"]["mnist"] == 0.9
    proxy = imports.proxy_performance(performance, similarity)
    validate_performance_records(proxy)
    assert set(proxy["protocol"]) == {"proxy"}
    found = cells(proxy)
    # Own accuracy times similarity, halved; plus one (halved) on the own dataset.
    assert found[("m1", "usps")] == pytest.approx(0.99 * 0.9 / 2)
    assert found[("m1", "mnist")] == pytest.approx((0.99 + 1) / 2)
    # m2 was trained on both: the larger proxy counts.
    assert found[("m2", "svhn")] == pytest.approx((0.9 + 1) / 2)
    assert ("m2", "imagenet") not in found


@given(st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=25)
def test_proxy_orders_as_the_original_formula(accuracy, near, far):
    table = pd.DataFrame({"model_id": ["m"], "dataset_id": ["own"], "value": [accuracy]})
    found = cells(imports.proxy_performance(table, {"own": {"near": near, "far": far}}))
    assert (found["m", "near"] - found["m", "far"]) * (near - far) >= -1e-6
    assert found["m", "own"] >= found["m", "near"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "no JSON object"),
        ({"a": 3}, "int under"),
        ({"a": {"b": "x"}}, "no number"),
        ("{", "can't be read"),
        ({}, "no perf"),
    ],
)
def test_bad_thesis_files(tmp_path, content, message):
    with pytest.raises(ItemError, match=message):
        imports.import_thesis_performance(put(tmp_path / "p.json", content))


def test_similarity_out_of_range(tmp_path):
    with pytest.raises(ItemError, match=r"0\.\.1"):
        imports.read_similarity(put(tmp_path / "s.json", {"a": {"b": 3}}))


def test_arrays_of_all_three_kinds(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "timm%2Fa.npz", parameters=rng.normal(size=8000), embedding=rng.normal(size=512))
    np.savez(tmp_path / "b.npz", parameters=rng.normal(size=8192).astype(np.float32), embedding=rng.normal(size=512))
    np.savez(tmp_path / "mnist.npz", features=3 * rng.normal(size=(4, 10, 16)), class_names=np.arange(10).astype(str))
    np.savez(tmp_path / "flat.npz", features=rng.normal(size=(5, 16)))
    vectors, embeddings, shards = imports.import_arrays(tmp_path)
    validate_model_vectors(vectors)
    validate_model_embeddings(embeddings)
    validate_dataset_tokens(shards)
    assert set(vectors) == {"timm/a", "b"}
    assert vectors["timm/a"]["parameters"][8000:].max() == 0
    assert set(shards) == {"mnist/train/00000", "flat/train/00000"}
    assert shards["mnist/train/00000"]["class_names"][3] == "3"
    assert shards["flat/train/00000"]["features"].shape == (1, 5, 16)


def test_imported_tokens_are_read_by_the_loader(tmp_path):
    from thesis_rec.images.manifest import DatasetRow
    from thesis_rec.images.tokens import load_task_tokens

    np.savez(tmp_path / "mnist.npz", features=np.random.default_rng(0).normal(size=(4, 10, 16)))
    _, _, shards = imports.import_arrays(tmp_path)
    row = DatasetRow(dataset_id="mnist", loader="npz", source="x")
    tokens = load_task_tokens(shards, [row])
    assert tokens["mnist"].features.shape == (4, 10, 16)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"parameters": np.zeros(8192)}, "finite vector"),
        ({"parameters": np.ones(9000)}, "finite vector"),
        ({"embedding": np.array([np.nan])}, "not finite"),
        ({"features": np.zeros((2, 3, 4))}, "all zero"),
        ({"features": np.ones(5)}, "shape"),
        ({"other": np.ones(5)}, "no NPZ file"),
    ],
)
def test_bad_arrays(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ItemError, match=message):
        imports.import_arrays(tmp_path)


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", parameters=np.array([{"evil": 1}], dtype=object))
    with pytest.raises(ItemError, match="can't be read"):
        imports.import_arrays(tmp_path)


def test_embeddings_of_different_lengths(tmp_path):
    np.savez(tmp_path / "a.npz", embedding=np.ones(4))
    np.savez(tmp_path / "b.npz", embedding=np.ones(5))
    with pytest.raises(ItemError, match="lengths"):
        imports.import_arrays(tmp_path)
