"""The committed zoo of real images and checkpoints: what may be shipped, and what is kept apart."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from thesis_rec.images.manifest import read_dataset_manifest
from thesis_rec.models.architectures import ARCHITECTURES
from thesis_rec.models.model_manifest import read_manifest

SHIPPABLE = {"CC0-1.0", "MIT", "Apache-2.0", "CC-BY-SA-4.0"}


@pytest.fixture(scope="module")
def real(project_dir):
    return project_dir / "data/01_raw/real"


def table(path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def test_figures_are_shipped_of_licensed_datasets_only(real):
    shipped, failures = read_dataset_manifest(table(real / "dataset_manifest.csv"))
    assert failures == []
    assert 0 < len(shipped) <= 8
    assert set(table(real / "dataset_manifest.csv")["licence"]) <= SHIPPABLE
    for name in ("performance_records", "transferability_scores"):
        assert set(pd.read_parquet(real / f"{name}.parquet")["dataset_id"]) <= {row.dataset_id for row in shipped}


def test_figures_are_shipped_of_every_model(project_dir, real):
    folders = (project_dir / "data/01_raw/starter", real)
    models = {name for folder in folders for name in table(folder / "model_manifest.csv")["model_id"]}
    shipped = set(table(real / "dataset_manifest.csv")["dataset_id"])
    for name in ("performance_records", "transferability_scores"):
        figures = pd.read_parquet(real / f"{name}.parquet")
        assert set(zip(figures["model_id"], figures["dataset_id"], strict=True)) == {
            (model, dataset) for model in models for dataset in shipped
        }


def test_held_out_datasets_are_never_trained_on(real):
    held_out, failures = read_dataset_manifest(table(real / "held_out_datasets.csv"))
    assert failures == []
    sides = json.loads((real / "sides.json").read_text())
    assert set(sides["dataset_ids"]) == {row.dataset_id for row in held_out}
    shipped = set(table(real / "dataset_manifest.csv")["dataset_id"])
    assert not shipped & set(sides["dataset_ids"])
    assert len(shipped) + len(held_out) == 20
    assert (table(real / "held_out_datasets.csv")["reference"] != "").all()


def test_every_real_checkpoint_is_a_model_that_can_be_run(real):
    rows, failures = read_manifest(table(real / "model_manifest.csv"))
    assert failures == []
    assert len(rows) == 12
    for row in rows:
        assert row.loader in ARCHITECTURES
        assert row.source.startswith("$THESIS_REC_REAL_DATA/checkpoints/")
        assert row.licence in {"MIT", "BSD-2-Clause"}
    assert {row.model_id for row in rows} == set(json.loads((real / "sides.json").read_text())["model_ids"])


def test_the_zoos_real_and_shipped_build_upon_the_embedded_one(project_dir, monkeypatch):
    from thesis_rec.door.configuration import MergedGlobalsConfigLoader
    from thesis_rec.settings import CONFIG_LOADER_ARGS

    monkeypatch.chdir(project_dir)
    loader = MergedGlobalsConfigLoader(str(project_dir / "conf"), env="real", **CONFIG_LOADER_ARGS)
    zoos = loader["globals"]["zoos"]
    assert loader["globals"]["active"] == zoos["real"]
    starter = len(table(project_dir / zoos["starter"]["dataset_manifest"]))
    for name, extra in (("real", 20), ("shipped", 8)):
        joined = [table(project_dir / path) for path in zoos[name]["dataset_manifest"]]
        assert sum(map(len, joined)) == starter + extra
