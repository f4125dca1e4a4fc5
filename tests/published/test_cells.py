"""Reading published tables: forms, rules, names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_rec.base.errors import ItemError
from thesis_rec.models.model_manifest import Aliases
from thesis_rec.published.cells import (
    READERS,
    PublishedDataset,
    Source,
    read_cells,
    read_datasets,
    read_sources,
    simplified,
    usable,
)

DATASETS = {
    "dtd": PublishedDataset(
        domain="textures", kind="natural", classes=47, images="dtd", aliases=("DTD", "Describable Textures")
    ),
    "pcam": PublishedDataset(
        domain="medical", kind="specialised", classes=2, images="pcam", aliases=("PatchCamelyon",)
    ),
}
LONG = "model,revision,task,type,split,subset,main_score,accuracy,n_exp,acc_std\n"


def _source(form: str, **more: object) -> Source:
    entry = {"format": form, "repository": "a/b", "commit": "1234567", "licence": "MIT", "protocol": "p", **more}
    return Source(**entry)  # type: ignore[arg-type]


def _read(source: Source, tables: Path | None, cache: Path, aliases: Aliases | None = None) -> pd.DataFrame:
    cells, report = read_cells({"mieb": source}, DATASETS, aliases or {}, tables, cache)
    assert not report["missing"]
    return cells


def test_mieb_json_files_and_its_long_table_are_the_same_cells(tmp_path: Path) -> None:
    draws = [0.70, 0.72, 0.74, 0.71, 0.73]
    content = {
        "task_name": "DTD",
        "mteb_version": "1.14.15",
        "scores": {
            "test": [
                {
                    "scores_per_experiment": [{"accuracy": one} for one in draws],
                    "accuracy": 0.72,
                    "main_score": 0.72,
                    "hf_subset": "default",
                    "languages": ["eng-Latn"],
                }
            ]
        },
    }
    shot = {"task_name": "DTDZeroShot", "scores": {"test": [{"accuracy": 0.5, "main_score": 0.5}]}}
    multi = {"task_name": "VOC2007", "scores": {"test": [{"accuracy": 0.5, "main_score": 0.5}]}}
    source = _source("mieb", revisions={"org/net": "abc"}, files=[{"local": "long.csv"}])
    folder = tmp_path / "cache/mieb/1234567/results/org__net/abc"
    folder.mkdir(parents=True)
    for name, one in (("DTD", content), ("DTDZeroShot", shot), ("PatchCamelyon", multi)):
        (folder / f"{name}.json").write_text(json.dumps(one))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/long.csv").write_text(
        LONG
        + f"org/net,abc,DTD,ImageClassification,test,default,.72,.72,5,{np.std(draws)}\n"
        + "org/net,abc,DTDZeroShot,ZeroShotClassification,test,default,.5,.5,0,\n"
        + "org/net,abc,VOC2007,ImageClassification,validation,default,.5,.1,5,.1\n"
        + "org/net,abc,CIFAR10Clustering,ImageClustering,test,default,.5,,0,\n"
    )
    rows = _read(source, tmp_path / "tables", tmp_path / "none")
    read, _ = usable(
        READERS["mieb"](sorted(folder.glob("*.json"))).assign(source="mieb"),
        {simplified("DTD"): "dtd", simplified("PatchCamelyon"): "pcam"},
        {"dtd": 47, "pcam": 2},
    )
    columns = ["dataset_id", "protocol", "value", "spread"]
    left = rows.sort_values("protocol")[columns].reset_index(drop=True)
    right = read.sort_values("protocol")[columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(left, right, check_dtype=False)
    assert left["spread"][0] == pytest.approx(np.std(draws) / np.sqrt(5))
    assert set(rows["model_id"]) == {"mieb/org/net"}


def test_rules_drop_and_count() -> None:
    rows = pd.DataFrame(
        {
            "name": list("abcdefg"),
            "pretrained": "",
            "dataset": ["DTD"] * 5 + ["PatchCamelyon", "Unheard Of"],
            "protocol": "zero_shot",
            "metric": "accuracy",
            "value": [0.5, 0.6, 0.7, 0.02, 1.2, 0.5, 0.9],
            "spread": np.nan,
            "source": "s",
        }
    )
    kept, dropped = usable(rows, {"dtd": "dtd", "patchcamelyon": "pcam"}, {"dtd": 47, "pcam": 2})
    # .02 of 47 classes is chance where others reach .6; .5 of two classes is chance too, but nobody does better.
    assert kept["name"].tolist() == ["a", "b", "c", "f"]
    assert dropped == {"unknown dataset": 1, "no accuracy": 1, "at chance": 1}


@pytest.mark.parametrize(("middle", "left"), [(0.75, ["b", "c", "d", "e"]), (0.74, ["a", "b", "c", "d", "e"])])
def test_a_run_failed_at_chance_where_the_middle_one_is_far_above(middle: float, left: list[str]) -> None:
    """At most one and a half times chance, where the middle one reaches three times chance: both ends count."""
    rows = pd.DataFrame({"name": list("abcde"), "value": ["0.375", "0.38", str(middle), "0.8", "0.9"]})
    rows = rows.assign(dataset="four", protocol="linear_probe", source="s", spread="0.01")
    kept, dropped = usable(rows, {"four": "four"}, {"four": 4})
    assert kept["name"].tolist() == left
    assert dropped["at chance"] == 5 - len(left)
    assert kept["spread"].tolist() == [0.01] * len(left)


def test_the_error_of_a_mean_takes_two_draws_at_least(tmp_path: Path) -> None:
    rows = "".join(f"m{n},r,DTD,ImageClassification,test,s,.5,.5,{n},.02\n" for n in (1, 2, 4))
    (tmp_path / "long.csv").write_text(LONG + rows)
    found = READERS["mieb"]([tmp_path / "long.csv"])["spread"]
    np.testing.assert_allclose(found, [np.nan, 0.02 / np.sqrt(2), 0.01])


def test_every_source_gives_its_cells(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("name,pretrained,DTD\nViT,openai,.4\n")
    (tmp_path / "p.csv").write_text("name,pretrained,PatchCamelyon\nViT,openai,.6\n")
    sources = {name: _source("open_clip", files=[{"local": f"{name}.csv"}]) for name in "op"}
    cells, report = read_cells(sources, DATASETS, {}, tmp_path, tmp_path)
    assert cells["dataset_id"].tolist() == ["dtd", "pcam"]
    assert list(report["sources"]) == ["o", "p"]


@given(st.lists(st.tuples(st.floats(allow_nan=True), st.sampled_from(["DTD", "x"])), min_size=1, max_size=30))
def test_every_row_is_kept_or_counted(rows: list[tuple[float, str]]) -> None:
    frame = pd.DataFrame(rows, columns=["value", "dataset"]).assign(
        name=range(len(rows)), pretrained="", protocol="p", metric="accuracy", spread=np.nan, source="s"
    )
    kept, dropped = usable(frame, {"dtd": "dtd"}, {"dtd": 47})
    assert len(kept) + sum(dropped.values()) == len(rows)
    assert kept["value"].between(0, 1).all()


@given(st.text(st.characters(max_codepoint=127), max_size=20))
def test_names_are_compared_without_case_and_punctuation(name: str) -> None:
    assert simplified(name.upper()) == simplified(name)
    assert simplified(f"{name}-") == simplified(name)


def test_the_same_weights_of_two_sources_are_one_model_and_repeats_are_averaged(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text(
        "name,pretrained,params (M),FLOPs (B),Average perf. on 35 datasets,Describable Textures\n"
        "ViT,openai,1,1,.5,.4\nViT,openai,1,1,.5,.6\nViT,other,1,1,.5,.7\n"
    )
    aliases = {("open_clip", "ViT", "openai"): "open_clip/ViT.openai"}
    source = _source("open_clip", files=[{"local": "o.csv"}])
    cells, report = read_cells({"open_clip": source}, DATASETS, aliases, tmp_path, tmp_path)
    values = cells.set_index("model_id")["value"].to_dict()
    assert values == {"open_clip/ViT.openai": pytest.approx(0.5), "open_clip/ViT.other": pytest.approx(0.7)}
    assert report["dropped"]["open_clip"]["repeated"] == 1
    assert report["unknown_models"]["open_clip"] == 1


def test_numbers_of_a_python_file_are_read_and_not_run(tmp_path: Path) -> None:
    text = (
        "raise SystemExit('run')\nDATA_SPECIFIC_RANK = {\n"
        "    'DTD': {\n        'Finetuning': torch.tensor([0.5, 0.7]),\n    },\n"
        "    'UTKFace': {\n        'Finetuning': torch.tensor([-1.0,\n  -2.0]),\n    },\n}\n"
        "\nBKB_SPECIFIC_RANK = ['a', 'b']\n"
    )
    (tmp_path / "info.py").write_text(text)
    source = _source("model_spider", files=[{"local": "info.py"}])
    cells, report = read_cells({"model_spider": source}, DATASETS, {}, tmp_path, tmp_path)
    assert not report["missing"]
    assert cells["value"].tolist() == pytest.approx([0.005, 0.007])
    assert set(cells["protocol"]) == {"fine_tune"}


def test_of_clip_benchmark_zero_shot_rows_of_single_labels_are_read(tmp_path: Path) -> None:
    header = "model,pretrained,dataset,task,acc1\n"
    rows = ("ViT,openai,dtd,zeroshot_classification,0.4", "ViT,openai,dtd,zeroshot_retrieval,0.9",
            "ViT,openai,voc2007_multilabel,zeroshot_classification,0.8")  # fmt: skip
    (tmp_path / "b.csv").write_text(header + "\n".join(rows))
    found = READERS["clip_benchmark"]([tmp_path / "b.csv"])
    assert found[["dataset", "protocol", "value"]].to_numpy().tolist() == [["dtd", "zero_shot", 0.4]]


def test_of_probes_the_best_of_each_number_of_shots_is_read_and_none_of_all_images(tmp_path: Path) -> None:
    row = {"model": "ViT", "pretrained": "openai", "dataset": "dtd-unverified"}
    probes = [(10, 0.5), (10, 0.6), (25, 0.7), (-1, 0.9)]
    rows = [{**row, "fewshot_k": shots, "lp_acc1": value} for shots, value in probes]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    found = READERS["clip_probes"]([tmp_path / "p.json"])
    assert found["value"].tolist() == [0.6, 0.7]
    assert set(found["dataset"]) == {"dtd"}
    assert set(found["protocol"]) == {"linear_probe"}


def test_of_model_spider_s_table_accuracies_of_fine_tuning_are_read_as_fractions(tmp_path: Path) -> None:
    rows = ("resnet50,dtd,finetune_accuracy,70", "resnet50,dtd,logme,-0.3")
    (tmp_path / "m.csv").write_text("model_id,dataset_id,metric,value\n" + "\n".join(rows))
    found = READERS["model_spider"]([tmp_path / "m.csv"])
    assert found[["dataset", "protocol", "value"]].to_numpy().tolist() == [["dtd", "fine_tune", 0.7]]


def test_a_source_of_another_shape_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("name,pretrained,DTD\nViT,openai,.4\n")
    (tmp_path / "bad.csv").write_text("something,else\n1,2\n")
    sources = {
        "broken": _source("open_clip", files=[{"local": "bad.csv"}]),
        "whole": _source("open_clip", files=[{"local": "good.csv"}]),
    }
    cells, report = read_cells(sources, DATASETS, {}, tmp_path, tmp_path)
    assert len(cells) == 1
    assert "broken: it isn't the table it was" in str(report["missing"]["broken"])


def test_shipped_lists_are_sound(tmp_path: Path) -> None:
    datasets, sources = read_datasets(), read_sources()
    assert all(source.licence for source in sources.values())
    assert {"dtd", "imagenet_1k", "pcam"} <= set(datasets)
    (tmp_path / "d.yml").write_text(
        "a: {domain: x, kind: y, classes: 2, aliases: [Same]}\nb: {domain: x, kind: y, classes: 2, aliases: [same]}\n"
    )
    with pytest.raises(ItemError, match="also means a"):
        read_datasets(tmp_path / "d.yml")
