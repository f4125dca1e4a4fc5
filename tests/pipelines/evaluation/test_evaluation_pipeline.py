"""The pipeline evaluation on a fabricated zoo, from catalog names to catalog names."""

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from tests.contracts import validate_rankings
from tests.world import make_world
from thesis_rec.base.errors import ConfigurationError
from thesis_rec.catalog.validators import validate_evaluation_metrics
from thesis_rec.evaluation.study import assemble_study
from thesis_rec.knowledge.quadrants import assign_splits
from thesis_rec.pipelines.evaluation.nodes import EvaluationParameters
from thesis_rec.pipelines.evaluation.pipeline import create_pipeline
from thesis_rec.thesis.similarity_training import train_ranker
from thesis_rec.training.settings import RankerPlan
from thesis_rec.truth.performance_records import clean_performance, overlay_scores


class Kept(MemoryDataset):
    """Keeps what the runner would release."""

    def _release(self):
        pass


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    world = make_world(n_domains=8, subtasks=4)
    manifest = world.dataset_manifest.assign(
        loader="npz", source="x", image_column="", label_column="", splits="", group="structured"
    )
    cells = clean_performance([world.records])
    families = dict(zip(world.models.model_ids, world.models.families, strict=True))
    splits = assign_splits(cells, families, manifest, world.sides)
    study = assemble_study(cells, splits, world.models, world.tokens, manifest)
    plan = RankerPlan(
        network={"width": 16, "n_layers": 1, "n_heads": 2, "rank": 2},
        training={"models_per_step": 16, "tasks_per_epoch": 16},
        fit={"epochs": 1, "batch_size": 8, "accelerator": "cpu"},
    )
    known, lists = study.models.select(np.flatnonzero(study.known)), (study.lists("train"), study.lists("validation"))
    ranker, _ = train_ranker(known, *lists, plan, tmp_path_factory.mktemp("runs"))
    embeddings = pd.DataFrame(world.models.embedding, columns=[f"e{i}" for i in range(world.models.embedding.shape[1])])
    embeddings.insert(0, "model_id", world.models.model_ids)
    shards = {
        f"{name}/train/00000": lambda task=task: {
            "features": task.features,
            "class_ids": np.arange(len(task.class_names)),
            "class_names": np.array(task.class_names),
            "n_images": np.int64(task.n_images),
            "encoder_id": np.array("encoder"),
            "n_shards": np.int64(1),
        }
        for name, task in world.tokens.items()
        if not name.startswith("subtask")
    }
    given = {
        "performance": cells,
        "performance_records": world.records,
        "splits": splits,
        "knowledge_of_known": assemble_study(cells, splits, world.models, world.tokens, manifest)
        .knowledge()
        .to_arrays(),
        "similarity_checkpoint": ranker.to_checkpoint(),
        "model_embeddings": embeddings,
        "model_metadata": pd.DataFrame({"model_id": world.models.model_ids, "n_parameters": world.models.n_parameters}),
        "model_responses": {},
        "model_spectra": {},
        "model_manifest": world.model_manifest,
        "dataset_tokens": shards,
        "dataset_manifest": manifest,
        "transferability_scores": overlay_scores([]),
    }
    parameters = EvaluationParameters(
        baselines=("static_mean_z", "nearest_dataset"), transferability=("logme",), bootstrap=50, draws=2
    )
    catalog = DataCatalog({name: MemoryDataset(data, copy_mode="assign") for name, data in given.items()})
    catalog["params:evaluation"] = MemoryDataset(parameters, copy_mode="assign")
    for name in ("rankings", "evaluation_figures", "evaluation_metrics"):
        catalog[name] = Kept()
    for name in ("evaluation_plots", "evaluation_overview"):
        catalog[name] = MemoryDataset(copy_mode="assign")
    SequentialRunner().run(create_pipeline(), catalog)
    return catalog


def test_outputs_keep_their_contracts(outputs):
    validate_rankings(outputs.load("rankings"))
    metrics = outputs.load("evaluation_metrics")
    validate_evaluation_metrics(metrics)
    assert set(metrics["quadrants"]) == {"Q1", "Q2", "Q3", "Q4"}
    assert metrics["noise_ceiling"]["linear_probe"]["mean"] > 0.5
    assert {"recommender", "similarity_transformer"} <= set(metrics["quadrants"]["Q3"])


def test_figures_are_drawn(outputs):
    plots = outputs.load("evaluation_plots")
    assert set(plots) >= {"quadrants", "regret", "calibration", "probing"}
    assert outputs.load("evaluation_overview") is plots["quadrants"]


@pytest.mark.parametrize("changed", ["embeddings", "width", "splits"])
def test_what_was_learned_of_something_else_is_not_judged(outputs, changed):
    """A network was fed with codes made anew after its training, and judged on models that it had learned from."""
    table, splits = outputs.load("model_embeddings"), outputs.load("splits")
    codes = table.drop(columns="model_id")
    other = {
        "embeddings": {"model_embeddings": table.assign(**(codes * 2 + 1))},
        "width": {"model_embeddings": table.iloc[:, :-1]},
        "splits": {
            "splits": splits.assign(known=np.where(splits["kind"] == "model", ~splits["known"], splits["known"]))
        },
    }[changed]
    catalog = DataCatalog({name: MemoryDataset(data, copy_mode="assign") for name, data in other.items()})
    needed = create_pipeline().inputs() - set(other)
    for name in needed:
        catalog[name] = outputs[name]
    with pytest.raises(ConfigurationError, match="pipelines=similarity_training` again"):
        SequentialRunner().run(create_pipeline(), catalog)
