"""Splits: nothing of the test side may enter training."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts import validate_splits
from thesis_rec.knowledge.quadrants import (
    Split,
    SplitSettings,
    assign_splits,
    parents_of,
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


def listed(table, kind="dataset", column="role"):
    part = table[table["kind"] == kind]
    ids = zip(part["id"], part["id2"], strict=True) if kind == "cell" else part["id"]
    return dict(zip(ids, part[column], strict=True))


def test_table_satisfies_its_contract():
    table, *_ = split_of()
    validate_splits(table)
    assert set(table["kind"]) == {"model", "dataset", "cell"}


def test_named_sides_are_unknown():
    known, roles = listed(split_of()[0], "model", "known"), listed(split_of()[0])
    assert not known["vit_0"]
    assert not known["cnn_3"]
    assert known["cnn_0"]
    assert roles["f5_1"] == "test"
    assert roles["f0_1"] == "test"
    assert roles["f5_0-half"] == "test"
    assert roles["mix_55"] == "test"


def test_whole_groups_are_unknown_beside_the_named_sides():
    performance, families, info = zoo()
    info["group"] = ["real" if name.startswith("f2") else "structured" for name in info["dataset_id"]]
    table = assign_splits(performance, families, info, SIDES, SplitSettings(unknown_groups=("real",)))
    roles = listed(table)
    assert {roles[f"f2_{i}"] for i in range(3)} | {roles["f2_0-half"]} == {"test"}
    assert roles["f5_1"] == "test"
    before = listed(assign_splits(performance, families, info, SIDES))
    assert "test" not in {before[f"f2_{i}"] for i in range(3)}


def test_mixtures_never_cross_a_border():
    table, _, _, info = split_of(validation_share=0.3)
    roles = listed(table)
    parents = parents_of(info)
    assert "mix_05" not in roles
    for dataset, role in roles.items():
        assert {roles[base] for base in parents[dataset]} == {role}


def test_validation_takes_whole_families():
    roles = {}
    for dataset, role in listed(split_of(validation_share=0.2)[0]).items():
        if dataset.count("_") == 1 and "-" not in dataset and dataset != "f0_1" and not dataset.startswith("mix"):
            roles.setdefault(dataset.split("_")[0], set()).add(role)
    assert all(len(found) == 1 for found in roles.values())
    assert {"validation"} in roles.values()


def test_withheld_cells_take_their_sub_tasks_with_them():
    table, _, families, info = split_of(test_cells=0.25, validation_cells=0.1)
    cells = listed(table, "cell")
    mask = Split.of(table, sorted(families), info["dataset_id"].tolist()).allowed()
    column = {d: j for j, d in enumerate(info["dataset_id"])}
    row = {m: i for i, m in enumerate(sorted(families))}
    parents = parents_of(info)
    base_cells = [(m, d) for (m, d) in cells if parents[d] == (d,)]
    assert base_cells
    for model, base in base_cells:
        for dataset, bases in parents.items():
            if base in bases:
                assert not mask[row[model], column[dataset]]
    # The same number of models is withheld on every training task.
    counts = pd.Series([d for _, d in base_cells if cells[_, d] == "test"]).value_counts()
    assert len(set(counts)) == 1


def test_quadrants_are_disjoint_from_training_and_from_each_other():
    table, _, families, info = split_of(test_cells=0.2, validation_cells=0.1)
    models, datasets = sorted(families), info["dataset_id"].tolist()
    split = Split.of(table, models, datasets)
    parts = [split.allowed(), *split.quadrants().values()]
    assert np.sum(parts, axis=0).max() == 1
    assert all(part.any() for part in parts)
    is_known, roles = listed(table, "model", "known"), listed(table)
    quadrants = {(True, True): "Q1", (False, True): "Q2", (True, False): "Q3", (False, False): "Q4"}
    for quadrant, mask in split.quadrants().items():
        for i, j in zip(*np.nonzero(mask), strict=True):
            known = (is_known[models[i]], roles[datasets[j]] != "test")
            assert quadrants[known] == quadrant


def test_without_sides_whole_families_are_held_out():
    table, _, families, _ = split_of(sides=None, unknown_share=0.2)
    known_models = listed(table, "model", "known")
    by_family = {}
    for model, known in known_models.items():
        by_family.setdefault(families[model], set()).add(known)
    assert all(len(found) == 1 for found in by_family.values())
    assert sum(not known for known in known_models.values()) == 4
    assert "test" in listed(table).values()


def test_few_families_fall_back_to_single_items():
    cells = [(f"m{i}", f"d{j}") for i in range(5) for j in range(4)]
    performance = pd.DataFrame(cells, columns=["model_id", "dataset_id"])
    info = pd.DataFrame({"dataset_id": [f"d{j}" for j in range(4)], "domain": "one", "parent": ""})
    table = assign_splits(performance, dict.fromkeys(performance["model_id"], "one"), info)
    assert sorted(listed(table).values()).count("test") == 1
    assert "train" in listed(table).values()
    assert 0 < sum(listed(table, "model", "known").values()) < 5


def test_one_dataset_stays_for_training():
    performance = pd.DataFrame({"model_id": ["a", "b"], "dataset_id": ["d", "d"]})
    info = pd.DataFrame({"dataset_id": ["d"], "domain": [None], "parent": [None]})
    assert listed(assign_splits(performance, {}, info)) == {"d": "train"}


def test_same_seed_same_table_other_seed_other():
    first, second, third = (split_of(seed=s)[0] for s in (3, 3, 4))
    pd.testing.assert_frame_equal(first, second)
    assert not first.drop(columns="seed").equals(third.drop(columns="seed"))


def test_known_models_and_roles_in_order():
    split = Split.of(split_of()[0], ["vit_0", "cnn_0", "nobody"], ["f5_1", "nothing", "f1_0"])
    assert split.known.tolist() == [False, True, False]
    assert split.roles.tolist() == ["test", "", "train"]
    assert not split.allowed()[:, :2].any()


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0, 0.5), st.floats(0, 0.4))
def test_no_split_leaks(seed, validation, cells):
    performance, families, info = zoo(n_families=5, tasks=2, models=10)
    shares = {"validation_share": validation, "test_cells": cells, "validation_cells": 0.05, "unknown_share": 0.3}
    table = assign_splits(performance, families, info, None, SplitSettings(**shares), seed)
    validate_splits(table)
    models, datasets = sorted(families), info["dataset_id"].tolist()
    split = Split.of(table, models, datasets)
    mask, held = split.allowed(), np.sum(list(split.quadrants().values()), axis=0)
    assert mask.any()
    assert not (mask & (held > 0)).any()
    parents = parents_of(info)
    forbidden = {(models[i], datasets[j]) for i, j in zip(*np.nonzero(held), strict=True)}
    for i, j in zip(*np.nonzero(mask), strict=True):
        assert not any((models[i], base) in forbidden for base in parents[datasets[j]])
