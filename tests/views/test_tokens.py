"""Tokens of datasets and sub-tasks, read from shards."""

import numpy as np

from tests.images.encoders.tiny import write_colour_folder
from tests.views.small_tokens import row, run
from thesis_rec.images.manifest import DatasetRow
from thesis_rec.views.extraction import TokenSettings
from thesis_rec.views.tokens import load_task_tokens


def test_subtasks_select_and_mix(folder):
    write_colour_folder(folder / "e")
    shards, _ = run([row(), row("e")], folder)
    mixed = DatasetRow(dataset_id="m", parent=("d", "e"), class_subset=(("d", 2), ("e", 0), ("d", 0)))
    plain = DatasetRow(dataset_id="p", parent=("d", "e"), class_subset=(("d", 2), ("e", 1)))
    orphan = DatasetRow(dataset_id="o", parent=("x",), class_subset=(("x", 2), ("x", 1)))
    tasks = load_task_tokens(shards, [mixed, plain, orphan])
    assert list(tasks) == ["m", "p"]
    assert tasks["m"].class_names == ["red", "blue", "blue"]
    d, e = (load_task_tokens(shards, [row(name)])[name] for name in ("d", "e"))
    expected = np.stack([d.features[:, 2], e.features[:, 0], d.features[:, 0]], axis=1)
    assert np.array_equal(tasks["m"].features, expected)
    assert tasks["m"].n_images == 8 + 4
    assert tasks["p"].class_names == ["red", "green"]


def test_incomplete_or_mixed_shards_are_left_out_and_old_ones_ignored(folder):
    shards, _ = run([row()], folder)
    assert load_task_tokens({k: s for k, s in shards.items() if not k.endswith("0")}, [row()]) == {}
    other, _ = run([row()], folder, TokenSettings("colour", batches=5, images_per_shard=6, seed=1))
    assert load_task_tokens(shards | {"d/train/00001": other["d/train/00001"]}, [row()]) == {}
    assert len(load_task_tokens(shards | {"d/train/00003": other["d/train/00002"]}, [row()])["d"].features) == 5
    assert load_task_tokens(shards, [row()], split="test") == {}
