"""Copies and fine-tunes are near, independent trainings of the same architecture aren't."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from thesis_rec.base.files import load_arrays
from thesis_rec.models.checkpoint_reader import read_state
from thesis_rec.models.model_extraction import vector_and_spectra
from thesis_rec.models.training_verdict import RELATED, SAME, weight_distances

MODEL = "resnet_a__all_known__1200"


@pytest.fixture(scope="module")
def zoo(project_dir):
    folder = project_dir / "data" / "01_raw" / "starter"
    arrays = load_arrays(folder / "model_spectra.npz")
    state = load_file(folder / "models" / MODEL / "model.safetensors")
    return arrays["model_ids"].tolist(), arrays["spectra"].astype(float), state


def distances(zoo, change):
    """From the changed model to those of the zoo."""
    _, table, state = zoo
    spectra = vector_and_spectra(read_state({name: change(tensor) for name, tensor in state.items()}, "m"))[1]
    return weight_distances(spectra, np.nan_to_num(table), np.nanstd(table, axis=0))


def test_a_copy_in_another_precision_is_the_same_model(zoo):
    found = distances(zoo, lambda t: t.to(torch.bfloat16) if t.is_floating_point() else t)
    assert zoo[0][found.argmin()] == MODEL
    assert found.min() < SAME
    assert np.sort(found)[1] > RELATED


def test_small_moves_of_all_weights_are_a_fine_tune(zoo):
    generator = torch.Generator().manual_seed(0)

    def move(tensor):
        if not tensor.is_floating_point():
            return tensor
        return tensor + 0.1 * tensor.float().std() * torch.randn(tensor.shape, generator=generator).to(tensor.dtype)

    found = distances(zoo, move)
    assert zoo[0][found.argmin()] == MODEL
    assert SAME < found.min() < RELATED


def test_no_two_models_of_the_zoo_are_related_and_other_architectures_are_infinitely_far(zoo):
    ids, table, _ = zoo
    spread = np.nanstd(table, axis=0)
    table = np.nan_to_num(table)
    for row, model in enumerate(ids):
        found = weight_distances(table[row], table, spread)
        assert found[row] == 0
        assert np.delete(found, row).min() > RELATED
        other = [i for i, name in enumerate(ids) if name.split("_")[0] != model.split("_")[0]]
        assert np.isinf(found[other]).mean() > 0.8
    unread = np.full((1, table.shape[1]), np.nan)
    assert np.isinf(weight_distances(table[0], unread, spread)).all()
