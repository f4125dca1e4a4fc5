from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from kedro.io import AbstractDataset, DataCatalog, DatasetError, MemoryDataset
from kedro.runner import SequentialRunner
from tests.contracts import validate_recommendation
from tests.fabricated import DEVICE, N_MODELS, fabricated_bundle
from tests.recommendation.test_assembly import datasets, own_artefacts
from tests.recommendation.test_trying import save_images

from thesis_rec.catalog import AtomicParquetDataset, KeyedPartitionDataset, NPZDataset
from thesis_rec.catalog.validators import validate_json, validate_text
from thesis_rec.pipelines.recommendation.artefacts import ArtefactsDataset
from thesis_rec.pipelines.recommendation.nodes import RecommendationParameters, recommend_models
from thesis_rec.pipelines.recommendation.pipeline import create_pipeline
from thesis_rec.recommendation.bundle import NEEDED, assemble, write_bundle


@pytest.fixture(scope="module")
def bundle():
    return fabricated_bundle()


def parameters(**changes):
    arguments = {
        "encoder": {"kind": "timm", "source": "nowhere"}, "models_root": ".", "hub_cache": ".", "dataset": "d1",
        "device": DEVICE, "max_latency_ms": 4.0, "measure": False,
    }  # fmt: skip
    return RecommendationParameters(**{**arguments, **changes})


def run(pipeline, **inputs):
    catalog = DataCatalog({name: MemoryDataset(data, copy_mode="assign") for name, data in inputs.items()})
    outputs = SequentialRunner().run(pipeline, catalog)
    return {name: dataset.load() for name, dataset in outputs.items()}


def test_the_pipeline_answers_with_the_artefacts_of_its_run(bundle):
    artefacts = own_artefacts(bundle)
    artefacts.pop("stored")
    artefacts |= {"model_responses": {}, "model_spectra": {}}
    results = run(
        create_pipeline(own=True),
        model_manifest=bundle.manifest,
        dataset_manifest=datasets(bundle),
        **{"params:recommendation": parameters()},
        **artefacts,
    )
    table = results["recommendation"]
    validate_recommendation(table)
    assert 0 < len(table) < N_MODELS
    assert table["latency_ms"].max() <= 4.0
    validate_json(results["recommendation_answer"])
    validate_text(results["recommendation_report"])
    assert results["recommendation_answer"]["dataset"]["dataset_id"] == "d1"
    assert "Which model for" in results["recommendation_report"]


def test_only_the_wiring_of_artefacts_differs():
    own, alone = create_pipeline(own=True), create_pipeline()
    assert own.outputs() == alone.outputs() == {"recommendation", "recommendation_answer", "recommendation_report"}
    assert "knowledge" in own.inputs()
    assert "recommendation_artefacts" in alone.inputs()


def test_images_are_probed_when_asked_for(bundle, tmp_path, monkeypatch):
    import thesis_rec.recommendation.asking as asking
    import thesis_rec.recommendation.trying as trying
    from thesis_rec.recommendation.request import Asked, image_row

    folder = save_images(tmp_path / "mine")
    images = Asked(image_row(folder), replace(bundle.tokens["d0"], dataset_id="mine"), 40, notes=("a note",))
    monkeypatch.setattr(asking, "read_images", lambda source, encoder, request: images)
    monkeypatch.setattr(trying, "linear_prober", lambda images, device, load: lambda model: 0.5)
    table, answer, _ = recommend_models(bundle, parameters(images=str(folder), probe=3))
    assert table["probed_value"].notna().sum() == 3
    assert "a note" in answer["notes"]


def own_datasets(bundle, folder):
    """One's own artefacts on disk, as entries of a catalog."""
    artefacts = own_artefacts(bundle)
    tables = ("model_embeddings", "performance", "hardware_profiles", "model_metadata")
    made = {name: {"type": AtomicParquetDataset, "filepath": folder / f"{name}.parquet"} for name in tables}
    made["knowledge"] = {"type": NPZDataset, "filepath": folder / "knowledge.npz"}
    made["dataset_tokens"] = {"type": KeyedPartitionDataset, "path": folder / "tokens", "depth": 3}
    for name, entry in made.items():
        data = artefacts[name]
        if isinstance(data, pd.DataFrame):
            data.columns = data.columns.astype(str)
        AbstractDataset.from_config(name, entry).save(data)
    return made


def test_artefacts_are_one_s_own_and_the_shipped_ones(bundle, tmp_path):
    made = own_datasets(bundle, tmp_path / "own")
    write_bundle(bundle, tmp_path / "starter")
    dataset = ArtefactsDataset(own=made, starter={"path": str(tmp_path / "starter")})
    assert dataset.exists()
    found = dataset.load()
    # Both are there; which of them counts is decided item by item where they are joined.
    assert found["stored"] is not None
    assert set(NEEDED) <= set(found)
    (tmp_path / "own" / "model_embeddings.parquet").unlink()
    found = dataset.load()
    assert "model_embeddings" not in found
    assert "hardware_profiles" in found
    with pytest.raises(DatasetError, match="never written"):
        dataset.save({})
    assert "starter" in str(dataset)


def test_a_damaged_artefact_is_a_note_in_the_answer(bundle, tmp_path):
    made = own_datasets(bundle, tmp_path / "own")
    write_bundle(bundle, tmp_path / "starter")
    dataset = ArtefactsDataset(own=made, starter={"path": str(tmp_path / "starter")})
    assert dataset.load()["notes"] == []
    profiles = tmp_path / "own" / "hardware_profiles.parquet"
    profiles.write_bytes(profiles.read_bytes()[:100])
    found = dataset.load()
    assert "hardware_profiles" not in found
    joined = assemble(bundle.manifest, datasets(bundle), found)
    assert [note for note in joined.notes if note.startswith(f"{profiles} is damaged (")]
    assert "hardware profiles" not in joined.sources
    # One's own artefacts are whole: they answer, and say why the shipped ones don't.
    (tmp_path / "starter" / "knowledge.npz").write_bytes(b"PK")
    found = dataset.load()
    assert found["stored"] is None
    assert any("knowledge.npz is damaged" in note and "your own runs" in note for note in found["notes"])


def test_a_checkpoint_is_there_before_it_is_read(bundle, tmp_path):
    path = tmp_path / "autoencoder.pt"
    entry = {"type": "thesis_rec.catalog.CheckpointDataset", "filepath": str(path)}
    write_bundle(bundle, tmp_path / "starter")
    dataset = ArtefactsDataset(own={"autoencoder_checkpoint": entry}, starter={"path": str(tmp_path / "starter")})
    assert "autoencoder_checkpoint" not in dataset.load()
    path.write_bytes(b"PK")
    found = dataset.load()
    assert found["notes"] == []
    with pytest.raises(DatasetError, match="is damaged"):
        found["autoencoder_checkpoint"]()


def test_entries_of_the_catalog_are_taken_as_they_stand(tmp_path):
    entry = {"type": "thesis_rec.catalog.AtomicParquetDataset", "filepath": str(tmp_path / "x"), "validator": "a.b"}
    dataset = ArtefactsDataset(own={"performance": entry}, starter={"path": str(tmp_path / "none")})
    assert not dataset.exists()
