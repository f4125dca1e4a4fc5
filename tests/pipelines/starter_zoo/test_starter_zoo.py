"""The pipeline ``starter_zoo``: a very small zoo, then the same again."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from tests.conftest import PROJECT
from thesis_rec.base.errors import NothingSucceeded, failures_frame
from thesis_rec.catalog import AtomicJSONDataset, AtomicParquetDataset
from thesis_rec.pipelines.starter_zoo.nodes import StarterZooParameters, check_zoo
from thesis_rec.pipelines.starter_zoo.pipeline import create_pipeline


def parameters(tmp_path, **changes):
    content = yaml.safe_load((PROJECT / "conf/test/parameters/starter_zoo.yml").read_text())["starter_zoo"]
    content["sizes"] |= {"models": 2, "tasks": 2, "references": 1}
    folders = {"working_folder": str(tmp_path / "work"), "output": str(tmp_path / "zoo")}
    return StarterZooParameters(**{**content, **folders, **changes})


def run(settings):
    catalog = DataCatalog({"params:starter_zoo": MemoryDataset(settings)})
    catalog["starter_zoo_build"] = MemoryDataset(copy_mode="assign")
    reports = Path(settings.working_folder).parent / "reports"
    catalog["starter_zoo_plan"] = AtomicJSONDataset(filepath=str(reports / "plan.json"))
    catalog["starter_zoo_summary"] = AtomicJSONDataset(filepath=str(reports / "summary.json"))
    catalog["starter_zoo_failures"] = AtomicParquetDataset(filepath=str(reports / "failures.parquet"))
    SequentialRunner().run(create_pipeline(), catalog)
    return {name: catalog.load(f"starter_zoo_{name}") for name in ("plan", "summary", "failures")}


def test_a_small_zoo_is_built_and_travels(tmp_path):
    settings = parameters(tmp_path, bundle_out=str(tmp_path / "pieces"))
    result = run(settings)
    assert result["failures"].empty
    assert result["summary"]["models"] == result["summary"]["measured"] == len(result["plan"]["models"]) == 2
    assert result["summary"]["fine_tuned"] == 2
    manifest = pd.read_csv(tmp_path / "zoo" / "model_manifest.csv")
    assert sorted(manifest["model_id"]) == sorted(result["plan"]["models"])
    pieces = sorted(str(path) for path in (tmp_path / "pieces").glob("*.zip"))
    assert set(result["summary"]["bundle"]) == {path.rsplit("/", 1)[1] for path in pieces}
    elsewhere = parameters(tmp_path / "elsewhere", bundle_in=pieces, stages=[], time_budget_seconds=100.0)
    again = run(elsewhere)
    assert again["summary"]["measured"] == 2
    # A finished zoo is enough to go on from: nothing is trained or measured again.
    begun = parameters(
        tmp_path / "begun", begin_from=str(tmp_path / "zoo"), stages=["models", "truth", "fine_tune"], strict=True
    )
    assert run(begun)["summary"]["measured"] == 2
    records = [
        pd.read_parquet(folder / "zoo" / "performance_records.parquet")
        for folder in (tmp_path, tmp_path / "elsewhere", tmp_path / "begun")
    ]
    pd.testing.assert_frame_equal(records[0], records[1])
    pd.testing.assert_frame_equal(records[0], records[2])


def test_a_build_without_time_builds_nothing_and_says_so(tmp_path):
    result = run(parameters(tmp_path, time_budget_seconds=1e-9))
    assert result["summary"]["models"] == 0
    assert not (tmp_path / "zoo").exists()


def test_failures_stop_a_strict_build():
    failures = failures_frame([])
    check_zoo({"models": 1, "planned": 2}, failures, StarterZooParameters(working_folder="", output=""))
    failures = pd.DataFrame({"model_id": ["m"], "error": ["bad"], "hint": [""]})
    check_zoo({"models": 1, "planned": 2}, failures, StarterZooParameters(working_folder="", output=""))
    with pytest.raises(NothingSucceeded, match="m: bad"):
        check_zoo(
            {"models": 1, "planned": 2}, failures, StarterZooParameters(working_folder="", output="", strict=True)
        )
