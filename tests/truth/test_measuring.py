"""Measuring a zoo: what is kept, what is measured again, what fails alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.truth.conftest import make_backbone, make_task
from thesis_rec.base.tables import TaskImages
from thesis_rec.images.manifest import DatasetRow
from thesis_rec.models.backbone import Backbone
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.models.model_sources import weights_fingerprint
from thesis_rec.truth.measuring import (
    Campaign,
    images_fingerprint,
    join_part,
    join_responses,
    measure_zoo,
    measured_tasks,
    told_outcomes,
)
from thesis_rec.truth.performance_records import PROVENANCE_COLUMNS, RECORD_COLUMNS, measured_records
from thesis_rec.truth.responses import reference_tasks
from thesis_rec.truth.settings import CampaignSettings, FineTuneSettings, ProbeRecipe

ROWS = [ManifestRow(model_id=name, loader="timm", source=name) for name in ("one", "org/two")]
SETTINGS = CampaignSettings(linear_probe=ProbeRecipe(shots=4, draws=2), scores=("logme",), device="cpu")
REFERENCE = reference_tasks({"ref": 3}, subtasks=3)


def dataset_rows(*subsets: str) -> list[DatasetRow]:
    """The base tasks a and b, and sub-tasks of them."""
    rows = [DatasetRow(dataset_id=name, loader="npz", source=name) for name in ("a", "b")]
    for index, subset in enumerate(subsets):
        parents = ";".join(sorted({part.split(":")[0] for part in subset.split(";")}))
        rows.append(DatasetRow.model_validate({"dataset_id": f"s{index}", "parent": parents, "class_subset": subset}))
    return rows


class Zoo:
    """Runs campaigns and keeps what they yield, as a folder would."""

    def __init__(self, images: dict[str, TaskImages]) -> None:
        self.tables: dict[str, Callable[[], pd.DataFrame]] = {}
        self.images = images
        self.loaded: list[str] = []
        self.weights = {"one": "w1", "org/two": "w2"}
        self.broken: set[str] = set()

    def load(self, row: ManifestRow) -> Backbone:
        self.loaded.append(row.model_id)
        if row.model_id in self.broken:
            raise OSError("no such file")
        return make_backbone(row.model_id, seed=len(row.model_id))

    def run(self, rows: list[DatasetRow], stop_after: int | None = None, **changes: object) -> list[str]:
        """Measure; returns the keys of the tables that were written."""
        self.loaded = []
        settings = SETTINGS.model_copy(update=changes)
        campaign = Campaign(self.images, measured_tasks(rows, self.images)[0], REFERENCE, settings)
        written: list[str] = []
        steps = measure_zoo(ROWS, self.load, lambda row: self.weights[row.model_id], campaign, self.tables, "these")
        for chunk in steps:
            for key, table in chunk.items():
                self.tables[key] = lambda table=table: table
                written.append(key)
            if stop_after is not None and len(written) >= stop_after:
                break
        return written


@pytest.fixture
def zoo(images: dict[str, TaskImages]) -> Zoo:
    """Two models, nothing measured yet."""
    return Zoo(images)


def test_a_second_run_measures_nothing(zoo: Zoo) -> None:
    first = zoo.run(dataset_rows("a:0;b:1"))
    assert set(first) == {
        f"{name}/{part}"
        for name in ("one", "org/two")
        for part in ("linear_probe", "transferability", "responses", "outcome")
    }
    records = join_part(zoo.tables, ["one", "org/two"], "linear_probe", RECORD_COLUMNS)
    assert len(records) == 2 * (2 + 2 + 1)
    assert list(records.columns) == RECORD_COLUMNS
    assert set(zoo.run(dataset_rows("a:0;b:1"))) == {"one/outcome", "org/two/outcome"}
    assert zoo.loaded == []


def test_records_say_what_they_were_measured_with(zoo: Zoo) -> None:
    columns = [*RECORD_COLUMNS, *PROVENANCE_COLUMNS]

    def records() -> pd.DataFrame:
        return join_part(zoo.tables, ["one"], "linear_probe", columns).set_index("dataset_id")

    zoo.run(dataset_rows("a:0;b:1"))
    before = records()
    assert before["model_revision"].unique().tolist() == ["w1"]
    assert before.groupby("dataset_id")["dataset_revision"].nunique().tolist() == [1, 1, 1]
    assert before["dataset_revision"].nunique() == 3
    assert before["versions"].str.startswith("torch ").all()
    assert (before["seconds"] > 0).all()
    # Other weights, or other images, are other measurements.
    zoo.weights["one"] = "w1, trained on"
    zoo.run(dataset_rows("a:0;b:1"))
    assert records()["model_revision"].unique().tolist() == ["w1, trained on"]
    changed = dataclasses.replace(zoo.images["a"], test_labels=zoo.images["a"].test_labels[::-1].copy())
    zoo.images = {**zoo.images, "a": changed}
    zoo.run(dataset_rows("a:0;b:1"))
    moved = (
        records()["dataset_revision"].groupby(level=0).first() != before["dataset_revision"].groupby(level=0).first()
    )
    assert moved.to_dict() == {"a": True, "b": False, "s0": True}


def test_records_of_earlier_versions_are_joined(zoo: Zoo) -> None:
    zoo.run(dataset_rows())
    old = zoo.tables["one/linear_probe"]().drop(columns=PROVENANCE_COLUMNS)
    zoo.tables["one/linear_probe"] = lambda: old
    joined = join_part(zoo.tables, ["one", "org/two"], "linear_probe", [*RECORD_COLUMNS, *PROVENANCE_COLUMNS])
    assert joined["model_revision"].isna().tolist() == [True] * 4 + [False] * 4


def test_a_killed_run_goes_on_where_it_stopped(zoo: Zoo) -> None:
    zoo.run(dataset_rows(), stop_after=4)
    zoo.run(dataset_rows())
    assert zoo.loaded == ["org/two"]
    assert len(join_part(zoo.tables, ["one", "org/two"], "linear_probe", RECORD_COLUMNS)) == 8


def test_a_new_task_is_measured_alone_and_joined(zoo: Zoo) -> None:
    zoo.run(dataset_rows())
    before = zoo.tables["one/linear_probe"]()
    written = zoo.run(dataset_rows("a:0;a:2"))
    assert "one/linear_probe" in written
    assert "one/transferability" not in written
    assert "one/responses" not in written
    after = zoo.tables["one/linear_probe"]()
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before)
    assert after.iloc[len(before) :]["dataset_id"].tolist() == ["s0"]


def test_changed_weights_images_or_recipe_replace_the_rows_concerned(zoo: Zoo) -> None:
    zoo.run(dataset_rows())
    zoo.weights["one"] = "other"
    zoo.run(dataset_rows())
    assert zoo.loaded == ["one"]
    zoo.images = {**zoo.images, "b": make_task("b", 4, 10, 7, seed=77, size=10)}
    old = zoo.tables["one/linear_probe"]().set_index("dataset_id")["value"]
    zoo.run(dataset_rows())
    new = zoo.tables["one/linear_probe"]().set_index("dataset_id")["value"]
    assert len(new) == 4
    assert list(new["a"]) == list(old["a"])
    assert list(new["b"]) != list(old["b"])
    zoo.run(dataset_rows(), linear_probe=ProbeRecipe(shots=3, draws=2))
    records = join_part(zoo.tables, ["one"], "linear_probe", RECORD_COLUMNS)
    assert records["n_train"].tolist() == [9, 9, 12, 12]


def test_a_broken_model_fails_alone_and_recovers(zoo: Zoo) -> None:
    zoo.broken = {"one"}
    zoo.run(dataset_rows())
    (one, failed), (two, good) = told_outcomes(zoo.tables, ["one", "org/two"])
    assert (one, two) == ("one", "org/two")
    assert "no such file" in failed["error"]
    assert failed["hint"]
    assert (good["error"], good["made_from"]) == ("", "these")
    assert "org/two/linear_probe" in zoo.tables
    assert "one/linear_probe" not in zoo.tables
    zoo.broken = set()
    zoo.run(dataset_rows())
    assert zoo.loaded == ["one"]
    assert [outcome["error"] for _, outcome in told_outcomes(zoo.tables, ["one", "org/two"])] == ["", ""]
    # What succeeded in older versions told nothing.
    zoo.tables["one/outcome"] = lambda: pd.DataFrame(columns=["model_id", "error", "hint"])
    assert [name for name, _ in told_outcomes(zoo.tables, ["one", "org/two"])] == ["org/two"]


def test_responses_of_one_bank_are_joined(zoo: Zoo) -> None:
    zoo.run(dataset_rows())
    joined = join_responses(zoo.tables, ["one", "org/two", "absent"])
    assert joined["model_ids"].tolist() == ["one", "org/two"]
    assert joined["responses"].shape == (2, len(joined["names"]))
    assert joined["names"][0] == "ref/linear_probe"
    other = zoo.tables["org/two/responses"]().assign(name="x")
    zoo.tables["org/two/responses"] = lambda: other
    assert join_responses(zoo.tables, ["one", "org/two"])["model_ids"].tolist() == ["one"]
    assert join_responses({}, ["one"])["responses"].shape == (0, 0)


def test_fine_tuning_is_saved_every_few_cells_and_resumed(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[tuple[str, int]]] = []

    def fake(backbone, bank, cells, settings, source):
        calls.append([(task.dataset_id, seed) for task, seed in cells])
        rows = [(task.dataset_id, 0.5, seed, 8, 0.1, 4) for task, seed in cells]
        return measured_records(rows, model_id=backbone.model_id, protocol="fine_tune", source="x")

    module = pytest.importorskip("thesis_rec.truth.fine_tune")
    monkeypatch.setattr(module, "fine_tune", fake)
    changes = {"protocols": ("fine_tune",), "fine_tune": FineTuneSettings(seeds=2, save_every=3)}
    zoo.run(dataset_rows(), stop_after=1, **changes)
    assert calls == [[("a", 0), ("a", 1), ("b", 0)]]
    zoo.run(dataset_rows(), **changes)
    assert calls[1] == [("b", 1)]
    records = join_part(zoo.tables, ["one", "org/two"], "fine_tune", RECORD_COLUMNS)
    assert len(records) == 8
    assert set(records["source"]) == {"x"}
    assert "one/linear_probe" not in zoo.tables


def test_subtasks_need_classes_that_exist(images: dict[str, TaskImages]) -> None:
    rows = dataset_rows("a:0;b:3", "a:0;a:3")
    tasks, (failure,) = measured_tasks(rows, images)
    assert [task.dataset_id for task in tasks] == ["a", "b", "s0"]
    assert failure.item == "s1"
    assert "a:3" in failure.error
    only = {"a": images["a"]}
    assert [task.dataset_id for task in measured_tasks(rows, only)[0]] == ["a"]


def test_fingerprints_follow_content_not_place(tmp_path: Path, images: dict[str, TaskImages]) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_bytes(b"weights")
        (tmp_path / folder / "config.json").write_text("{}")
    assert weights_fingerprint(tmp_path / "x") == weights_fingerprint(tmp_path / "y")
    (tmp_path / "y" / "model.safetensors").write_bytes(b"weightz")
    assert weights_fingerprint(tmp_path / "x") != weights_fingerprint(tmp_path / "y")
    assert weights_fingerprint(tmp_path / "x" / "config.json") != weights_fingerprint(tmp_path / "x")
    task = images["a"]
    copied = dataclasses.replace(task, train_images=task.train_images.copy())
    assert images_fingerprint(copied) == images_fingerprint(task)
    copied.train_images[0, 0, 0, 0] ^= 1
    assert images_fingerprint(copied) != images_fingerprint(task)
