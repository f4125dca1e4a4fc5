"""Which models a ranker is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.fabricated import N_MODELS, fabricated_bundle
from thesis_rec.models.auto_encoder import AutoEncoder, embed_vectors
from thesis_rec.recommendation.bundle import add_models, model_table, with_listed, with_measured


def test_models_need_a_row_and_an_embedding():
    manifest = pd.DataFrame({"model_id": ["b", "a", "x"], "family": ["f", "g", "h"]})
    embeddings = pd.DataFrame({"model_id": ["a", "b", "c"], "e0": np.float32([1, 2, 3])})
    names = np.array(["s/linear_probe", "t/linear_probe"])
    responses = {"responses": np.ones((1, 2)), "model_ids": np.array(["a"]), "names": names}
    table = with_measured(model_table(embeddings, manifest, {"a": 5.0}), responses)
    assert table.model_ids == ["b", "a"]
    assert table.embedding[:, 0].tolist() == [2, 1]
    assert table.n_parameters.tolist() == [0, 5]
    assert np.isnan(table.reference[0]).all()
    assert table.reference[1].tolist() == [1, 1]


def test_probes_on_subtasks_are_kept_apart():
    embeddings = pd.DataFrame({"model_id": ["a", "b"], "e0": np.float32([1, 2])})
    manifest = pd.DataFrame({"model_id": ["a", "b"], "family": ["f", "g"]})
    responses = {
        "responses": np.array([[0.1, 0.2, 0.3, 0.4]]),
        "model_ids": np.array(["b"]),
        "names": np.array(["t/linear_probe", "geometry/000", "reference_0000/subtask_probe", "features/sparsity"]),
    }
    table = with_measured(model_table(embeddings, manifest, {}), responses)
    np.testing.assert_allclose(table.reference[1], [0.1], rtol=1e-6)
    np.testing.assert_allclose(table.subtasks[1], [0.3], rtol=1e-6)
    assert np.isnan(table.subtasks[0]).all()
    assert table.select([1]).subtasks.shape == (1, 1)


@pytest.fixture(scope="module")
def autoencoder():
    """One that reads what weights show and 4 centroids."""
    config = {"n_inputs": 6, "hidden": (4,), "n_code": 8}
    return {"config": config, "network": AutoEncoder(**config).state_dict(), "input": "both"}


def listed(bundle, *names, models=None):
    """The models, and further ones that only the manifest lists."""
    last = bundle.manifest.tail(1)
    manifest = pd.concat([bundle.manifest, *(last.assign(model_id=name) for name in names)], ignore_index=True)
    return with_listed(models or bundle.models, manifest, {})


def vector(value=1.0):
    return {"parameters": np.full(4, value), "n_parameters": np.int64(7), "spectra": np.float32([np.nan, 2.0])}


def test_a_new_model_needs_only_its_vector(autoencoder):
    bundle = fabricated_bundle()
    vectors = {"new": vector, "m00": None}
    models, new, notes = add_models(listed(bundle, "new"), vectors, lambda: autoencoder)
    assert (new, notes) == (["new"], [])
    assert len(models) == N_MODELS + 1
    expected = embed_vectors(autoencoder, np.float32([[1, 1, 1, 1, 0, 2]]))
    np.testing.assert_array_equal(models.embedding[-1:], expected)
    assert models.n_parameters[-1] == 7
    assert add_models(bundle.models, {}, lambda: autoencoder) == (bundle.models, [], [])
    answered = replace(bundle.models, reference=np.zeros((N_MODELS, 3), dtype=np.float32))
    assert np.isnan(
        add_models(listed(bundle, "new", models=answered), vectors, lambda: autoencoder)[0].reference[-1]
    ).all()


def test_a_vector_that_can_t_be_read_is_a_note_and_the_others_are_embedded(autoencoder):
    bundle = fabricated_bundle()

    def damaged():
        raise OSError("new_b.npz is cut off")

    bare = {"parameters": np.ones(4), "n_parameters": np.int64(7)}
    vectors = {"a": damaged, "b": lambda: bare, "c": lambda: vector(3.0), "d": dict}
    models, new, notes = add_models(listed(bundle, "a", "b", "c", "d"), vectors, lambda: autoencoder)
    assert new == ["c"]
    assert np.isfinite(models.embedding).all(axis=1)[-4:].tolist() == [False, False, True, False]
    assert notes[0] == "The vector of your model a was left out: new_b.npz is cut off"
    assert notes[1].startswith("The vector of your model b was left out: Its vector comes without spectra. Extract it")
    assert "model d was left out: " in notes[2]
    before = listed(bundle, "a")
    alone, none, told = add_models(before, {"a": damaged}, lambda: autoencoder)
    assert (alone, none, len(told)) == (before, [], 1)


def test_the_autoencoder_is_read_only_where_a_model_is_new():
    """Reading it takes torch, and seconds of an answer."""
    bundle = fabricated_bundle()
    asked = []

    def damaged():
        asked.append("autoencoder")
        raise OSError("autoencoder.pt is damaged: restore it.")

    known = {bundle.models.model_ids[0]: lambda: vector(1.0)}
    assert add_models(bundle.models, known, damaged) == (bundle.models, [], [])
    assert not asked
    before = listed(bundle, "new")
    models, new, notes = add_models(before, {"new": lambda: vector(1.0)}, damaged)
    assert (models, new) == (before, [])
    assert notes == ["autoencoder.pt is damaged: restore it. Until then models added have no embedding."]
    assert add_models(before, {"new": lambda: vector(1.0)}, lambda: None) == (before, [], [])


def test_spectra_go_to_their_models_and_missing_numbers_count_as_random(autoencoder):
    bundle = fabricated_bundle()
    given = {"spectra": np.array([[1.0, np.nan], [3.0, 4.0]]), "model_ids": np.array(["m01", "unlisted"])}
    models = with_measured(bundle.models, given)
    row = models.model_ids.index("m01")
    assert models.spectra[row].tolist() == [1.0, 0.0]
    assert np.isnan(np.delete(models.spectra, row, axis=0)).all()
    assert models.select([row]).spectra.tolist() == [[1.0, 0.0]]
    # One's own are laid over what came with the zoo.
    again = with_measured(models, {"spectra": np.array([[5.0, 6.0]]), "model_ids": np.array(["m00"])})
    assert again.spectra[row].tolist() == [1.0, 0.0]
    assert again.spectra[again.model_ids.index("m00")].tolist() == [5.0, 6.0]
    assert with_measured(models, {}) is models
    joined = add_models(listed(bundle, "new", models=models), {"new": vector}, lambda: autoencoder)[0]
    assert joined.spectra[-1].tolist() == [0.0, 2.0]
    assert joined.spectra[row].tolist() == [1.0, 0.0]
