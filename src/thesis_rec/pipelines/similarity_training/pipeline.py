"""Wiring of the pipeline similarity_training."""

from typing import Any

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.similarity_training import nodes
from thesis_rec.pipelines.study import NODES, TABLES


def create_pipeline(**kwargs: Any) -> Pipeline:
    """From measured performance, embeddings and tokens to splits, knowledge and a trained ranker."""
    return Pipeline(
        [
            *NODES,
            step(
                nodes.clean_performance,
                ["performance_records", "own_measurements", "params:similarity_training", "params:published"],
                "performance",
            ),
            step(
                nodes.assign_splits,
                [
                    "performance",
                    "model_manifest",
                    "dataset_manifest",
                    "zoo_sides",
                    "model_embeddings",
                    "dataset_tokens",
                    "params:similarity_training",
                ],
                "splits",
            ),
            step(
                nodes.fit_knowledge,
                [*TABLES, "params:similarity_training"],
                ["knowledge", "knowledge_of_known"],
            ),
            step(
                nodes.train_ranker,
                [*TABLES, "params:similarity_training"],
                ["similarity_checkpoint", "similarity_history"],
            ),
            step(
                nodes.draw_similarity_losses,
                ["similarity_history", "params:similarity_training"],
                "similarity_loss_plots",
            ),
        ]
    )
