"""The cells and datasets that an evaluation is about."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from thesis_rec.base.errors import ItemError
from thesis_rec.evaluation.study import assemble_study, cell_matrix


def test_study_holds_base_tasks_only(study, tables):
    cells = tables[2]
    assert not any(name.startswith("subtask") for name in study.dataset_ids)
    value = cells[(cells.model_id == study.models.model_ids[3]) & (cells.dataset_id == study.dataset_ids[5])]["value"]
    assert study.values[3, 5] == pytest.approx(float(value.iloc[0]))
    assert np.isfinite(study.spread).any()
    assert set(study.groups) == {"natural", "structured"}
    assert study.families[study.dataset_ids.index("domain3_task1")] == "domain3"


def test_max_tasks_keeps_every_role(tables):
    world, info, cells, splits = tables
    small = assemble_study(cells, splits, world.models, world.tokens, info, max_tasks=12)
    assert len(small.tasks) == 12
    assert all(len(small.columns(role)) for role in ("train", "validation", "test"))


def test_nothing_to_evaluate_is_said(tables):
    world, info, cells, splits = tables
    apart = splits.assign(role=splits["role"].replace("train", "test"))
    with pytest.raises(ItemError, match="no dataset to learn from"):
        assemble_study(cells, apart, world.models, world.tokens, info)
    with pytest.raises(ItemError, match="fine_tune"):
        assemble_study(cells, splits, world.models, world.tokens, info, protocol="fine_tune")


def test_baselines_see_training_cells_only(study, tables):
    training = study.training()
    listed = tables[3].set_index(["id", "id2"])
    for (i, model), (j, dataset) in product(enumerate(study.models.model_ids), enumerate(training.dataset_ids)):
        withheld = (model, dataset) in listed.index
        assert np.isfinite(training.values[i, j]) == (listed.loc[(model, ""), "known"] and not withheld)
        assert listed.loc[(dataset, ""), "role"] == "train"
    assert list(training.split.roles) == ["train"] * len(training.tasks)


def test_the_network_sees_what_may_be_learned_from(study):
    for role in ("train", "validation"):
        tasks, values = study.lists(role)
        names = [task.dataset_id for task in tasks]
        assert names == sorted(names)
        assert {study.split.roles[study.dataset_ids.index(name)] for name in names} == {role}
        columns = [study.dataset_ids.index(name) for name in names]
        expected = np.where(study.allowed(), study.values, np.nan)[np.ix_(study.known, columns)].T
        np.testing.assert_array_equal(values, expected)
        assert (np.isfinite(values).sum(1) >= 3).all()
    withheld = int((study.split.withheld != "").sum())
    assert withheld > 10
    assert np.isnan(study.lists("train")[1]).sum() == withheld


def test_a_dataset_counts_from_three_measured_models_on(study):
    columns, known = study.columns("train")[:2], np.flatnonzero(study.known)
    values = study.values.copy()
    values[:, columns] = np.nan
    for count, column in zip((2, 3), columns, strict=True):
        there = known[study.split.withheld[known, column] == ""][:count]
        values[there, column] = 0.5
    named = {task.dataset_id for task in replace(study, values=values).lists("train")[0]}
    assert [study.dataset_ids[column] in named for column in columns] == [False, True]


def test_cells_become_a_matrix():
    rows = [("a", "p", 1.0), ("b", "p", np.nan), ("a", "q", 4.0), ("zz", "p", 9.0)]
    matrix = cell_matrix(
        pd.DataFrame(rows, columns=["model_id", "dataset_id", "value"]), "value", ["b", "a"], ["p", "q", "r"]
    )
    np.testing.assert_array_equal(matrix, [[np.nan] * 3, [1.0, 4.0, np.nan]])
