"""What is drawn for one cell."""

from __future__ import annotations

import torch

from tests.truth.small_tasks import IMAGES, SETTINGS, THREE
from thesis_rec.truth.fine_tune_batches import ImageStore, plan_cell


def test_seeds_choose_other_images():
    store = ImageStore(IMAGES, "cpu")
    plans = [plan_cell(THREE, seed, store, SETTINGS, 5, "cpu") for seed in (0, 0, 1)]
    assert torch.equal(plans[0].inputs["rows"], plans[1].inputs["rows"])
    assert not torch.equal(plans[0].inputs["rows"], plans[2].inputs["rows"])
    assert plans[0].inputs["mask"][0].tolist() == [0, 0, 0, -1e4, -1e4]
    rows, labels = plans[0].inputs["rows"].flatten(), plans[0].inputs["labels"].flatten()
    assert (labels.numpy() == IMAGES["three"].train_labels[rows]).all()
    assert len(set(rows.tolist())) == 24
