"""``kedro run --env=hub`` offline on a faked Hugging Face cache: random weights, small images, published truth."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.images.encoders import tiny
from tests.models import tiny_models
from thesis_rec.base.files import encode_id

DATASETS = {"mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10", "dtd": "tanganke/dtd"}
CLASSES = ("round", "square", "striped")


def prepare_dataset(cache, source, image_column, seed):
    """What the library ``datasets`` keeps of a dataset that it has once downloaded."""
    import datasets

    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), 8)
    pixels = [(rng.integers(0, 120, (16, 16, 3)) + 60 * label).astype(np.uint8) for label in labels]
    kinds = datasets.Features({image_column: datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    table = datasets.Dataset.from_dict({image_column: pixels, "label": labels.tolist()}, features=kinds)
    owner, name = source.split("/")
    folder = cache / f"{owner}___{name}" / "default" / "0.0.0" / ("c" * 40)
    table.save_to_disk(str(folder / "written"))
    for split in ("train", "test"):
        shutil.copy(folder / "written" / "data-00000-of-00001.arrow", folder / f"{name}-{split}.arrow")
    info = table.info
    info.config_name, info.dataset_name, info.builder_name = "default", name, "parquet"
    info.splits = datasets.SplitDict(
        {s: datasets.SplitInfo(s, num_examples=len(labels), dataset_name=name) for s in ("train", "test")}
    )
    shutil.rmtree(folder / "written")
    info.write_to_directory(str(folder))


@pytest.fixture(scope="module")
def project(tmp_path_factory, project_dir):
    root = tmp_path_factory.mktemp("hub")
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(project_dir / name, root / name)
    shutil.copytree(project_dir / "conf", root / "conf")
    shutil.copytree(project_dir / "data" / "01_raw" / "hub", root / "data" / "01_raw" / "hub")
    (root / "src").mkdir()
    small = yaml.safe_load((project_dir / "conf" / "test" / "parameters" / "pipelines.yml").read_text())
    small["model_extraction"].pop("max_models")
    small["dataset_features"].pop("max_datasets")
    small["dataset_features"]["batch_size"] = 32
    small["autoencoder"]["fit"]["epochs"] = 1
    small["evaluation"] |= {"baselines": ["random", "static_mean_rank", "boosted_trees"], "bootstrap": 20}
    (root / "conf" / "hub" / "parameters").mkdir(exist_ok=True)
    (root / "conf" / "hub" / "parameters" / "small.yml").write_text(yaml.safe_dump(small))
    manifest = pd.read_csv(root / "data" / "01_raw" / "hub" / "model_manifest.csv", dtype=str, keep_default_na=False)
    hub = root / "hf" / "hub"
    models = []
    for loader, count in (("timm", 4), ("open_clip", 3), ("transformers", 3)):
        rows = manifest[(manifest["loader"] == loader) & manifest["source"].str.startswith("hf-hub:")]
        for place, row in enumerate(rows.drop_duplicates("source").head(count).itertuples()):
            made = root / "made" / encode_id(row.model_id)
            if loader == "timm":
                made.mkdir(parents=True)
                size = {"embed_dim": 32 * (1 + place % 2), "depth": 1 + place, "num_heads": 2, "img_size": 32}
                tiny_models.save_timm(made, "vit_tiny_patch16_224", **size)
            elif loader == "open_clip":
                tiny_models.save_open_clip(made)
            else:
                tiny_models.save_transformers(made, tiny_models.tiny_vit())
            tiny_models.fill_hub_cache(hub, row.source.removeprefix("hf-hub:"), made, row.revision or "main")
            models.append(row.model_id)
    settings = yaml.safe_load((root / "conf" / "base" / "globals.yml").read_text())
    source = settings["zoos"]["hub"]["encoder"]["source"].removeprefix("hf-hub:")
    tiny_models.fill_hub_cache(hub, source, tiny.save_open_clip(root / "made" / "encoder"))
    columns = pd.read_csv(root / "data" / "01_raw" / "hub" / "dataset_manifest.csv").set_index("dataset_id")
    for seed, (name, where) in enumerate(DATASETS.items()):
        prepare_dataset(root / "hf" / "datasets", where, columns.loc[name, "image_column"], seed)
    (root / "data" / "hub" / "03_primary").mkdir(parents=True)
    return root, models


def kedro(root, *arguments, **environment):
    given = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "THESIS_REC_"))}
    given |= {"HF_HOME": str(root / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "kedro", *map(str, arguments)]
    return subprocess.run(command, cwd=root, env=given, capture_output=True, text=True, check=False)


def cells(models):
    rng = np.random.default_rng(0)
    rows = [
        (model, dataset, "linear_probe", "accuracy", 0.4 + 0.03 * i + 0.02 * rng.normal(), float("nan"), "mieb")
        for i, model in enumerate([*models, "nobody/unknown"])
        for dataset in [*DATASETS, "pets"]
    ]
    return pd.DataFrame(rows, columns=["model_id", "dataset_id", "protocol", "metric", "value", "spread", "source"])


@pytest.mark.slow
def test_all_five_pipelines_run_offline_and_the_answer_uses_their_tokens(project):
    root, models = project
    data, zoo = root / "data" / "hub", root / "data" / "01_raw" / "hub"
    cells(models).to_parquet(data / "03_primary" / "published_cells.parquet")
    done = kedro(root, "run", "--env=hub")
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, said[-3000:]
    listed = pd.read_csv(zoo / "model_manifest.csv")["model_id"]
    kept = set(pd.read_parquet(data / "04_feature" / "model_embeddings.parquet")["model_id"])
    assert set(models) <= kept
    assert f"This machine is offline, and does without: {len(listed) - len(kept)} models" in said
    assert f"{len(kept)} models are on this machine." in said
    failures = pd.read_parquet(data / "08_reporting" / "extraction_failures.parquet")
    assert set(failures["model_id"]) == set(listed) - kept
    # Published figures of what is here are the truth, and of nothing else.
    splits = pd.read_parquet(data / "05_model_input" / "splits.parquet")
    assert set(splits.loc[splits["kind"] == "model", "id"]) == set(models)
    assert set(splits.loc[splits["kind"] == "dataset", "id"]) == set(DATASETS)
    metrics = json.loads((data / "08_reporting" / "evaluation_metrics.json").read_text())
    assert metrics["counts"]["models"] == len(kept)

    tiny.write_colour_folder(root / "mine", per_class=6, size=16)
    done = kedro(root, "recommend", root / "mine", "--env", "hub", "--top", 3, "--format", "json")
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout)
    assert {one["dataset_id"] for one in answer["nearest_datasets"]} == set(DATASETS)
    assert any("datasets are laid over it" in note for note in answer["notes"])
