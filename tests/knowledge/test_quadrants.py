"""Splits: nothing of the test side may enter training."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_rec.catalog.validators import validate_splits
from thesis_rec.knowledge.quadrants import (
    Split,
    SplitSettings,
    assign_splits,
    parents_of,
    quadrant_masks,
    training_mask,
)

SIDES = {"dataset_families": ["f5"], "dataset_ids": ["f0_1"], "model_families": ["vit"], "model_ids": ["cnn_3"]}


def zoo(n_families=6, tasks=3, models=20):
    families = {f"{name}_{i}": name for name in ("cnn", "vit", "mixer", "swin", "rex") for i in range(models // 5)}
    rows = [(f"f{f}_{t}", f"f{f}", "") for f in range(n_families) for t in range(tasks)]
    rows += [(f"f{f}_0-half", "", f"f{f}_0") for f in range(n_families)]
    rows += [("mix_00", "", "f0_0;f1_0"), ("mix_05", "", "f0_0;f5_0"), ("mix_55", "", "f5_0;f5_1")]
    info = pd.DataFrame(rows, columns=["dataset_id", "domain", "parent"])
    performance = pd.DataFrame(
        [(m, d) for m in families for d in info["dataset_id"]], columns=["model_id", "dataset_id"]
    )
    return performance, families, info


def split_of(sides=SIDES, seed=0, **settings):
    performance, families, info = zoo()
    table = assign_splits(performance, families, info, sides, SplitSettings(**settings), seed)
    return table, performance, families, info


def test_table_satisfies_its_contract():
    table, *_ = split_of()
    validate_splits(table)
    assert set(table["kind"]) == {"model", "dataset", "cell"}


def test_named_sides_are_unknown():
    split = Split.of(split_of()[0])
    assert not split.models["vit_0"]
    assert not split.models["cnn_3"]
    assert split.models["cnn_0"]
    assert split.datasets["f5_1"] == "test"
    assert split.datasets["f0_1"] == "test"
    assert split.datasets["f5_0-half"] == "test"
    assert split.datasets["mix_55"] == "test"


def test_whole_groups_are_unknown_beside_the_named_sides():
    performance, families, info = zoo()
    info["group"] = ["real" if name.startswith("f2") else "structured" for name in info["dataset_id"]]
    table = assign_splits(performance, families, info, SIDES, SplitSettings(unknown_groups=("real",)))
    roles = Split.of(table).datasets
    assert {roles[f"f2_{i}"] for i in range(3)} | {roles["f2_0-half"]} == {"test"}
    assert roles["f5_1"] == "test"
    before = Split.of(assign_splits(performance, families, info, SIDES)).datasets
    assert "test" not in {before[f"f2_{i}"] for i in range(3)}


def test_mixtures_never_cross_a_border():
    table, _, _, info = split_of(validation_share=0.3)
    split = Split.of(table)
    parents = parents_of(info)
    assert "mix_05" not in split.datasets
    for dataset, role in split.datasets.items():
        assert {split.datasets[base] for base in parents[dataset]} == {role}


def test_validation_takes_whole_families():
    split = Split.of(split_of(validation_share=0.2)[0])
    roles = {}
    for dataset, role in split.datasets.items():
        if dataset.count("_") == 1 and "-" not in dataset and dataset != "f0_1" and not dataset.startswith("mix"):
            roles.setdefault(dataset.split("_")[0], set()).add(role)
    assert all(len(found) == 1 for found in roles.values())
    assert {"validation"} in roles.values()


def test_withheld_cells_take_their_sub_tasks_with_them():
    table, _, families, info = split_of(test_cells=0.25, validation_cells=0.1)
    split = Split.of(table)
    mask = training_mask(Split.of(table), sorted(families), info["dataset_id"].tolist())
    column = {d: j for j, d in enumerate(info["dataset_id"])}
    row = {m: i for i, m in enumerate(sorted(families))}
    parents = parents_of(info)
    base_cells = [(m, d) for (m, d) in split.cells if parents[d] == (d,)]
    assert base_cells
    for model, base in base_cells:
        for dataset, bases in parents.items():
            if base in bases:
                assert not mask[row[model], column[dataset]]
    # The same number of models is withheld on every training task.
    counts = pd.Series([d for _, d in base_cells if split.cells[_, d] == "test"]).value_counts()
    assert len(set(counts)) == 1


def test_quadrants_are_disjoint_from_training_and_from_each_other():
    table, _, families, info = split_of(test_cells=0.2, validation_cells=0.1)
    models, datasets = sorted(families), info["dataset_id"].tolist()
    parts = [
        training_mask(Split.of(table), models, datasets),
        *quadrant_masks(Split.of(table), models, datasets).values(),
    ]
    assert np.sum(parts, axis=0).max() == 1
    assert all(part.any() for part in parts)
    split = Split.of(table)
    quadrants = {(True, True): "Q1", (False, True): "Q2", (True, False): "Q3", (False, False): "Q4"}
    for quadrant, mask in quadrant_masks(Split.of(table), models, datasets).items():
        for i, j in zip(*np.nonzero(mask), strict=True):
            known = (split.models[models[i]], split.datasets[datasets[j]] != "test")
            assert quadrants[known] == quadrant


def test_without_sides_whole_families_are_held_out():
    table, _, families, _ = split_of(sides=None, unknown_share=0.2)
    split = Split.of(table)
    by_family = {}
    for model, known in split.models.items():
        by_family.setdefault(families[model], set()).add(known)
    assert all(len(found) == 1 for found in by_family.values())
    assert sum(not known for known in split.models.values()) == 4
    assert "test" in split.datasets.values()


def test_few_families_fall_back_to_single_items():
    cells = [(f"m{i}", f"d{j}") for i in range(5) for j in range(4)]
    performance = pd.DataFrame(cells, columns=["model_id", "dataset_id"])
    info = pd.DataFrame({"dataset_id": [f"d{j}" for j in range(4)], "domain": "one", "parent": ""})
    split = Split.of(assign_splits(performance, dict.fromkeys(performance["model_id"], "one"), info))
    assert sorted(split.datasets.values()).count("test") == 1
    assert "train" in split.datasets.values()
    assert 0 < sum(split.models.values()) < 5


def test_one_dataset_stays_for_training():
    performance = pd.DataFrame({"model_id": ["a", "b"], "dataset_id": ["d", "d"]})
    info = pd.DataFrame({"dataset_id": ["d"], "domain": [None], "parent": [None]})
    split = Split.of(assign_splits(performance, {}, info))
    assert split.datasets == {"d": "train"}


def test_same_seed_same_table_other_seed_other():
    first, second, third = (split_of(seed=s)[0] for s in (3, 3, 4))
    pd.testing.assert_frame_equal(first, second)
    assert not first.drop(columns="seed").equals(third.drop(columns="seed"))


def test_known_models_and_roles_in_order():
    split = Split.of(split_of()[0])
    assert split.known_models(["vit_0", "cnn_0", "nobody"]).tolist() == [False, True, False]


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0, 0.5), st.floats(0, 0.4))
def test_no_split_leaks(seed, validation, cells):
    performance, families, info = zoo(n_families=5, tasks=2, models=10)
    shares = {"validation_share": validation, "test_cells": cells, "validation_cells": 0.05, "unknown_share": 0.3}
    table = assign_splits(performance, families, info, None, SplitSettings(**shares), seed)
    validate_splits(table)
    models, datasets = sorted(families), info["dataset_id"].tolist()
    mask = training_mask(Split.of(table), models, datasets)
    held = np.sum(list(quadrant_masks(Split.of(table), models, datasets).values()), axis=0)
    assert mask.any()
    assert not (mask & (held > 0)).any()
    parents = parents_of(info)
    forbidden = {(models[i], datasets[j]) for i, j in zip(*np.nonzero(held), strict=True)}
    for i, j in zip(*np.nonzero(mask), strict=True):
        assert not any((models[i], base) in forbidden for base in parents[datasets[j]])
