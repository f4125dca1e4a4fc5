"""The pipeline model_extraction from a manifest to vectors, failures and a verdict."""

from __future__ import annotations

import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from safetensors.torch import save_file

from tests.models import tiny_models
from tests.models.states import save_sharded, small_state
from thesis_rec.base.errors import NothingSucceeded, Unreached
from thesis_rec.base.files import encode_id, load_arrays
from thesis_rec.catalog import AtomicParquetDataset, KeyedPartitionDataset, NPZDataset
from thesis_rec.catalog.validators import validate_model_spectra
from thesis_rec.models.model_extraction import made_from
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.models.spectra import NAMES
from thesis_rec.pipelines.model_extraction.nodes import ModelExtractionParameters
from thesis_rec.pipelines.model_extraction.pipeline import create_pipeline


def manifest(*rows: tuple[str, str, str]) -> pd.DataFrame:
    columns = ["model_id", "loader", "source"]
    return pd.DataFrame(rows, columns=columns).assign(
        revision="", family="small", pretraining="random", licence="MIT", extractor=""
    )


class Project:
    """The pipeline with its files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.zoo = folder / "zoo"
        self.zoo.mkdir()

    def run(self, table: pd.DataFrame, nodes: tuple[str, ...] = (), **settings: object) -> None:
        vectors = str(self.folder / "vectors")
        catalog = DataCatalog(
            {
                "model_manifest": MemoryDataset(table),
                "params:model_extraction": MemoryDataset(
                    ModelExtractionParameters.model_validate({"models_root": str(self.zoo), **settings})
                ),
                "model_vectors": KeyedPartitionDataset(
                    path=vectors, partition_validator="thesis_rec.catalog.validators.validate_model_vector"
                ),
                "existing_model_vectors": KeyedPartitionDataset(path=vectors),
                "extraction_outcomes": KeyedPartitionDataset(path=str(self.folder / "outcomes"), format="json"),
                "existing_extraction_outcomes": KeyedPartitionDataset(
                    path=str(self.folder / "outcomes"), format="json"
                ),
                "extraction_failures": AtomicParquetDataset(filepath=str(self.folder / "failures.parquet")),
                "model_metadata": AtomicParquetDataset(filepath=str(self.folder / "metadata.parquet")),
                "model_spectra": NPZDataset(filepath=str(self.folder / "spectra.npz")),
            }
        )
        pipeline = create_pipeline()
        SequentialRunner().run(pipeline.only_nodes(*nodes) if nodes else pipeline, catalog)

    @property
    def vectors(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in sorted((self.folder / "vectors").iterdir())}

    @property
    def failures(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "failures.parquet").set_index("model_id")

    @property
    def metadata(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "metadata.parquet").set_index("model_id")


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture
def stored(project):
    torch.save(small_state(0), project.zoo / "a.pth")
    save_file(small_state(1), project.zoo / "b.safetensors")
    save_sharded(small_state(2), project.zoo / "c")
    rows = (("a", "local", "a.pth"), ("org/b", "local", "b.safetensors"), ("c", "transformers", "c"))
    return manifest(*rows)


def test_every_model_gets_a_vector_and_bad_ones_a_line(project, stored):
    (project.zoo / "cut.safetensors").write_bytes((project.zoo / "b.safetensors").read_bytes()[:300])
    bad = manifest(("cut", "local", "cut.safetensors"), ("gone", "timm", "gone"), ("a", "local", "c"))
    project.run(pd.concat([stored, bad]))
    assert list(project.vectors) == ["a.npz", "c.npz", "org%2Fb.npz"]
    assert set(project.failures.index) == {"cut", "gone", "a"}
    assert "repeats the model_id" in project.failures.loc["a", "error"]
    assert project.metadata.index.tolist() == ["a", "org/b", "c"]
    assert project.metadata.loc["a", "n_parameters"] == project.metadata.loc["c", "n_parameters"]
    spectra = load_arrays(project.folder / "spectra.npz")
    validate_model_spectra(spectra)
    assert spectra["model_ids"].tolist() == ["a", "org/b", "c"]
    assert spectra["names"].tolist() == list(NAMES)
    assert not np.array_equal(spectra["spectra"][0], spectra["spectra"][1], equal_nan=True)


def test_a_second_run_writes_nothing_and_a_repaired_model_is_made(project, stored):
    (project.zoo / "a.pth").rename(project.zoo / "later.pth")
    project.run(stored)
    assert project.failures.index.tolist() == ["a"]
    before = {file.name: file.stat().st_mtime_ns for file in (project.folder / "vectors").iterdir()}
    (project.zoo / "later.pth").rename(project.zoo / "a.pth")
    project.run(stored)
    after = {file.name: file.stat().st_mtime_ns for file in (project.folder / "vectors").iterdir()}
    assert project.failures.empty
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"a.npz"}


def test_shards_together_equal_one_run(project, stored, tmp_path):
    for index in range(2):
        project.run(stored, nodes=("extract_vectors_node",), shard={"index": index, "count": 2})
    project.run(stored, nodes=("join_extraction_failures_node", "describe_models_node", "check_extraction_node"))
    assert project.failures.empty
    (tmp_path / "other").mkdir()
    whole = Project(tmp_path / "other")
    whole.zoo.rmdir()
    whole.zoo.symlink_to(project.zoo)
    whole.run(stored)
    assert whole.vectors == project.vectors
    pd.testing.assert_frame_equal(whole.metadata, project.metadata)


def test_a_missing_shard_is_found_at_the_join(project, stored):
    project.run(stored, nodes=("extract_vectors_node",), shard={"index": 0, "count": 2})
    with pytest.raises(Unreached, match="no job has come to 1 models: org/b"):
        project.run(stored, nodes=("join_extraction_failures_node", "describe_models_node", "check_extraction_node"))
    assert project.failures.index.tolist() == ["org/b"]


def test_a_shard_that_is_missing_after_files_changed_is_found_although_an_earlier_one_was_there(project, stored):
    project.run(stored)
    joining = ("join_extraction_failures_node", "describe_models_node", "check_extraction_node")
    project.run(stored, nodes=joining)
    row = stored[stored["model_id"] == "org/b"].iloc[0]
    place = project.zoo / row["source"]
    for file in [place] if place.is_file() else place.iterdir():
        file.write_bytes(file.read_bytes())
    with pytest.raises(Unreached, match="no job has come to 1 models: org/b"):
        project.run(stored, nodes=joining)
    project.run(stored, nodes=("extract_vectors_node",), shard={"index": 1, "count": 2})
    project.run(stored, nodes=joining)
    assert project.failures.empty


def test_nothing_succeeded_is_one_message_after_the_table_is_saved(project):
    with pytest.raises(NothingSucceeded, match=r"(?s)2 of 2 models failed; none succeeded.*gone"):
        project.run(manifest(("gone", "local", "gone.pth"), ("lost", "timm", "lost")))
    assert set(project.failures.index) == {"gone", "lost"}
    assert project.metadata.empty
    assert load_arrays(project.folder / "spectra.npz")["spectra"].shape == (0, len(NAMES))


def test_strict_runs_stop_at_any_failure(project, stored):
    table = pd.concat([stored, manifest(("gone", "local", "gone.pth"))])
    project.run(table)
    with pytest.raises(NothingSucceeded, match="1 of 4 models failed"):
        project.run(table, strict=True)


def test_a_few_models_evenly_spread(project, stored):
    project.run(stored, max_models=2)
    first, *_, last = stored["model_id"]
    assert list(project.vectors) == [f"{encode_id(name)}.npz" for name in (first, last)]


def test_hub_models_come_from_the_cache_and_offline_is_said(project, monkeypatch):
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setattr("thesis_rec.models.model_sources.hub_is_reachable", lambda: False)
    tiny_models.save_timm(project.folder / "t")
    tiny_models.save_transformers(project.folder / "v", tiny_models.tiny_vit())
    tiny_models.save_open_clip(project.folder / "o")
    hub = project.folder / "home" / "hub"
    loaders = {"t": "timm", "v": "transformers", "o": "open_clip"}
    table = manifest(*((f"org/{name}", loader, f"hf-hub:org/{name}") for name, loader in loaders.items()))
    with pytest.raises(NothingSucceeded, match="offline"):
        project.run(table, hub_cache=str(project.folder / "home"))
    assert set(project.failures.index) == {"org/t", "org/v", "org/o"}
    assert project.failures["error"].str.contains("offline").all()
    for name in loaders:
        tiny_models.fill_hub_cache(hub, f"org/{name}", project.folder / name)
    project.run(table, hub_cache=str(project.folder / "home"))
    assert project.failures.empty
    assert project.metadata.index.tolist() == ["org/t", "org/v", "org/o"]


def test_the_configuration_fits_the_parameters(project_dir):
    text = (project_dir / "conf" / "base" / "parameters" / "model_extraction.yml").read_text()
    knobs = yaml.safe_load(text)["model_extraction"]
    assert set(knobs) == set(ModelExtractionParameters.model_fields)
    comments = [line for line in text.splitlines() if line.strip().startswith("#")]
    assert len(comments) >= len(knobs)


@pytest.mark.slow
def test_a_checkpoint_of_zeros_or_of_huge_values_stops_no_other(tmp_path):
    project = Project(tmp_path)
    state = {name: value for name, value in small_state().items() if value.is_floating_point()}
    save_file(state, project.zoo / "good.safetensors")
    save_file({name: value * 0 for name, value in state.items()}, project.zoo / "zeros.safetensors")
    save_file({name: torch.full_like(value, 3e38) for name, value in state.items()}, project.zoo / "huge.safetensors")
    project.run(manifest(*((name, "local", f"{name}.safetensors") for name in ("zeros", "huge", "good"))))
    assert project.failures.loc["zeros", "error"] == "All its values are zero."
    assert "good" in project.metadata.index
    assert "zeros" not in project.metadata.index
    validate_model_spectra(load_arrays(tmp_path / "spectra.npz"))


def test_a_vector_put_in_the_place_of_another_is_made_again(tmp_path):
    project = Project(tmp_path)
    for seed, name in enumerate("ab"):
        save_file(small_state(seed), project.zoo / f"{name}.safetensors")
    table = manifest(("a", "local", "a.safetensors"), ("b", "local", "b.safetensors"))
    project.run(table)
    first = project.vectors
    vectors = tmp_path / "vectors"
    time.sleep(0.05)  # the clock of the file system ticks every few milliseconds
    (vectors / "other.tmp").write_bytes(first["b.npz"])
    (vectors / "other.tmp").replace(vectors / "a.npz")
    project.run(table)
    again = load_arrays(vectors / "a.npz")
    np.testing.assert_array_equal(again["parameters"], np.load(io.BytesIO(first["a.npz"]))["parameters"])
    assert project.vectors["b.npz"] == first["b.npz"]


def test_20000_models_that_are_done_take_less_than_a_minute(tmp_path):
    project = Project(tmp_path)
    save_file(small_state(), project.zoo / "0.safetensors")
    project.run(manifest(("0", "local", "0.safetensors")))
    [vector], [outcome] = ((tmp_path / folder).iterdir() for folder in ("vectors", "outcomes"))
    content, known = vector.read_bytes(), json.loads(outcome.read_text())
    count = 2000
    for i in range(1, count):
        shutil.copy(project.zoo / "0.safetensors", project.zoo / f"{i}.safetensors")
        row = ManifestRow(model_id=str(i), loader="local", source=f"{i}.safetensors")
        vector.with_name(f"{i}.npz").write_bytes(content)
        outcome.with_name(f"{i}.json").write_text(json.dumps(known | {"made_from": made_from(row, project.zoo)}))
    table = manifest(*((str(i), "local", f"{i}.safetensors") for i in range(count)))
    # Processor time: what else the machine does isn't ours.
    began = time.process_time()
    project.run(table)
    took = time.process_time() - began
    assert len(project.metadata) == count
    assert vector.with_name("7.npz").read_bytes() == content
    assert took * 20000 / count < 60
