"""Trained or not, by weights alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import load_file
from weights import fit_verdict

from thesis_rec.base.files import load_arrays
from thesis_rec.models.checkpoint_reader import read_state
from thesis_rec.models.model_extraction import vector_and_spectra
from thesis_rec.models.spectra import NAMES
from thesis_rec.models.training_verdict import READ, looks_untrained


def spectra(state):
    return vector_and_spectra(read_state(state, "m"))[1]


@pytest.mark.parametrize("name", ["resnet50", "vit_tiny_patch16_224", "convnext_atto"])
def test_networks_of_real_size_that_were_never_trained_are_found_out(name):
    torch.manual_seed(3)
    verdict = looks_untrained(spectra(timm.create_model(name).state_dict()))
    assert verdict.untrained
    assert verdict.probability > 0.5
    assert "look untrained" in verdict.reason


@pytest.mark.parametrize(
    ("model", "untrained"),
    [("resnet_a__all_known__1200", False), ("vit_b__all_known__1200", False), ("resnet_b__random__0", True)],
)
def test_the_embedded_zoo(project_dir, model, untrained):
    zoo = project_dir / "data" / "01_raw" / "starter"
    verdict = looks_untrained(spectra(load_file(zoo / "models" / model / "model.safetensors")))
    assert verdict.untrained is untrained
    assert ("look untrained" in verdict.reason) is untrained


def test_of_the_whole_zoo_nearly_all_are_told_by_their_weights(project_dir):
    zoo = project_dir / "data" / "01_raw" / "starter"
    arrays = load_arrays(zoo / "model_spectra.npz")
    manifest = pd.read_csv(zoo / "model_manifest.csv", dtype=str, keep_default_na=False).set_index("model_id")
    untrained = (manifest.loc[arrays["model_ids"], "pretraining"] == "random").to_numpy()
    found = np.array([looks_untrained(one).untrained for one in arrays["spectra"]])
    assert (found == untrained).mean() > 0.95
    assert found[untrained].mean() > 0.9


def test_a_checkpoint_without_a_body_says_nothing():
    assert looks_untrained(np.full(len(NAMES), np.nan)) is None


def test_the_regression_separates_what_differs():
    rng = np.random.default_rng(0)
    table = np.full((60, len(NAMES)), np.nan)
    columns = [NAMES.index(name) for name in READ]
    table[:30, columns] = 0.01 * rng.standard_normal((30, len(READ)))
    table[30:, columns] = 0.4 + 0.05 * rng.standard_normal((30, len(READ)))
    weights, constant = fit_verdict(table, [False] * 30 + [True] * 30)
    odds = np.log(np.abs(table[:, columns]) + 0.01) @ weights + constant
    assert (odds[:30] < 0).all()
    assert (odds[30:] > 0).all()
