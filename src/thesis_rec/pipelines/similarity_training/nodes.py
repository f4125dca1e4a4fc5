"""Nodes of the pipeline similarity_training."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from thesis_rec.base.errors import NothingSucceeded
from thesis_rec.base.settings import Seed, Settings
from thesis_rec.catalog.files import Partitions
from thesis_rec.evaluation.study import assemble_study
from thesis_rec.knowledge import quadrants
from thesis_rec.knowledge.quadrants import SplitSettings
from thesis_rec.pipelines.published.nodes import PublishedParameters, read_published_cells
from thesis_rec.training.settings import RankerPlan
from thesis_rec.truth import performance_records as known


class SimilarityTrainingParameters(Settings):
    """What ``conf/base/parameters/similarity_training.yml`` holds; each knob is explained there."""

    protocol: str = "linear_probe"
    published: bool = False
    shipped: str | None = None
    splits: SplitSettings = SplitSettings()
    similarity_transformer: RankerPlan = Field(default_factory=RankerPlan)
    rolling_window: int = Field(default=5, ge=1)
    runs_folder: str = Field(min_length=1)
    seed: Seed = 0


def clean_performance(
    performance_records: pd.DataFrame,
    own_measurements: Partitions,
    parameters: SimilarityTrainingParameters,
    published: PublishedParameters,
) -> pd.DataFrame:
    """One value per model, dataset and protocol, with the spread of its repeats.

    The most trusted first: one's own measurements, the zoo's, what was imported, and, where they count as truth,
    published figures.
    """

    def stored(name: str) -> list[pd.DataFrame]:
        return [own_measurements[name]()] if name in own_measurements else []

    tables = [*stored("measured_performance"), performance_records, *stored("imported_records")]
    if parameters.published:
        # Those that the pipeline published left here, else those of the folder of tables, if any.
        figures = stored("published_cells") or ([read_published_cells(published)[0]] if published.tables else [])
        tables += map(known.records_of_cells, figures)
    return known.clean_performance(tables)


def assign_splits(
    performance: pd.DataFrame,
    model_manifest: pd.DataFrame,
    dataset_manifest: pd.DataFrame,
    zoo_sides: dict[str, list[str]],
    model_embeddings: pd.DataFrame,
    dataset_tokens: Partitions,
    parameters: SimilarityTrainingParameters,
) -> pd.DataFrame:
    """Which models, datasets and cells are known, and what each is used for.

    Where published figures count, only models and datasets that this run has: most published ones are of others.

    Raises:
        NothingSucceeded: If nothing was measured by the protocol that is asked for.
    """
    families = dict(zip(model_manifest["model_id"].astype(str), model_manifest["family"].astype(str), strict=True))
    measured = performance[performance["protocol"] == parameters.protocol]
    if parameters.published:
        datasets = {key.rsplit("/", 2)[0] for key in dataset_tokens} & set(dataset_manifest["dataset_id"])
        here = measured["model_id"].isin(model_embeddings["model_id"]) & measured["dataset_id"].isin(datasets)
        measured = measured[here]
    if measured.empty:
        fetch = "`kedro run --pipelines=published --to-outputs=published_cells` fetches them"
        figures = f" Published figures count: {fetch}, THESIS_REC_BENCHMARKS names a folder of them."
        raise NothingSucceeded(
            f"No performance by the protocol {parameters.protocol} is known: run the pipeline ground_truth on the "
            "models and datasets at hand, or point performance_records of the zoo at measurements that you have; what "
            f"other steps have made is kept.{figures if parameters.published else ''}"
        )
    return quadrants.assign_splits(measured, families, dataset_manifest, zoo_sides, parameters.splits, parameters.seed)


def assemble_training_study(
    performance: pd.DataFrame,
    splits: pd.DataFrame,
    candidate_models: Any,
    task_tokens: dict[str, Any],
    dataset_manifest: pd.DataFrame,
    parameters: SimilarityTrainingParameters,
) -> Any:
    """What was measured of which models and datasets, with what is known of both, as one object."""
    tables = performance, splits, candidate_models, task_tokens, dataset_manifest
    return assemble_study(*tables, protocol=parameters.protocol, seed=parameters.seed)


def fit_knowledge(
    training_study: Any,
    performance: pd.DataFrame,
    dataset_manifest: pd.DataFrame,
    parameters: SimilarityTrainingParameters,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What measured cells say of new datasets and models.

    Returns:
        Knowledge from everything that was measured, for use, the datasets that came with the zoo among it; and from
        known models and datasets alone, for figures.
    """
    from thesis_rec.recommendation.bundle import PROTOCOL, read_bundle

    tokens, cells = {}, performance[performance["protocol"] == parameters.protocol]
    if parameters.shipped and Path(parameters.shipped).is_dir() and parameters.protocol == PROTOCOL:
        shipped = read_bundle(Path(parameters.shipped))
        tokens, cells = shipped.tokens, pd.concat([shipped.performance, cells])
        cells = cells.drop_duplicates(["model_id", "dataset_id"], keep="last")
    families = dict(zip(dataset_manifest["dataset_id"], dataset_manifest["domain"].fillna(""), strict=True))
    of_all = training_study.knowledge_of_all(tokens, cells, families)
    return of_all.to_arrays(), training_study.knowledge().to_arrays()


def train_ranker(
    training_study: Any, parameters: SimilarityTrainingParameters
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train the thesis's network on codes of weights and dataset tokens.

    Returns:
        Its checkpoint and the history, one row per epoch.
    """
    from thesis_rec.thesis import similarity_training

    models = training_study.models.select(np.flatnonzero(training_study.known))
    train, validation = training_study.lists("train"), training_study.lists("validation")
    plan, runs = parameters.similarity_transformer, Path(parameters.runs_folder)
    ranker, history = similarity_training.train_ranker(models, train, validation, plan, runs, parameters.seed)
    return ranker.to_checkpoint(), history


def draw_similarity_losses(similarity_history: list[dict[str, Any]], parameters: SimilarityTrainingParameters) -> Any:
    """Loss curves of the thesis's network."""
    from thesis_rec.evaluation.charts import draw, loss_chart

    return draw(loss_chart(similarity_history, "Similarity transformer: ranking loss", parameters.rolling_window))
