from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.fabricated import N_MODELS, fabricated_bundle
from thesis_rec.bundle import (
    ResidualCovariance,
    add_models,
    extend_covariance,
    mean_performance,
    model_table,
    pack_tokens,
    read_bundle,
    residuals,
    unpack_tokens,
    write_bundle,
)
from thesis_rec.errors import ConfigurationError


def test_a_bundle_survives_its_folder(tmp_path):
    ranker = {"weights": torch.arange(3.0), "members": [{"matrix": torch.ones(2, 2)}]}
    bundle = replace(fabricated_bundle(), ranker=ranker)
    write_bundle(bundle, tmp_path / "bundle", autoencoder={"encoder": torch.ones(2)})
    stored = read_bundle(tmp_path / "bundle")
    models = stored.model_table(bundle.manifest)
    assert models.model_ids == bundle.models.model_ids
    assert models.families == bundle.models.families
    np.testing.assert_allclose(models.embedding, bundle.models.embedding, atol=2e-3)
    np.testing.assert_array_equal(models.n_parameters, bundle.models.n_parameters)
    assert models.responses is None
    assert torch.equal(stored.ranker["weights"], torch.arange(3.0))
    assert stored.ranker["members"][0]["matrix"].dtype is torch.float16
    assert torch.equal(stored.autoencoder["encoder"], torch.ones(2))
    np.testing.assert_allclose(stored.covariance.matrix, bundle.covariance.matrix, rtol=1e-6)
    pd.testing.assert_frame_equal(stored.performance, bundle.performance, check_dtype=False, rtol=1e-6)
    cosine = (stored.tokens["d2"].features * bundle.tokens["d2"].features).sum(-1)
    assert cosine.min() > 1 - 1e-3
    assert not [path for path in (tmp_path / "bundle").iterdir() if path.name.startswith(".")]


def test_a_missing_bundle_says_what_to_run(tmp_path):
    with pytest.raises(ConfigurationError, match=r"lacks models\.npz.*kedro run"):
        read_bundle(tmp_path)


def test_tokens_of_different_shapes_are_packed_together():
    bundle = fabricated_bundle()
    tokens = {"a": bundle.tokens["d0"], "b": bundle.tokens["d1"].select_classes([1], "b")}
    tokens["a"] = replace(tokens["a"], dataset_id="a")
    found = unpack_tokens(pack_tokens(tokens))
    assert found["b"].features.shape == (3, 1, 16)
    assert found["b"].class_names == ["c1"]
    np.testing.assert_allclose(np.linalg.norm(found["a"].features, axis=-1), 1.0, rtol=1e-6)
    assert unpack_tokens(pack_tokens({})) == {}


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


def test_a_new_model_needs_only_its_vector():
    bundle = fabricated_bundle()
    manifest = pd.concat([bundle.manifest, bundle.manifest.tail(1).assign(model_id="new")], ignore_index=True)
    vectors = {"new": lambda: {"parameters": np.full(4, 2.0), "n_parameters": np.int64(7)}, "m00": None}
    models, new = add_models(bundle.models, manifest, vectors, lambda x: np.tile(x[:, :1], (1, 8)))
    assert new == ["new"]
    assert len(models) == N_MODELS + 1
    assert models.embedding[-1].tolist() == [2.0] * 8
    assert models.n_parameters[-1] == 7
    same, none = add_models(bundle.models, bundle.manifest, {}, lambda x: x)
    assert same is bundle.models
    assert none == []
    answered = replace(bundle.models, responses=np.zeros((N_MODELS, 3), dtype=np.float32))
    assert np.isnan(add_models(answered, manifest, vectors, lambda x: np.ones((1, 8)))[0].responses[-1]).all()


def test_repeats_are_averaged_per_protocol():
    records = pd.DataFrame({
        "model_id": "m", "dataset_id": ["d", "d", "d", "e"], "value": [0.2, 0.4, 0.9, 0.5],
        "protocol": ["linear_probe", "linear_probe", "fine_tune", "linear_probe"],
    })  # fmt: skip
    found = mean_performance(records).set_index("dataset_id")["value"]
    assert found.to_dict() == pytest.approx({"d": 0.3, "e": 0.5})


def test_covariance_reaches_unmeasured_models():
    bundle = fabricated_bundle()
    known = ResidualCovariance(bundle.covariance.model_ids[:-2], bundle.covariance.matrix[:-2, :-2])
    # The last model is a copy of the first: their errors must go together more than with others.
    embedding = bundle.models.embedding.copy()
    embedding[-1] = embedding[0] + 1e-3
    models = replace(bundle.models, embedding=embedding)
    found = extend_covariance(known, models)
    np.testing.assert_allclose(found[:-2, :-2], known.matrix, atol=1e-12)
    assert np.linalg.eigvalsh(found).min() > -1e-10
    scale = np.sqrt(np.diagonal(found))
    correlation = found / scale[:, None] / scale[None, :]
    assert correlation[-1, :-1].argmax() == 0
    assert found[-1, -1] >= np.diagonal(known.matrix).mean() * 0.99
    stranger = ResidualCovariance(["x"], np.array([[0.25]]))
    np.testing.assert_array_equal(extend_covariance(stranger, models), 0.25 * np.eye(N_MODELS))


def test_residuals_are_truth_minus_prediction():
    performance = pd.DataFrame({"model_id": ["a", "b", "a"], "dataset_id": ["x", "x", "y"], "value": [0.5, 0.6, 0.7]})
    found = residuals({"x": np.array([0.4, 0.4]), "y": np.array([0.4, 0.4])}, performance, ["a", "b"])
    np.testing.assert_allclose(found, [[0.1, 0.2], [0.3, np.nan]])
