"""Existing artefacts come in whole, with source and protocol, or say why not."""

import json

import pytest

from thesis_rec.base.errors import ItemError
from thesis_rec.catalog.validators import validate_performance_records
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
    assert performance_imports.import_wide_csv(put(path, "m,d\na,0.9\n"), "fraction", "lab")["source"].tolist() == [
        "lab"
    ]


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
        performance_imports.import_wide_csv(put(tmp_path / "t.csv", text))


def test_values_outside_the_unit_are_refused(tmp_path):
    with pytest.raises(ItemError, match=r"outside 0\.\.1"):
        performance_imports.import_wide_csv(put(tmp_path / "t.csv", "m,d\na,91\n"), "fraction")
    with pytest.raises(ValueError, match="unknown unit"):
        performance_imports.scale_of([1.0], "permille")


def test_transfergraph_in_both_layouts(tmp_path):
    own = put(tmp_path / "a.csv", "model,finetuned_dataset,eval_accuracy\nx/y,pets,0.8\nx/y,pets,0.9\nz,pets,\n")
    assert cells(performance_imports.import_transfergraph(own)) == {("x/y", "pets"): 0.9}
    long = put(tmp_path / "b.csv", "model_id,dataset_id,metric,value\nx,cars,eval_accuracy,0.5\n")
    records = performance_imports.import_transfergraph(long)
    validate_performance_records(records)
    assert records["protocol"].tolist() == ["imported:transfergraph"]
    with pytest.raises(ItemError, match="no column for dataset_id"):
        performance_imports.import_transfergraph(put(tmp_path / "c.csv", "model,eval_accuracy\nx,0.5\n"))


def test_timm_results(tmp_path):
    path = put(tmp_path / "results-imagenet-a.csv", "model,top1,top5\nvit,85.1,97\nresnet18,,\n")
    assert cells(performance_imports.import_timm_results(path)) == {("vit", "imagenet-a"): 0.851}
    assert performance_imports.import_timm_results(path, "imagenet")["dataset_id"].tolist() == ["imagenet"]
    with pytest.raises(ItemError, match="no columns"):
        performance_imports.import_timm_results(put(tmp_path / "x.csv", "a,b\n1,2\n"))
