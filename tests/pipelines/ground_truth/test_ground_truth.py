"""The pipeline ``ground_truth`` on a folder of images and two saved models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from tests.contracts import validate_performance_records, validate_transferability_scores
from thesis_rec.base.errors import ConfigurationError, NothingSucceeded, Unreached
from thesis_rec.catalog import KeyedPartitionDataset
from thesis_rec.pipelines.ground_truth.nodes import GroundTruthParameters, check_ground_truth
from thesis_rec.pipelines.ground_truth.pipeline import create_pipeline

DATASETS = ["dataset_id", "loader", "source", "splits", "parent", "class_subset"]
MODELS = ["model_id", "loader", "source", "revision", "family"]


def save_images(folder: Path, name: str, classes: int, seed: int) -> None:
    """An NPZ dataset of noisy colours."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 255, (classes, 1, 1, 3))

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(classes), n)
        return np.clip(colours[labels] + rng.normal(0, 30, (len(labels), 32, 32, 3)), 0, 255).astype(np.uint8), labels

    (train, train_labels), (test, test_labels) = draw(8), draw(4)
    np.savez(
        folder / f"{name}.npz", train_images=train, train_labels=train_labels, test_images=test,
        test_labels=test_labels, class_names=np.asarray([f"c{c}" for c in range(classes)]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and models on disk."""
    import timm
    import torch
    from timm.models import save_for_hf

    root = tmp_path_factory.mktemp("world")
    for seed, name in enumerate(("red", "green")):
        save_images(root, name, 3 + seed, seed)
    (root / "bad.npz").write_bytes(b"no images")
    arguments = {"channels": (8, 8, 8, 8), "layers": (1, 1, 1, 1)}
    for index in range(2):
        torch.manual_seed(index)
        overlay = {"input_size": (3, 32, 32)}
        network = timm.create_model("resnet18", num_classes=3, pretrained_cfg_overlay=overlay, **arguments)
        save_for_hf(network, root / f"model_{index}", model_args=arguments, safe_serialization=True)
    return root


class Kept(MemoryDataset):
    """A memory dataset that can be read after the run."""

    def _release(self) -> None:
        """Keep the data."""


def catalog_of(root: Path, out: Path, rows: list[tuple[str, ...]], sets: list[tuple[str, ...]], **knobs: Any):
    """A catalog with the partitions on disk and everything else in memory."""
    parameters = {"models_root": str(root), "images_root": str(root), "reference": "none", "device": "cpu", **knobs}
    cells = KeyedPartitionDataset(path=out, format="parquet", depth=2)
    return DataCatalog(
        {
            "model_manifest": MemoryDataset(pd.DataFrame(rows, columns=MODELS)),
            "dataset_manifest": MemoryDataset(pd.DataFrame(sets, columns=DATASETS)),
            "params:ground_truth": MemoryDataset(GroundTruthParameters(**parameters)),
            "ground_truth_images": MemoryDataset(copy_mode="assign"),
            "ground_truth_cells": cells,
            "existing_ground_truth_cells": KeyedPartitionDataset(path=out, format="parquet", depth=2),
            **{
                name: Kept()
                for name in (
                    "measured_performance", "measured_transferability_scores", "measured_model_responses",
                    "ground_truth_failures", "ground_truth_dataset_failures", "ground_truth_summary",
                )
            },
        }
    )  # fmt: skip


GOOD = [("m0", "timm", "model_0", "", "resnet"), ("m1", "timm", "model_1", "", "resnet")]
SETS = [
    ("red", "npz", "red.npz", "", "", ""),
    ("green", "npz", "green.npz", "", "", ""),
    ("mix", "", "", "", "red;green", "red:0;green:2"),
]


def test_models_and_data_of_ones_own_are_measured_and_failures_told(world: Path, tmp_path: Path) -> None:
    models = [*GOOD, ("gone", "timm", "nowhere", "", "resnet"), ("bare", "local", "x.pth", "", "resnet")]
    datasets = [*SETS, ("bad", "npz", "bad.npz", "", "", ""), ("odd", "", "", "", "red", "red:0;red:9")]
    catalog = catalog_of(
        world,
        tmp_path,
        models,
        datasets,
        subtasks=True,
        linear_probe={"shots": 4, "draws": 2},
        scores=["logme", "leep"],
    )
    SequentialRunner().run(create_pipeline(), catalog)
    records = catalog.load("measured_performance")
    validate_performance_records(records)
    assert set(records["model_id"]) == {"m0", "m1"}
    assert set(records["dataset_id"]) == {"red", "green", "mix"}
    assert len(records) == 2 * (2 + 2 + 1)
    assert records["value"].mean() > 0.5
    scores = catalog.load("measured_transferability_scores")
    validate_transferability_scores(scores)
    assert len(scores) == 2 * 2 * 2
    assert scores["value"].notna().all()
    failures = catalog.load("ground_truth_failures")
    assert failures["model_id"].tolist() == ["gone"]
    assert failures["hint"][0]
    assert set(catalog.load("ground_truth_dataset_failures")["dataset_id"]) == {"bad", "odd"}
    summary = catalog.load("ground_truth_summary")
    assert summary["models"] == 2
    assert summary["failed_models"] == 1
    assert summary["variance_components"]["linear_probe"]["n_tasks"] == 2

    # Shards of a second run find everything measured, and see each other's tables.
    again = catalog_of(
        world, tmp_path, GOOD, SETS, subtasks=True, linear_probe={"shots": 4, "draws": 2}, scores=["logme", "leep"],
        shard={"index": 1, "count": 2},
    )  # fmt: skip
    stamp = (tmp_path / "m0" / "linear_probe.parquet").stat().st_mtime_ns
    SequentialRunner().run(create_pipeline(), again)
    assert (tmp_path / "m0" / "linear_probe.parquet").stat().st_mtime_ns == stamp
    pd.testing.assert_frame_equal(again.load("measured_performance"), records)


def test_a_shard_that_is_missing_is_found_although_an_earlier_array_measured_other_datasets(
    world: Path, tmp_path: Path
) -> None:
    knobs = {"linear_probe": {"shots": 4, "draws": 1}, "scores": []}
    SequentialRunner().run(create_pipeline(), catalog_of(world, tmp_path, GOOD, SETS, datasets="red", **knobs))
    shard = {"index": 0, "count": 2}
    task = catalog_of(world, tmp_path, GOOD, SETS, datasets="red green", shard=shard, **knobs)
    SequentialRunner().run(create_pipeline(), task)
    joining = catalog_of(world, tmp_path, GOOD, SETS, datasets="red green", **knobs)
    joining["ground_truth_dataset_failures"] = task.load("ground_truth_dataset_failures")
    with pytest.raises(Unreached, match="no job has come to 1 models: m1"):
        SequentialRunner().run(create_pipeline().only_nodes_with_tags("join"), joining)
    # One that was asked for alone lacks nothing that it was asked for.
    alone = catalog_of(world, tmp_path, GOOD, SETS, models="m1", datasets="green", **knobs)
    SequentialRunner().run(create_pipeline(), alone)
    assert len(alone.load("measured_performance")) == 4


def test_a_choice_of_models_and_datasets(world: Path, tmp_path: Path) -> None:
    catalog = catalog_of(
        world, tmp_path, GOOD, SETS, models="m1", datasets="mix",
        linear_probe={"shots": 2, "draws": 1}, scores=[],
    )  # fmt: skip
    SequentialRunner().run(create_pipeline(), catalog)
    records = catalog.load("measured_performance")
    assert set(records["model_id"]) == {"m1"}
    assert "mix" in set(records["dataset_id"])
    assert catalog.load("measured_model_responses")["responses"].shape == (0, 0)
    for wrong, told in (({"models": "m1 m3"}, "m3 is no model"), ({"datasets": "rde"}, "rde is no dataset")):
        with pytest.raises(ConfigurationError, match=told):
            SequentialRunner().run(create_pipeline(), catalog_of(world, tmp_path, GOOD, SETS, **wrong))


def test_nothing_measured_is_an_error(world: Path, tmp_path: Path) -> None:
    catalog = catalog_of(world, tmp_path, [("gone", "timm", "nowhere", "", "")], SETS[:1])
    with pytest.raises(NothingSucceeded, match="gone"):
        SequentialRunner().run(create_pipeline(), catalog)
    validate_performance_records(catalog.load("measured_performance"))


def test_strict_forgives_nothing() -> None:
    records = pd.DataFrame(
        [("m", "d", "linear_probe", "accuracy", 0.5, 0, 4, "x")],
        columns=["model_id", "dataset_id", "protocol", "metric", "value", "seed", "n_train", "source"],
    )
    none = pd.DataFrame(columns=["model_id", "error", "hint"])
    one = pd.DataFrame([("m2", "is broken.", "")], columns=["model_id", "error", "hint"])
    knobs = {"models_root": ".", "images_root": ""}
    none_of_data = none.rename(columns={"model_id": "dataset_id"})
    summary = check_ground_truth(records, one, none_of_data, GroundTruthParameters(**knobs))
    assert summary["noise_ceiling"] == summary["variance_components"] == {}
    assert summary["records"] == 1
    with pytest.raises(NothingSucceeded, match="m2"):
        check_ground_truth(records, one, none_of_data, GroundTruthParameters(**knobs, strict=True))


def test_reference_tasks_describe_models_and_are_never_evaluated(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thesis_rec.base.tables import MeasuredTask, TaskImages
    from thesis_rec.pipelines.ground_truth import nodes

    monkeypatch.setattr(nodes, "REFERENCE_TASKS", ("red",))
    tasks = [MeasuredTask(n, ((n, 0), (n, 1))) for n in ("red", "green")]
    tasks.append(MeasuredTask("mix", (("red", 0), ("green", 1)), draws=False))
    parameters = GroundTruthParameters(models_root=".", images_root="", linear_probe={"shots": 3}, seed=5)
    labels = np.zeros(1, dtype=np.int64)
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    images = {"red": TaskImages("red", *(pixels, labels) * 2, ["a", "b", "c"])}
    campaign = nodes._campaign(parameters, images, tasks)
    assert [task.dataset_id for task in campaign.tasks] == ["green"]
    assert campaign.reference[0] == MeasuredTask("red", (("red", 0), ("red", 1), ("red", 2)))
    assert not any(task.draws for task in campaign.reference[1:])
    assert campaign.settings.linear_probe.shots == 3
    assert campaign.settings.seed == 5


def test_the_shipped_parameters_are_those_of_the_code(project_dir: Path) -> None:
    text = (project_dir / "conf/base/parameters/ground_truth.yml").read_text()
    shipped = yaml.safe_load(text)["ground_truth"]
    plain = {k: v for k, v in shipped.items() if k not in ("shard", "seed", "images")}
    model = GroundTruthParameters.model_validate(plain)
    for name, _value in plain.items():
        if name not in ("models_root", "images_root", "hub_cache"):
            default = GroundTruthParameters.model_fields[name].get_default()
            assert getattr(model, name) == default, name
    assert set(shipped) == set(GroundTruthParameters.model_fields)


def test_fine_tuning_refuses_images_of_several_sizes_before_it_starts() -> None:
    from thesis_rec.base.tables import TaskImages
    from thesis_rec.pipelines.ground_truth import nodes

    labels = np.zeros(1, dtype=np.int64)
    images = {
        str(side): TaskImages(str(side), *(np.zeros((1, side, side, 3), np.uint8), labels) * 2, ["a"])
        for side in (8, 9)
    }
    knobs = {"models_root": ".", "images_root": "", "reference": "none", "protocols": ["fine_tune"]}
    with pytest.raises(ConfigurationError, match=r"images\.size"):
        nodes._campaign(GroundTruthParameters(**knobs), images, [])
    campaign = nodes._campaign(GroundTruthParameters(**knobs, fine_tune={"steps": 3}), {"8": images["8"]}, [])
    assert campaign.settings.fine_tune.steps == 3


def test_generated_tasks_are_the_images_that_the_starter_zoo_was_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from thesis_rec.pipelines.ground_truth.nodes import load_ground_truth_images
    from thesis_rec.starter import sides
    from thesis_rec.tasks import TEST_PER_CLASS, TRAIN_PER_CLASS, task_images

    monkeypatch.setattr("thesis_rec.pipelines.ground_truth.nodes.REFERENCE_TASKS", ("shapes_small",))
    name = sides.known_tasks()[0]
    manifest = pd.DataFrame([(name, "generated", name, "", "", "")], columns=DATASETS)
    images, failures = load_ground_truth_images(manifest, GroundTruthParameters(models_root=".", images_root=""))
    assert set(images) == {name, "shapes_small"}
    assert failures.empty
    classes = len(images[name].class_names)
    assert len(images[name].train_labels) == TRAIN_PER_CLASS * classes
    assert len(images[name].test_labels) == TEST_PER_CLASS * classes
    np.testing.assert_array_equal(images[name].train_images, task_images(name).train_images)


def test_datasets_share_the_memory_that_their_images_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are held at once: each of many as large as one alone would fill a laptop's memory."""
    from thesis_rec.pipelines.ground_truth import nodes

    labels = np.arange(8) % 2
    pixels = np.random.default_rng(0).integers(0, 256, (8, 128, 128, 3), dtype=np.uint8)
    arrays = {"train_images": pixels, "train_labels": labels, "test_images": pixels, "test_labels": labels}
    np.savez(tmp_path / "d.npz", **arrays)
    monkeypatch.setattr(nodes, "MOST_BYTES", 2 * 16 * 3 * 96**2)
    for count, side in ((1, 128), (4, 128), (8, 96)):
        manifest = pd.DataFrame([(f"d{i}", "npz", "d.npz", "", "", "") for i in range(count)], columns=DATASETS)
        knobs = GroundTruthParameters(models_root=".", images_root=str(tmp_path), reference="none")
        images, failures = nodes.load_ground_truth_images(manifest, knobs)
        assert {task.train_images.shape[1] for task in images.values()} == {side}
        assert any("are reduced to 96" in text for text in failures["error"]) == (count == 8)
    small = knobs.model_copy(update={"images": knobs.images.model_copy(update={"largest": 64})})
    images, _ = nodes.load_ground_truth_images(manifest, small)
    assert {task.train_images.shape[1] for task in images.values()} == {64}
