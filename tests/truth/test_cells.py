"""One model measured on a tiny bank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from tests.truth.conftest import REFERENCE, SETTINGS, TASKS, eager_features, make_backbone
from thesis_rec.base.errors import ItemError
from thesis_rec.base.tables import TaskImages
from thesis_rec.models.backbone import Backbone
from thesis_rec.truth.cells import ImageBank, measure_model
from thesis_rec.truth.linear_probe import draw_rows
from thesis_rec.truth.performance_records import RECORD_COLUMNS, SCORE_COLUMNS
from thesis_rec.truth.responses import response_names
from thesis_rec.truth.settings import SCORES


def test_a_model_is_measured_on_all_tasks(backbone: Backbone, images: dict[str, TaskImages]) -> None:
    truth = measure_model(backbone, ImageBank(images), TASKS, REFERENCE, SETTINGS)
    assert list(truth.records.columns) == [*RECORD_COLUMNS, "seconds", "n_test"]
    n_test = truth.records.groupby("dataset_id")["n_test"].first()
    assert n_test["a"] == len(images["a"].test_labels)
    assert truth.records["seconds"].nunique() == 1
    assert truth.records["seconds"].gt(0).all()
    seeds = truth.records.groupby("dataset_id")["seed"].apply(list).to_dict()
    assert seeds == {"a": [0, 1], "b": [0, 1], "sub": [-1]}
    assert truth.records["value"].between(0, 1).all()
    assert set(truth.records["protocol"]) == {"linear_probe"}
    assert set(truth.records["model_id"]) == {"tiny"}
    n_train = truth.records.groupby("dataset_id")["n_train"].first().to_dict()
    assert n_train == {"a": 18, "b": 24, "sub": 18}
    assert list(truth.transferability.columns) == SCORE_COLUMNS
    assert set(zip(truth.transferability["dataset_id"], truth.transferability["method"], strict=True)) == {
        (task, method) for task in ("a", "b") for method in SCORES
    }
    assert truth.transferability["value"].notna().all()
    assert (truth.transferability["seconds"] > 0).all()
    names = response_names(REFERENCE)
    assert truth.responses.shape == (len(names),)
    # Probes on sub-tasks are those of the same sub-tasks as tasks of their own.
    mixed = [task for task in REFERENCE if not task.draws]
    assert len(mixed) == 3
    alone = measure_model(backbone, ImageBank(images), mixed, [], SETTINGS).records.set_index("dataset_id")["value"]
    on_subtasks = dict(zip(names[-3:], truth.responses[-3:].tolist(), strict=True))
    assert on_subtasks == pytest.approx({f"{task}/subtask_probe": value for task, value in alone.items()})
    assert np.isfinite(truth.responses).all()
    assert truth.responses.dtype == np.float32


def test_truth_rows_are_those_of_the_plain_recipe(backbone: Backbone, images: dict[str, TaskImages]) -> None:
    truth = measure_model(backbone, ImageBank(images), TASKS, [], SETTINGS)
    bank = ImageBank(images)
    every = np.concatenate(
        [
            eager_features(backbone, pixels).double().numpy()
            for task in images.values()
            for pixels in (task.train_images, task.test_images)
        ]
    )
    for task in TASKS:
        values = []
        for draw in range(2):
            train = [
                draw_rows(bank.classes[d][c], d, c, draw, SETTINGS.linear_probe.shots, SETTINGS.seed)
                for d, c in task.members
            ]
            test = [bank.classes[d][c].test for d, c in task.members]
            y = np.repeat(np.arange(len(train)), [len(rows) for rows in train])
            scaler = StandardScaler().fit(every[np.concatenate(train)])
            model = Ridge(alpha=SETTINGS.linear_probe.ridge * len(y)).fit(
                scaler.transform(every[np.concatenate(train)]), np.eye(len(train))[y]
            )
            predicted = model.predict(scaler.transform(every[np.concatenate(test)])).argmax(1)
            values.append((predicted == np.repeat(np.arange(len(test)), [len(rows) for rows in test])).mean())
        rows = truth.records[truth.records["dataset_id"] == task.dataset_id]
        expected = values if task.draws else [np.mean(values)]
        np.testing.assert_allclose(rows["value"], expected)


def test_broken_models_are_named(images: dict[str, TaskImages]) -> None:
    broken = make_backbone("nan_model")
    broken.features = lambda x: torch.full((len(x), 12), torch.nan)
    with pytest.raises(ItemError, match=r"nan_model.*finite"):
        measure_model(broken, ImageBank(images), TASKS, [], SETTINGS)
    broken.features = lambda x: x
    with pytest.raises(ItemError, match="shape"):
        measure_model(broken, ImageBank(images), TASKS, [], SETTINGS)
