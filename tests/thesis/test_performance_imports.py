"""Existing artefacts come in whole, with source and protocol, or say why not."""

import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.contracts import validate_performance_records
from thesis_rec.base.errors import ItemError
from thesis_rec.pipelines.import_artefacts.nodes import ImportArtefactsParameters
from thesis_rec.thesis import performance_imports


def put(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def cells(records):
    return {(r.model_id, r.dataset_id): round(r.value, 6) for r in records.itertuples()}


def test_wide_table(tmp_path):
    path = put(tmp_path / "mine.csv", "model,d1,d2\na,91.5,\nb,50,60\n")
    records = performance_imports.import_wide_csv(path)
    validate_performance_records(records)
    assert cells(records) == {("a", "d1"): 0.915, ("b", "d1"): 0.5, ("b", "d2"): 0.6}
    assert set(records["protocol"]) == {"imported:mine"}
    assert performance_imports.import_wide_csv(put(path, "m,d\na,0.9\n"), "fraction")["source"].tolist() == ["mine"]
    # Were a comma at the end of each row to move columns, models would be called like accuracies.
    records = performance_imports.import_wide_csv(put(path, "m,d1,d2\na,0.9,0.8,\n"), "fraction")
    assert cells(records) == {("a", "d1"): 0.9, ("a", "d2"): 0.8}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model\na\n", "fewer than two"),
        ("m,d\na,1\na,2\n", "twice"),
        ("m,d\na,-\n", "no performance"),
        # Some of a column's cells would be lost, and nobody told.
        ("m,d,e\na,91.2,70\nb,83.1%,80\n", r"has '83\.1%' under 'd', which is no number"),
        ('m,d,e\na,91.2,70\nb,"83,1",80\n', "has '83,1' under 'd'"),
        ("m,family,d\na,resnet,0.5\n", "has 'resnet' under 'family'"),
        ("m,d\na,1.2\n", "outside"),
        ("", "can't be read"),
    ],
)
def test_bad_wide_tables(tmp_path, text, message):
    with pytest.raises(ItemError, match=message):
        performance_imports.import_wide_csv(put(tmp_path / "t.csv", text))


def test_values_outside_the_unit_are_refused(tmp_path):
    with pytest.raises(ItemError, match=r"outside 0\.\.1"):
        performance_imports.import_wide_csv(put(tmp_path / "t.csv", "m,d\na,91\n"), "fraction")
    with pytest.raises(ValidationError, match="unit"):
        ImportArtefactsParameters(unit="permille")


def test_transfergraph_in_both_layouts(tmp_path):
    own = put(tmp_path / "a.csv", "model,finetuned_dataset,eval_accuracy\nx/y,pets,0.8\nx/y,pets,0.9\nz,pets,\n")
    assert cells(performance_imports.import_transfergraph(own)) == {("x/y", "pets"): 0.9}
    with pytest.raises(ItemError, match="has '80 %' under 'eval_accuracy'"):
        performance_imports.import_transfergraph(put(own, "model,finetuned_dataset,eval_accuracy\nx,pets,80 %\n"))
    long = put(tmp_path / "b.csv", "model_id,dataset_id,metric,value\nx,cars,eval_accuracy,0.5\n")
    records = performance_imports.import_transfergraph(long)
    validate_performance_records(records)
    assert records["protocol"].tolist() == ["imported:transfergraph"]
    with pytest.raises(ItemError, match="no column for dataset_id"):
        performance_imports.import_transfergraph(put(tmp_path / "c.csv", "model,eval_accuracy\nx,0.5\n"))


def test_timm_results(tmp_path):
    path = put(tmp_path / "results-imagenet-a.csv", "model,top1,top5\nvit,85.1,\nresnet18,,\nswin,-,1\nvit,3,9\n")
    assert cells(performance_imports.import_timm_results(path)) == {("vit", "imagenet-a"): 0.851}
    with pytest.raises(ItemError, match=r"no column for model_id \(model\), value \(top1\)"):
        performance_imports.import_timm_results(put(tmp_path / "x.csv", "a,b\n1,2\n"))


def test_performance_as_the_thesis_code_writes_it(tmp_path):
    content = {
        "MNIST": [{"model_name": "org/a", "accuracy": 0.99}, {"model_name": "org/b", "accuracy": 0.5}],
        "Fashion-MNIST": [{"model_name": "org/c", "accuracy": 0.9}],
    }
    performance = performance_imports.import_thesis_performance(put(tmp_path / "p.json", content))
    assert cells(performance) == {("org/a", "MNIST"): 0.99, ("org/b", "MNIST"): 0.5, ("org/c", "Fashion-MNIST"): 0.9}
    similarity = performance_imports.read_similarity(
        put(tmp_path / "s.json", {"mnist": {"fashion mnist": 0.4}, "fashion_mnist": {"mnist": 0.3}})
    )
    found = cells(performance_imports.proxy_performance(performance, similarity))
    # The target's row counts, and names are matched however they are written.
    assert found["org/c", "MNIST"] == pytest.approx(0.9 * 0.4 / 2)
    assert found["org/a", "Fashion-MNIST"] == pytest.approx(0.99 * 0.3 / 2)
    assert found["org/a", "MNIST"] == pytest.approx(1.99 / 2)
    with pytest.raises(ItemError, match="without model_name"):
        performance_imports.import_thesis_performance(put(tmp_path / "p.json", {"mnist": [{"accuracy": 1.0}]}))


def test_the_thesis_s_performance_has_the_unit_that_is_named(tmp_path):
    path = put(tmp_path / "p.json", {"mnist": {"org/a": 0.8, "org/b": 90.0}})
    with pytest.raises(ItemError, match="mixes fractions and percentages"):
        performance_imports.import_thesis_performance(path)
    assert performance_imports.import_thesis_performance(path, "percent")["value"].tolist() == [0.008, 0.9]


def test_thesis_files_and_the_proxy(tmp_path):
    performance = performance_imports.import_thesis_performance(
        put(tmp_path / "p.json", {"mnist": {"m1": 99.0, "m2": {"accuracy": 80.0}}, "svhn": {"m2": 90.0}})
    )
    assert cells(performance)[("m2", "mnist")] == 0.8
    similarity = performance_imports.read_similarity(put(tmp_path / "s.json", {"mnist": {"svhn": 0.5, "usps": 0.9}}))
    proxy = performance_imports.proxy_performance(performance, similarity)
    validate_performance_records(proxy)
    assert set(proxy["protocol"]) == {"proxy"}
    found = cells(proxy)
    # Own accuracy times similarity, halved; plus one (halved) on the own dataset.
    assert found[("m1", "usps")] == pytest.approx(0.99 * 0.9 / 2)
    assert found[("m1", "mnist")] == pytest.approx((0.99 + 1) / 2)
    # m2 was trained on both: the larger proxy counts.
    assert found[("m2", "svhn")] == pytest.approx((0.9 + 1) / 2)
    assert ("m2", "imagenet") not in found


def test_a_proxy_without_any_similarity_is_that_of_the_own_dataset(tmp_path):
    performance = performance_imports.import_thesis_performance(put(tmp_path / "p.json", {"mnist": {"m1": 0.9}}))
    assert cells(performance_imports.proxy_performance(performance, {})) == {("m1", "mnist"): 0.95}
    with pytest.raises(ItemError, match="holds no performance"):
        performance_imports.proxy_performance(performance.iloc[:0], {"mnist": {"svhn": 0.5}})


@given(st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=25)
def test_proxy_orders_as_the_original_formula(accuracy, near, far):
    table = pd.DataFrame({"model_id": ["m"], "dataset_id": ["own"], "value": [accuracy]})
    found = cells(performance_imports.proxy_performance(table, {"own": {"near": near, "far": far}}))
    assert (found["m", "near"] - found["m", "far"]) * (near - far) >= -1e-6
    assert found["m", "own"] >= found["m", "near"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "no JSON object"),
        ({"a": 3}, "int under"),
        ({"a": {"b": "x"}}, "no number"),
        ({"a": [3]}, "without model_name"),
        ({"a": [{"model": "m", "accuracy": 0.5}, {"accuracy": 0.6}]}, "without model_name"),
        ("{", "can't be read"),
        ({}, "no perf"),
    ],
)
def test_bad_thesis_files(tmp_path, content, message):
    with pytest.raises(ItemError, match=message):
        performance_imports.import_thesis_performance(put(tmp_path / "p.json", content))


@pytest.mark.parametrize(("values", "scale"), [((0.2, 1.0, 1.5), 1.0), ((1.2, 1.5, 1.6), 100.0)])
def test_one_value_above_any_fraction_makes_all_percent(values, scale):
    assert performance_imports.scale_of(values, "t.csv") == scale


def test_similarity_out_of_range(tmp_path):
    with pytest.raises(ItemError, match=r"0\.\.1"):
        performance_imports.read_similarity(put(tmp_path / "s.json", {"a": {"b": 3}}))


def test_fractions_among_percentages_are_refused_until_the_unit_is_named():
    """0.8 beside 90 became 0.008."""
    with pytest.raises(ItemError, match=r"t.csv: mixes fractions and percentages, e.g. 0.8 and 90"):
        performance_imports.scale_of([0.8, 90.0, 0.7, float("nan")], "t.csv")
    assert performance_imports.scale_of([0.8, 90.0], "t.csv", "percent") == 100
    assert performance_imports.scale_of([0.8, *range(20, 40)], "t.csv") == 100
