"""Fine-tuning on tasks that a small network learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.truth.small_tasks import FIVE, IMAGES, MIXED, SETTINGS, THREE, backbone, task_images
from thesis_rec.truth.cells import ImageBank
from thesis_rec.truth.fine_tune import draw_batches, fine_tune
from thesis_rec.truth.performance_records import RECORD_COLUMNS
from thesis_rec.truth.settings import FineTuneRecipe


def tune(factory, cells, images, settings, device="cpu"):
    return fine_tune(factory(), ImageBank(images, device), cells, settings)


def test_separable_tasks_are_learned_and_the_table_is_in_form():
    table = tune(backbone, [(THREE, 0), (FIVE, 0), (MIXED, 1)], IMAGES, SETTINGS)
    assert list(table.columns) == [*RECORD_COLUMNS, "seconds", "n_test"]
    assert (table["value"] > 0.85).all()
    assert table["n_train"].tolist() == [24, 40, 24]
    assert table["seed"].tolist() == [0, 0, 1]
    assert set(table["protocol"]) == {"fine_tune"}
    assert (table["seconds"] > 0).all()


def test_each_cell_begins_from_the_pretrained_weights_and_repeats_exactly():
    short = FineTuneRecipe(shots=4, steps=2, batch=4)
    together = tune(backbone, [(FIVE, 0), (THREE, 0), (FIVE, 0)], IMAGES, short)
    assert together["value"][0] == together["value"][2]
    one, bank = backbone(), ImageBank(IMAGES)
    for _ in range(2):
        assert fine_tune(one, bank, [(THREE, 0)], short)["value"][0] == together["value"][1]
    assert all(
        torch.equal(a, b) for a, b in zip(one.network.parameters(), backbone().network.parameters(), strict=True)
    )


def test_images_of_another_size_are_resized():
    small = {"three": task_images("three", 3, size=16)}
    table = tune(lambda: backbone(size=32), [(THREE, 0)], small, SETTINGS)
    assert table["value"][0] > 0.85


def test_images_of_several_sizes_are_refused():
    mixed = {**IMAGES, "five": task_images("five", 5, size=16)}
    with pytest.raises(ValueError, match="one size"):
        tune(backbone, [(THREE, 0), (FIVE, 0)], mixed, SETTINGS)


def test_at_most_three_quarters_of_the_images_are_trained_on():
    table = tune(backbone, [(THREE, 0)], IMAGES, FineTuneRecipe(shots=50, steps=1, batch=4))
    assert table["n_train"][0] == 27


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_measures_what_a_cpu_does():
    cells = [(THREE, 0), (FIVE, 0), (MIXED, 0), (FIVE, 1)]
    cpu = tune(backbone, cells, IMAGES, SETTINGS)
    gpu = tune(backbone, cells, IMAGES, SETTINGS, "cuda")
    np.testing.assert_allclose(gpu["value"], cpu["value"], atol=0.1)


def test_seeds_choose_other_images():
    bank = ImageBank(IMAGES)
    (count, *first), (_, *again), (_, *others) = (draw_batches(THREE, seed, bank, SETTINGS) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], others[0])
    rows, labels = first[0].flatten(), first[1].flatten()
    assert (labels.numpy() == IMAGES["three"].train_labels[rows]).all()
    assert len(set(rows.tolist())) == count == 24
