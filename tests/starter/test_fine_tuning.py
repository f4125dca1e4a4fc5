"""Fine-tuning of many: what one cell after another gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.truth.small_tasks import FIVE, IMAGES, MIXED, SETTINGS, THREE, backbone
from thesis_rec.starter.fine_tuning import FineTuner
from thesis_rec.truth.fine_tune import fine_tune
from thesis_rec.truth.image_bank import ImageBank

CELLS = [(THREE, 0), (FIVE, 0), (MIXED, 0), (FIVE, 1)]


def test_copies_measure_what_one_cell_after_another_does_and_repeat_exactly():
    bank = ImageBank(IMAGES)
    one = fine_tune(backbone(), bank, CELLS, SETTINGS)
    tuner = FineTuner(backbone, bank, 5, SETTINGS)
    for _ in range(2):
        many = tuner.measure(CELLS)
        assert many.columns.tolist() == one.columns.tolist()
        assert many.drop(columns=["value", "seconds"]).equals(one.drop(columns=["value", "seconds"]))
        np.testing.assert_allclose(many["value"], one["value"], atol=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_measures_what_a_cpu_does():
    cpu = FineTuner(backbone, ImageBank(IMAGES), 5, SETTINGS).measure(CELLS)
    tuner = FineTuner(backbone, ImageBank(IMAGES, "cuda"), 5, SETTINGS, slots=3)
    for _ in range(2):
        np.testing.assert_allclose(tuner.measure(CELLS)["value"], cpu["value"], atol=0.1)
