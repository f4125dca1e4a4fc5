"""Transferability scores of one model's tasks."""

from __future__ import annotations

import numpy as np
import pytest

from tests.truth.conftest import SETTINGS, TASKS, eager_features, make_backbone
from thesis_rec.base.tables import TaskImages
from thesis_rec.models.backbone import Backbone
from thesis_rec.transferability.estimates import ScoreInput, log_me
from thesis_rec.truth.cells import ImageBank, measure_model
from thesis_rec.truth.performance_records import SCORE_COLUMNS


def test_scores_use_the_first_training_images_of_each_class(backbone: Backbone, images: dict[str, TaskImages]) -> None:
    truth = measure_model(backbone, ImageBank(images), TASKS[:1], [], SETTINGS.model_copy(update={"score_images": 7}))
    task = images["a"]
    rows = np.concatenate([np.flatnonzero(task.train_labels == c)[:7] for c in range(3)])
    features = eager_features(backbone, task.train_images[rows])
    expected = log_me(ScoreInput(features, task.train_labels[rows]))
    frame = truth.transferability.set_index("method")["value"]
    assert frame["logme"] == pytest.approx(expected, abs=1e-4)


def test_a_model_without_head_has_no_leep(images: dict[str, TaskImages]) -> None:
    truth = measure_model(make_backbone(head=False), ImageBank(images), TASKS, [], SETTINGS)
    missing = truth.transferability.groupby("method")["value"].apply(lambda values: values.isna().all())
    assert missing["leep"]
    assert missing.sum() == 1
    assert truth.responses.shape == (0,)


def test_without_scores_the_table_is_empty(backbone: Backbone, images: dict[str, TaskImages]) -> None:
    truth = measure_model(backbone, ImageBank(images), TASKS, [], SETTINGS.model_copy(update={"scores": ()}))
    assert truth.transferability.empty
    assert list(truth.transferability.columns) == SCORE_COLUMNS
    only = measure_model(backbone, ImageBank(images), TASKS[2:], [], SETTINGS)
    assert only.transferability.empty
    assert only.records["dataset_id"].tolist() == ["sub"]
