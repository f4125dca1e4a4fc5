"""The cells and datasets that an evaluation is about."""

import numpy as np
import pytest

from thesis_rec.base.errors import ItemError
from thesis_rec.evaluation.study import assemble_study
from thesis_rec.knowledge.quadrants import training_mask


def test_study_holds_base_tasks_only(study, tables):
    cells = tables[2]
    assert not any(name.startswith("subtask") for name in study.dataset_ids)
    value = cells[(cells.model_id == study.models.model_ids[3]) & (cells.dataset_id == study.dataset_ids[5])]["value"]
    assert study.values[3, 5] == pytest.approx(float(value.iloc[0]))
    assert study.spread is not None
    assert set(study.groups) == {"natural", "structured"}
    assert study.families[study.dataset_ids.index("domain3_task1")] == "domain3"


def test_max_tasks_keeps_every_role(tables):
    world, info, cells, splits = tables
    small = assemble_study(cells, splits, world.models, world.tokens, info, max_tasks=12)
    assert len(small.tasks) == 12
    assert all(len(small.columns(role)) for role in ("train", "validation", "test"))


def test_nothing_to_evaluate_is_said(tables):
    world, info, cells, splits = tables
    with pytest.raises(ItemError, match="fine_tune"):
        assemble_study(cells, splits, world.models, world.tokens, info, protocol="fine_tune")


def test_baselines_see_training_cells_only(study):
    training = study.training_set()
    mask = training_mask(study.split, study.models.model_ids, training.dataset_ids)
    assert (np.isfinite(training.values) == mask).all()
