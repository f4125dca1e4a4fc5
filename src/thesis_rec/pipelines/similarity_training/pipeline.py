"""Wiring of the pipeline similarity_training."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from thesis_rec.pipelines.similarity_training.nodes import (
    assign_splits,
    clean_performance,
    draw_similarity_losses,
    fit_knowledge,
    train_ranker,
)
from thesis_rec.pipelines.study import NODES


def create_pipeline(**kwargs: Any) -> Pipeline:
    """From measured performance, embeddings and tokens to splits, knowledge and a trained ranker."""
    return Pipeline(
        [
            *NODES,
            Node(
                clean_performance,
                inputs=[
                    "performance_records",
                    "own_measurements",
                    "params:similarity_training",
                    "params:published",
                ],
                outputs="performance",
                name="clean_performance_node",
            ),
            Node(
                assign_splits,
                inputs=[
                    "performance",
                    "model_manifest",
                    "dataset_manifest",
                    "zoo_sides",
                    "model_embeddings",
                    "dataset_tokens",
                    "params:similarity_training",
                ],
                outputs="splits",
                name="assign_splits_node",
            ),
            Node(
                fit_knowledge,
                inputs=[
                    "performance",
                    "splits",
                    "candidate_models",
                    "task_tokens",
                    "dataset_manifest",
                    "params:similarity_training",
                ],
                outputs=["knowledge", "knowledge_of_known"],
                name="fit_knowledge_node",
            ),
            Node(
                train_ranker,
                inputs=["performance", "splits", "candidate_models", "task_tokens", "params:similarity_training"],
                outputs=["similarity_checkpoint", "similarity_history"],
                name="train_ranker_node",
            ),
            Node(
                draw_similarity_losses,
                inputs=["similarity_history", "params:similarity_training"],
                outputs=["similarity_loss_plots", "similarity_loss_pictures"],
                name="draw_similarity_losses_node",
            ),
        ],
        tags="similarity_training",
    )
