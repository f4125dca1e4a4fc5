"""What is said of models by their weights alone: relatives by name, and whether they were trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from thesis_rec.base.files import load_arrays
from thesis_rec.base.tables import ModelTable
from thesis_rec.models.spectra import NAMES
from thesis_rec.models.training_verdict import READ, weight_distances
from thesis_rec.recommendation.by_weights import told_by_weights

ORIGINAL = 5


@pytest.fixture(scope="module")
def shipped(project_dir) -> ModelTable:
    arrays = load_arrays(project_dir / "data" / "01_raw" / "starter" / "model_spectra.npz")
    ids, spectra = arrays["model_ids"].tolist(), np.nan_to_num(arrays["spectra"].astype(float))
    none = np.zeros((len(ids), 1), np.float32)
    return ModelTable(ids, none, [""] * len(ids), np.ones(len(ids)), spectra=spectra)


def with_one_more(shipped: ModelTable, spectra: np.ndarray) -> ModelTable:
    """The shipped models and ``new``, of which only the weights are known."""
    return ModelTable(
        [*shipped.model_ids, "new"],
        np.vstack([shipped.embedding, [[0.0]]]),
        [*shipped.families, ""],
        np.append(shipped.n_parameters, 1.0),
        spectra=np.vstack([shipped.spectra, spectra]),
    )


def at_distance(shipped: ModelTable, distance: float) -> np.ndarray:
    """The weights of the original, its first layer and body moved by so many standard deviations."""
    spread = shipped.spectra.std(0)
    moved = [name.startswith(("stem.", "body.")) for name in NAMES]
    found = shipped.spectra[ORIGINAL] + np.where(moved, distance * spread, 0.0)
    assert weight_distances(found, shipped.spectra, spread)[ORIGINAL] <= distance * 1.001
    return found


@pytest.mark.parametrize(
    ("distance", "sentence"),
    [
        (0.0, "Its weights are those of {}."),
        (0.1, "Its weights are near those of {}: one is a fine-tune of the other, or both of a third."),
        (5.0, None),
    ],
)
def test_a_relative_is_named_and_a_stranger_is_not(shipped, distance, sentence):
    models = with_one_more(shipped, at_distance(shipped, distance))
    told, notes = told_by_weights(models, set(shipped.model_ids))
    # Of models that were measured nothing is said.
    assert list(told) == ["new"]
    assert told["new"][0].startswith("Its weights look trained")
    assert told["new"][1:] == ([] if sentence is None else [sentence.format(shipped.model_ids[ORIGINAL])])
    assert notes == []


@pytest.mark.parametrize(("measured", "sentences"), [(19, 1), (20, 2)])
def test_a_few_models_do_not_say_how_far_apart_models_are(shipped, measured, sentences):
    models = with_one_more(shipped.select(np.arange(measured)), at_distance(shipped, 0.0))
    told, _ = told_by_weights(models, set(models.model_ids[:measured]))
    assert len(told["new"]) == sentences


def test_of_untrained_weights_no_relative_is_named(shipped):
    untrained = shipped.spectra[ORIGINAL].copy()
    untrained[[NAMES.index(name) for name in READ]] = 1e-6
    models = with_one_more(shipped, untrained)
    twin = replace(models, spectra=np.vstack([models.spectra[:ORIGINAL], [untrained], models.spectra[ORIGINAL + 1 :]]))
    told, notes = told_by_weights(twin, set(shipped.model_ids))
    assert told["new"][0].startswith("Its weights look untrained")
    assert len(told["new"]) == 1
    assert notes == ["By its weights alone this looks untrained, and is placed as such: new."]
