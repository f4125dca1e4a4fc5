"""The pipeline import_artefacts: what can be read comes in, what can't is listed."""

import json

import numpy as np
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from tests.contracts import validate_performance_records
from thesis_rec.base.errors import ConfigurationError, NothingSucceeded
from thesis_rec.catalog.validators import validate_model_embeddings
from thesis_rec.pipelines.import_artefacts.nodes import ImportArtefactsParameters, import_artefacts
from thesis_rec.pipelines.import_artefacts.pipeline import create_pipeline

OUTPUTS = (
    "imported_records", "imported_vectors", "imported_embeddings", "imported_tokens", "imported_autoencoder",
    "imported_scores", "import_failures",
)  # fmt: skip


class Kept(MemoryDataset):
    def _release(self):
        pass


def run(**parameters):
    catalog = DataCatalog({name: Kept(copy_mode="assign") for name in OUTPUTS})
    catalog["params:import_artefacts"] = MemoryDataset(ImportArtefactsParameters(**parameters), copy_mode="assign")
    SequentialRunner().run(create_pipeline(), catalog)
    return catalog


@pytest.fixture
def files(tmp_path):
    (tmp_path / "wide.csv").write_text("m,d1,d2\na,0.5,0.6\n")
    (tmp_path / "results-imagenet.csv").write_text("model,top1\nvit,80.0\n")
    (tmp_path / "p.json").write_text(json.dumps({"mnist": {"m1": 0.9}}))
    (tmp_path / "s.json").write_text(json.dumps({"mnist": {"svhn": 0.5}}))
    (tmp_path / "records.csv").write_text("model,finetuned_dataset,eval_accuracy\nx,pets,0.7\n")
    (tmp_path / "arrays").mkdir()
    np.savez(tmp_path / "arrays" / "m1.npz", parameters=np.ones(8192), embedding=np.ones(512))
    return tmp_path


def test_everything_at_once(files):
    catalog = run(
        arrays=str(files / "arrays"), thesis_performance=str(files / "p.json"), thesis_similarity=str(files / "s.json"),
        transfergraph=str(files / "records.csv"), timm_results=(str(files / "results-imagenet.csv"),),
        wide_tables=(str(files / "wide.csv"),),
    )  # fmt: skip
    records = catalog.load("imported_records")
    validate_performance_records(records)
    validate_model_embeddings(catalog.load("imported_embeddings"))
    assert set(records["protocol"]) == {
        "imported:thesis", "proxy", "imported:transfergraph", "imported:timm", "imported:wide",
    }  # fmt: skip
    assert set(catalog.load("imported_vectors")) == {"m1"}
    assert catalog.load("import_failures").empty


def test_one_bad_file_is_listed_and_the_rest_comes_in(files):
    catalog = run(wide_tables=(str(files / "wide.csv"), str(files / "absent.csv")), arrays=str(files / "nothing"))
    assert len(catalog.load("imported_records")) == 2
    failures = catalog.load("import_failures")
    assert len(failures) == 2
    assert failures["item"].str.contains("absent").any()


def test_every_knob_takes_one_path_or_a_list(files):
    (files / "q.json").write_text(json.dumps({"svhn": {"m2": 0.8}}))
    (files / "more").mkdir()
    np.savez(files / "more" / "m2.npz", embedding=np.ones(512))
    np.savez(files / "arrays" / "short.npz", parameters=np.ones(8192))
    (files / "other").mkdir()
    np.savez(files / "other" / "m3.npz", embedding=np.ones(7))
    catalog = run(
        arrays=[str(files / name) for name in ("arrays", "more", "other")], wide_tables=str(files / "wide.csv"),
        thesis_performance=[str(files / "p.json"), str(files / "q.json")], transfergraph=[str(files / "records.csv")],
    )  # fmt: skip
    assert set(catalog.load("imported_vectors")) == {"m1", "short"}
    assert set(catalog.load("imported_embeddings")["model_id"]) == {"m1", "m2"}
    records = catalog.load("imported_records")
    assert set(records.loc[records["protocol"] == "imported:thesis", "model_id"]) == {"m1", "m2"}
    failures = catalog.load("import_failures")
    assert failures["item"].tolist() == [str(files / "other")]
    assert "7 numbers, earlier ones 512" in failures["error"].item()
    with pytest.raises(ValueError, match="thesis_similarity names 1 files, thesis_performance 2"):
        ImportArtefactsParameters(thesis_performance=["a", "b"], thesis_similarity="c")


def test_nothing_at_all_is_an_error(files):
    with pytest.raises(NothingSucceeded, match="none succeeded"):
        run(wide_tables=(str(files / "absent.csv"),))
    with pytest.raises(NothingSucceeded):
        run(wide_tables=(str(files / "wide.csv"), str(files / "absent.csv")), strict=True)
    with pytest.raises(ConfigurationError, match="nothing to import"):
        import_artefacts(ImportArtefactsParameters())


def test_networks_of_the_thesis_code(files):
    import torch

    from tests.thesis.test_thesis_networks import TestAutoencoder, TestTransformer

    np.savez(files / "arrays" / "m1.npz", parameters=np.random.default_rng(0).normal(size=8192))
    np.savez(files / "arrays" / "m2.npz", parameters=np.random.default_rng(1).normal(size=8192))
    np.savez(files / "arrays" / "mnist.npz", features=np.random.default_rng(2).normal(size=(2, 4, 5)))
    layers = torch.nn.ModuleDict({"encoder": torch.nn.Sequential(torch.nn.Linear(8192, 6))})
    torch.save(layers.state_dict(), files / "autoencoder.pt")
    torch.save(TestTransformer.state("similarity"), files / "transformer.pt")
    networks = {"thesis_autoencoder": str(files / "autoencoder.pt"), "thesis_heads": 2}
    catalog = run(arrays=str(files / "arrays"), thesis_transformer=str(files / "transformer.pt"), **networks)
    assert catalog.load("import_failures").empty
    assert catalog.load("imported_embeddings").shape == (2, 7)
    assert catalog.load("imported_scores")["rank"].tolist() in ([1, 2], [2, 1])
    assert catalog.load("imported_autoencoder")["config"]["n_code"] == 6
    torch.save(TestAutoencoder.network(0.0).state_dict(), files / "autoencoder.pt")
    catalog = run(arrays=str(files / "arrays"), **networks)
    assert catalog.load("import_failures")["error"].str.contains("takes vectors of 8").all()
