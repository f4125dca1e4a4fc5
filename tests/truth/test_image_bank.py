"""Features of all images, in batches that fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.truth.conftest import REFERENCE, SETTINGS, TASKS, make_backbone
from thesis_rec.base.tables import TaskImages
from thesis_rec.truth import cells
from thesis_rec.truth.cells import ImageBank, measure_model


def test_one_bank_serves_models_of_any_width(images: dict[str, TaskImages]) -> None:
    bank = ImageBank(images)
    for width in (3, 12, 40):
        backbone = make_backbone(width=width)
        shared = measure_model(backbone, bank, TASKS, REFERENCE, SETTINGS)
        alone = measure_model(backbone, ImageBank(images), TASKS, REFERENCE, SETTINGS)
        np.testing.assert_allclose(shared.records["value"], alone.records["value"])
        np.testing.assert_allclose(shared.responses, alone.responses, rtol=1e-5)


def test_a_full_memory_halves_the_batch(images: dict[str, TaskImages]) -> None:
    backbone = make_backbone()
    sizes: list[int] = []

    def small_only(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 40:
            raise torch.OutOfMemoryError("too much")
        return backbone.network(x)

    limited = dataclasses.replace(backbone, features=small_only)
    settings = SETTINGS.model_copy(update={"batch_size": 100})
    found = measure_model(limited, ImageBank(images), TASKS, [], settings)
    expected = measure_model(backbone, ImageBank(images), TASKS, [], settings)
    np.testing.assert_allclose(found.records["value"], expected.records["value"])
    assert sizes[0] > 40
    assert max(sizes[2:]) <= 50


def test_large_images_come_in_batches_of_as_many_pixels_whatever_the_network(
    images: dict[str, TaskImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, sizes = make_backbone(), list[int]()
    side = next(iter(images.values())).train_images.shape[1]
    monkeypatch.setattr(cells, "_FLOAT_PIXELS", 7 * side**2)
    watched = dataclasses.replace(backbone, features=lambda x: sizes.append(len(x)) or backbone.network(x))
    found, _ = ImageBank(images).features(watched, 100)
    assert max(sizes) == 7
    assert len(found) == sum(sizes)
