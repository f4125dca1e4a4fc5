"""Which models a ranker is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from tests.fabricated import N_MODELS, fabricated_bundle
from thesis_rec.recommendation.bundle import add_models, model_table, with_spectra


def test_models_need_a_row_and_an_embedding():
    manifest = pd.DataFrame({"model_id": ["b", "a", "x"], "family": ["f", "g", "h"]})
    embeddings = pd.DataFrame({"model_id": ["a", "b", "c"], "e0": np.float32([1, 2, 3])})
    responses = {"responses": np.ones((1, 2)), "model_ids": np.array(["a"])}
    table = model_table(embeddings, manifest, {"a": 5.0}, responses)
    assert table.model_ids == ["b", "a"]
    assert table.embedding[:, 0].tolist() == [2, 1]
    assert table.n_parameters.tolist() == [0, 5]
    assert np.isnan(table.responses[0]).all()
    assert table.responses[1].tolist() == [1, 1]


def test_probes_on_subtasks_are_kept_apart():
    embeddings = pd.DataFrame({"model_id": ["a", "b"], "e0": np.float32([1, 2])})
    manifest = pd.DataFrame({"model_id": ["a", "b"], "family": ["f", "g"]})
    responses = {
        "responses": np.array([[0.1, 0.2, 0.3, 0.4]]),
        "model_ids": np.array(["b"]),
        "names": np.array(["t/linear_probe", "geometry/000", "reference_0000/subtask_probe", "features/sparsity"]),
    }
    table = model_table(embeddings, manifest, {}, responses)
    np.testing.assert_allclose(table.responses[1], [0.1, 0.2, 0.4], rtol=1e-6)
    np.testing.assert_allclose(table.reference[1], [0.1], rtol=1e-6)
    np.testing.assert_allclose(table.subtasks[1], [0.3], rtol=1e-6)
    assert np.isnan(table.subtasks[0]).all()
    assert table.select([1]).subtasks.shape == (1, 1)


def test_a_new_model_needs_only_its_vector():
    bundle = fabricated_bundle()
    manifest = pd.concat([bundle.manifest, bundle.manifest.tail(1).assign(model_id="new")], ignore_index=True)
    vectors = {"new": lambda: {"parameters": np.full(4, 2.0), "n_parameters": np.int64(7)}, "m00": None}
    models, new = add_models(
        bundle.models,
        manifest,
        vectors,
        lambda read, _: np.tile(np.stack([item["parameters"][:1] for item in read]), (1, 8)),
    )
    assert new == ["new"]
    assert len(models) == N_MODELS + 1
    assert models.embedding[-1].tolist() == [2.0] * 8
    assert models.n_parameters[-1] == 7
    same, none = add_models(bundle.models, bundle.manifest, {}, lambda read, ids: np.zeros((0, 8)))
    assert same is bundle.models
    assert none == []
    answered = replace(bundle.models, responses=np.zeros((N_MODELS, 3), dtype=np.float32))
    assert np.isnan(add_models(answered, manifest, vectors, lambda read, ids: np.ones((1, 8)))[0].responses[-1]).all()


def test_spectra_go_to_their_models_and_missing_numbers_count_as_random():
    bundle = fabricated_bundle()
    given = {"spectra": np.array([[1.0, np.nan], [3.0, 4.0]]), "model_ids": np.array(["m01", "unlisted"])}
    models = with_spectra(bundle.models, given)
    row = models.model_ids.index("m01")
    assert models.spectra[row].tolist() == [1.0, 0.0]
    assert np.isnan(np.delete(models.spectra, row, axis=0)).all()
    assert models.select([row]).spectra.tolist() == [[1.0, 0.0]]
    # One's own are laid over what came with the zoo.
    again = with_spectra(models, {"spectra": np.array([[5.0, 6.0]]), "model_ids": np.array(["m00"])})
    assert again.spectra[row].tolist() == [1.0, 0.0]
    assert again.spectra[again.model_ids.index("m00")].tolist() == [5.0, 6.0]
    assert with_spectra(models, {}) is models
    manifest = pd.concat([bundle.manifest, bundle.manifest.tail(1).assign(model_id="new")], ignore_index=True)
    read = {"parameters": np.ones(4), "n_parameters": np.int64(7), "spectra": np.float32([np.nan, 2.0])}
    joined, _ = add_models(models, manifest, {"new": lambda: read}, lambda read, ids: np.ones((1, 8)))
    assert joined.spectra[-1].tolist() == [0.0, 2.0]
    assert joined.spectra[row].tolist() == [1.0, 0.0]
