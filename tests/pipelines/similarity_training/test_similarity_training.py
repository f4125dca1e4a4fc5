"""The pipeline similarity_training on a fabricated world, with the catalog's own entries."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from pydantic import ValidationError

from tests.world import make_world
from thesis_rec import settings
from thesis_rec.evaluation.study import assemble_study
from thesis_rec.knowledge.knowledge import Knowledge
from thesis_rec.pipelines.published.nodes import PublishedParameters
from thesis_rec.pipelines.similarity_training import nodes
from thesis_rec.pipelines.similarity_training.nodes import SimilarityTrainingParameters
from thesis_rec.pipelines.similarity_training.pipeline import create_pipeline
from thesis_rec.recommendation.bundle import Bundle, write_bundle
from thesis_rec.thesis.ranker import Ranker

SMALL = {
    "network": {"width": 16, "n_layers": 1, "n_heads": 2},
    "training": {"tasks_per_epoch": 16},
    "fit": {"epochs": 2, "accelerator": "cpu"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, project_dir):
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THESIS_REC_TEST_ROOT", str(root))
        loader = OmegaConfigLoader(str(project_dir / "conf"), env="test", **settings.CONFIG_LOADER_ARGS)
        entries = loader["catalog"]
    pipeline = create_pipeline()
    stored = {*pipeline.all_outputs(), "own_measurements"} & set(entries)
    catalog = DataCatalog.from_config({name: entries[name] for name in stored})
    world = make_world()
    shards = {}
    for row in world.dataset_manifest.itertuples():
        if not row.parent:
            task = world.tokens[row.dataset_id]
            shards[f"{row.dataset_id}/train/00000"] = lambda task=task: {
                "features": task.features,
                "class_ids": np.arange(len(task.class_names)),
                "class_names": np.array(task.class_names),
                "n_images": task.n_images,
                "encoder_id": "encoder",
                "shard": 0,
                "n_shards": 1,
                "settings_hash": "x",
            }
    embeddings = pd.DataFrame(world.models.embedding, columns=[f"e{i:03d}" for i in range(24)])
    embeddings.insert(0, "model_id", world.models.model_ids)
    manifest = world.dataset_manifest.assign(
        loader="generated", source="", image_column="", label_column="", splits="train", group=""
    )
    manifest.loc[manifest["parent"] != "", "loader"] = ""
    manifest.loc[manifest["parent"] == "", "source"] = manifest["dataset_id"]
    own = root / "03_primary" / "measured_performance.parquet"
    own.parent.mkdir(parents=True)
    model, dataset = world.records.loc[0, ["model_id", "dataset_id"]]
    world.records.head(1).assign(value=0.123, source="own").to_parquet(own)
    parameters = {
        "similarity_transformer": SMALL,
        "runs_folder": str(root / "06_models" / "runs"),
    }
    fabricated = {
        "performance_records": world.records,
        "model_manifest": world.model_manifest,
        "dataset_manifest": manifest,
        "zoo_sides": world.sides,
        "model_embeddings": embeddings,
        "model_metadata": pd.DataFrame(
            {"model_id": world.models.model_ids, "n_parameters": world.models.n_parameters.astype(int)}
        ),
        "model_spectra": {},
        "model_responses": {
            "model_ids": np.array(world.models.model_ids),
            "responses": world.models.reference.astype(np.float16),
            "names": np.array([f"r{i}/linear_probe" for i in range(world.models.reference.shape[1])]),
        },
        "dataset_tokens": shards,
        "params:similarity_training": SimilarityTrainingParameters.model_validate(parameters),
        "params:published": PublishedParameters(cache="none", aliases="none"),
    }
    for name, data in fabricated.items():
        catalog[name] = MemoryDataset(data, copy_mode="assign")
    SequentialRunner().run(pipeline, catalog)
    return catalog, world, root, (model, dataset)


def test_ones_own_measurement_replaces_the_published_one(run):
    catalog, _, _, (model, dataset) = run
    table = catalog.load("performance").set_index(["model_id", "dataset_id"])
    assert table.loc[(model, dataset), "value"].item() == pytest.approx(0.123)
    assert (table["n_repeats"] > 1).any()


def test_splits_keep_the_named_sides_unknown(run):
    catalog, world, _, _ = run
    splits = catalog.load("splits")
    unknown = splits[(splits["kind"] == "model") & ~splits["known"]]["id"]
    family = world.sides["model_families"][0]
    assert set(unknown) == {model for model in world.models.model_ids if model.startswith(family)}


def test_the_checkpoint_ranks_any_dataset(run):
    catalog, world, _, _ = run
    ranker = Ranker.from_checkpoint(catalog.load("similarity_checkpoint"))
    assert ranker.inputs.encoder_id == "encoder"
    score = ranker.predict(world.models, [world.tokens["subtask0"]])["score"]
    assert score.shape == (len(world.models), 1)
    assert np.isfinite(score).all()


def test_what_came_with_the_zoo_is_learned_from_though_it_was_not_encoded_here(run, tmp_path):
    """Knowledge of one's own never answered, as no run encodes the real images behind the shipped one."""
    catalog, world, _, _ = run
    performance, splits = catalog.load("performance"), catalog.load("splits")
    manifest, parameters = catalog.load("dataset_manifest"), catalog.load("params:similarity_training")
    study = assemble_study(performance, splits, world.models, world.tokens, manifest)
    base = study.tasks[0]
    away = {"shipped": replace(base, dataset_id="shipped"), "strange": replace(base, dataset_id="b", encoder_id="x")}
    few = world.models.model_ids[:5]
    cells = pd.DataFrame({"model_id": few, "dataset_id": "shipped", "value": [0.3, 0.4, 0.5, 0.6, 0.7]})
    known = Knowledge.from_arrays(catalog.load("knowledge"))
    none = pd.DataFrame({name: [] for name in ("model_id", "licence")})
    write_bundle(Bundle(none, world.models, away, cells, none, none, known), tmp_path / "bundle")
    parameters = parameters.model_copy(update={"shipped": str(tmp_path / "bundle")})
    use, figures = map(Knowledge.from_arrays, nodes.fit_knowledge(study, performance, manifest, parameters))
    assert set(use.dataset_ids) == {*known.dataset_ids, "shipped"}
    assert "shipped" not in figures.dataset_ids


def test_knowledge_is_learned_for_use_and_for_figures(run):
    catalog, world, _, _ = run
    use, figures = (Knowledge.from_arrays(catalog.load(name)) for name in ("knowledge", "knowledge_of_known"))
    unknown = {model for model in world.models.model_ids if model.startswith(world.sides["model_families"][0])}
    assert unknown <= set(use.model_ids)
    assert not unknown & set(figures.model_ids)
    assert set(figures.dataset_ids) < set(use.dataset_ids)
    task = world.tokens[use.dataset_ids[0]]
    assert np.isfinite(use.posterior(world.models, task).value()).all()


def test_history_and_pictures_are_kept(run):
    catalog, _, root, _ = run
    assert [row["epoch"] for row in catalog.load("similarity_history")] == [0, 1]
    assert (root / "08_reporting" / "similarity_loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_task": 3}, "Extra inputs"),
        ({"similarity_transformer": {"network": {"width": 10, "n_heads": 4}}}, "divided among"),
    ],
)
def test_wrong_parameters_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        SimilarityTrainingParameters.model_validate({"runs_folder": "x", **change})


def test_without_any_measurement_it_says_where_to_get_some(run):
    from thesis_rec.base.errors import NothingSucceeded
    from thesis_rec.pipelines.similarity_training.nodes import assign_splits

    _, world, _, _ = run
    nothing = pd.DataFrame(columns=["model_id", "dataset_id", "protocol", "value"])
    manifest = pd.DataFrame(columns=["dataset_id", "domain", "parent"])
    embeddings = pd.DataFrame({"model_id": ["a"]})
    with pytest.raises(NothingSucceeded, match="linear_probe is known: run the pipeline ground_truth"):
        assign_splits(
            nothing,
            world.model_manifest,
            manifest,
            {},
            embeddings,
            {},
            SimilarityTrainingParameters(runs_folder="runs"),
        )


def records(*rows, protocol="linear_probe", source="a"):
    table = pd.DataFrame(rows, columns=["model_id", "dataset_id", "value"])
    return table.assign(protocol=protocol, metric="accuracy", seed=0, n_train=16.0, source=source)


@pytest.mark.parametrize("counts", [False, True])
def test_truth_is_measured_imported_and_published_in_this_order(counts):
    from thesis_rec.pipelines.similarity_training.nodes import clean_performance

    own = {
        "measured_performance": lambda: records(("m", "d", 0.1)),
        "imported_records": lambda: records(("m", "d", 0.3), ("x", "y", 0.4), protocol="imported:wide"),
        "published_cells": lambda: records(("m", "d", 0.9), ("m", "e", 0.8)).assign(spread=np.nan),
    }
    found = clean_performance(
        records(("m", "d", 0.5), ("n", "d", 0.6)),
        own,
        SimilarityTrainingParameters(runs_folder="runs", published=counts),
        PublishedParameters(cache="none", aliases="none"),
    )
    values = found.set_index(["protocol", "model_id", "dataset_id"])["value"].to_dict()
    expected = {
        ("linear_probe", "m", "d"): 0.1,
        ("linear_probe", "n", "d"): 0.6,
        ("imported:wide", "m", "d"): 0.3,
        ("imported:wide", "x", "y"): 0.4,
    }
    assert values == pytest.approx(expected | ({("linear_probe", "m", "e"): 0.8} if counts else {}))


def test_published_figures_divide_only_what_the_run_has():
    from thesis_rec.pipelines.similarity_training.nodes import assign_splits

    models, datasets = [f"m{i}" for i in range(6)], [f"d{i}" for i in range(5)]
    table = records(*((m, d, 0.5) for m in [*models, "elsewhere"] for d in [*datasets, "unseen"]))
    manifest = pd.DataFrame({"dataset_id": [*datasets, "unseen"], "domain": "", "parent": ""})
    found = assign_splits(
        table,
        pd.DataFrame({"model_id": models, "family": models}),
        manifest,
        {},
        pd.DataFrame({"model_id": models}),
        {f"{name}/train/00000": dict for name in datasets},
        SimilarityTrainingParameters(runs_folder="runs", published=True),
    )
    assert set(found.loc[found["kind"] == "model", "id"]) == set(models)
    assert set(found.loc[found["kind"] == "dataset", "id"]) == set(datasets)
