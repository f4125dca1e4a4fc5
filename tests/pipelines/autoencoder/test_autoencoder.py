"""The pipeline autoencoder on a fabricated zoo."""

import numpy as np
import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from thesis_rec import settings
from thesis_rec.catalog import validators
from thesis_rec.pipelines.autoencoder.nodes import AutoencoderParameters
from thesis_rec.pipelines.autoencoder.pipeline import create_pipeline
from thesis_rec.training.fit import fingerprint


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, project_dir):
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        # The real entries of the catalog, written to a folder of the test.
        patch.setenv("THESIS_REC_TEST_ROOT", str(root))
        loader = OmegaConfigLoader(str(project_dir / "conf"), env="test", **settings.CONFIG_LOADER_ARGS)
        entries = loader["catalog"]
    rng = np.random.default_rng(0)
    ids = [f"model/{i}" for i in range(12)]
    vectors = {model: rng.normal(size=8192).astype(np.float32) for model in ids}
    parameters = AutoencoderParameters.model_validate(
        {
            "network": {"hidden": [8]},
            "fit": {"epochs": 2, "batch_size": 4, "accelerator": "cpu"},
            "runs_folder": str(root / "06_models" / "runs"),
        }
    )
    manifest = pd.DataFrame({"model_id": ids[:-1], "family": ["conv"] * 6 + ["vit"] * 5})
    catalog = DataCatalog.from_config({name: entries[name] for name in create_pipeline().all_outputs()})
    fabricated = {
        "model_vectors": MemoryDataset(
            {
                model: (lambda vector=vector: {"parameters": vector, "spectra": vector[:212]})
                for model, vector in vectors.items()
            },
            copy_mode="assign",
        ),
        "model_manifest": MemoryDataset(manifest),
        "zoo_sides": MemoryDataset({"model_families": ["vit"], "model_ids": []}),
        "params:autoencoder": MemoryDataset(parameters, copy_mode="assign"),
    }
    for name, dataset in fabricated.items():
        catalog[name] = dataset
    SequentialRunner().run(create_pipeline(), catalog)
    readable = create_pipeline().all_outputs() - {"autoencoder_loss_plot"}
    assert (root / "08_reporting" / "autoencoder_loss.png").read_bytes().startswith(b"\x89PNG")
    return {name: catalog.load(name) for name in readable}


def test_every_model_of_the_manifest_is_embedded(outputs):
    table = outputs["model_embeddings"]
    validators.validate_model_embeddings(table)
    assert table.shape == (11, 513)
    assert list(table.columns[:3]) == ["model_id", "e000", "e001"]
    checkpoint = outputs["autoencoder_checkpoint"]
    assert table.attrs == {"autoencoder_id": checkpoint["autoencoder_id"]}
    assert fingerprint(checkpoint["network"])[:16] == checkpoint["autoencoder_id"]
    moved = {name: tensor + 1e-6 * (name == "mean") for name, tensor in checkpoint["network"].items()}
    assert fingerprint(moved)[:16] != checkpoint["autoencoder_id"]


def test_the_checkpoint_and_its_history_agree(outputs):
    validators.validate_checkpoint(outputs["autoencoder_checkpoint"])
    assert outputs["autoencoder_checkpoint"]["history"] == outputs["autoencoder_history"]
    assert len(outputs["autoencoder_history"]) == 2


def test_unknown_families_are_not_trained_on_but_evaluated(outputs):
    checkpoint = outputs["autoencoder_checkpoint"]
    assert checkpoint["input"] == "spectra"
    assert checkpoint["config"]["n_inputs"] == 212
    assert len(checkpoint["train_ids"]) + len(checkpoint["validation_ids"]) == 6
    assert outputs["autoencoder_evaluation"]["roles"]["unknown"]["n"] == 5


def test_the_map_is_a_figure(outputs):
    validators.validate_figure(outputs["embedding_map"])
    names = {trace.name for trace in outputs["embedding_map"].data}
    assert {name.split(", ")[0] for name in names} == {"conv", "vit"}
    assert "unknown" in {name.split(", ")[1] for name in names}
