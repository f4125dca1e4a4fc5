"""A bundle survives its folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.fabricated import fabricated_bundle
from tests.world import selection
from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.knowledge.posterior import Cell
from thesis_rec.recommendation.bundle import pack_tokens, read_bundle, unpack_tokens, with_listed, write_bundle


def test_a_bundle_survives_its_folder(tmp_path):
    bundle = fabricated_bundle()
    write_bundle(bundle, tmp_path / "bundle", autoencoder={"encoder": torch.ones(2)})
    stored = read_bundle(tmp_path / "bundle")
    models = with_listed(stored.models, bundle.manifest, {})
    assert models.model_ids == bundle.models.model_ids
    assert models.families == bundle.models.families
    np.testing.assert_allclose(models.embedding, bundle.models.embedding, atol=2e-3)
    np.testing.assert_array_equal(models.n_parameters, bundle.models.n_parameters)
    assert models.reference is None
    assert torch.equal(stored.autoencoder()["encoder"], torch.ones(2))
    mine, again = (k.posterior(models, bundle.tokens["d0"]) for k in (bundle.knowledge, stored.knowledge))
    np.testing.assert_allclose(again.value(), mine.value(), atol=1e-6)
    pd.testing.assert_frame_equal(stored.performance, bundle.performance, check_dtype=False, rtol=1e-6)
    cosine = (stored.tokens["d2"].features * bundle.tokens["d2"].features).sum(-1)
    assert cosine.min() > 1 - 1e-3
    assert not [path for path in (tmp_path / "bundle").iterdir() if path.name.startswith(".")]


def test_what_was_measured_of_models_survives(tmp_path):
    bundle = fabricated_bundle()
    rng = np.random.default_rng(0)
    widths = {"reference": 4, "subtasks": 6}
    measured = {name: rng.random((len(bundle.models), n)).astype(np.float32) for name, n in widths.items()}
    write_bundle(replace(bundle, models=replace(bundle.models, **measured)), tmp_path)
    listed = bundle.manifest.iloc[::-1]
    models = with_listed(read_bundle(tmp_path).models, listed, {})
    for name, values in measured.items():
        np.testing.assert_allclose(getattr(models, name), values[::-1], atol=1e-3)


def test_a_missing_bundle_says_what_to_run(tmp_path):
    with pytest.raises(ConfigurationError, match=r"knowledge\.npz, models\.npz.*--pipelines=similarity_training"):
        read_bundle(tmp_path)


def test_missing_published_knowledge_says_what_makes_it(tmp_path):
    (tmp_path / "domains.npz").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"lacks knowledge\.npz\. .*--pipelines=published"):
        read_bundle(tmp_path / "bundle")


def test_tables_that_were_missing_when_it_was_learned_are_told(tmp_path, project_dir):
    """One failing source left a bundle that knows a fraction of the models, and nothing said so."""
    shutil.copytree(project_dir / "data" / "01_raw" / "hub" / "bundle", tmp_path / "bundle")
    assert read_bundle(tmp_path / "bundle").notes == ()
    provenance = tmp_path / "bundle" / "PROVENANCE.json"
    provenance.write_text(
        json.dumps({**json.loads(provenance.read_text()), "missing": {"timm": "a.csv doesn't exist"}})
    )
    (note,) = read_bundle(tmp_path / "bundle").notes
    assert note.startswith("The published figures of timm couldn't be read when this was learned")
    (tmp_path / "bundle" / "PROVENANCE.json").unlink()
    assert read_bundle(tmp_path / "bundle").notes == ()


@pytest.mark.parametrize("name", ["knowledge.npz", "models.npz", "dataset_tokens.npz", "performance.parquet"])
def test_a_truncated_file_is_one_line_that_names_it(tmp_path, name):
    write_bundle(fabricated_bundle(), tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ConfigurationError) as caught:
        read_bundle(tmp_path)
    assert str(caught.value).startswith(f"{path} is damaged (")
    assert "Restore it" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tokens_of_different_shapes_are_packed_together():
    bundle = fabricated_bundle()
    tokens = {"a": bundle.tokens["d0"], "b": selection([(bundle.tokens["d1"], 1)], "b")}
    tokens["a"] = replace(tokens["a"], dataset_id="a")
    found = unpack_tokens(pack_tokens(tokens))
    assert found["b"].features.shape == (3, 1, 16)
    assert found["b"].class_names == ["c1"]
    np.testing.assert_allclose(np.linalg.norm(found["a"].features, axis=-1), 1.0, rtol=1e-6)
    assert unpack_tokens(pack_tokens({})) == {}


def test_in_a_zoo_of_which_nothing_was_published_a_model_could_be_any_published_one(project_dir):
    """It was expected nowhere, and stood in the answer without a value; a try tells of it."""
    knowledge = read_bundle(project_dir / "data" / "01_raw" / "hub" / "bundle").knowledge
    task = TaskTokens("mine", np.zeros((0, 10, 0), np.float32), [str(c) for c in range(10)], 100)
    models = ModelTable(["mine/a", "mine/b"], np.zeros((2, 0), np.float32), ["", ""], np.zeros(2))
    everyone = knowledge.published.posterior(knowledge.published.model_ids, "linear_probe", 10)
    belief = knowledge.posterior(models, task)
    assert belief.model_ids == ["mine/a", "mine/b"]
    np.testing.assert_allclose(belief.mean, everyone.mean.mean())
    assert (belief.std > everyone.std.mean()).all()
    tried = knowledge.posterior(models, task).given([Cell("mine/a", 0.9, 0.01)])
    assert tried.value()[0] == pytest.approx(0.9, abs=0.02)
