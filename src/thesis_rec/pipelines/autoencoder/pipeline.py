"""Wiring of the pipeline autoencoder."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from thesis_rec.pipelines.autoencoder.nodes import (
    draw_autoencoder_losses,
    draw_embedding_map,
    embed_models,
    evaluate_autoencoder,
    train_autoencoder,
)


def create_pipeline(**kwargs: Any) -> Pipeline:
    """From model vectors to a trained autoencoder, every model's embedding, and the autoencoder's own evaluation."""
    return Pipeline(
        [
            Node(
                train_autoencoder,
                inputs=["model_vectors", "model_manifest", "zoo_sides", "params:autoencoder"],
                outputs=["autoencoder_checkpoint", "autoencoder_history"],
                name="train_autoencoder_node",
            ),
            Node(
                draw_autoencoder_losses,
                inputs=["autoencoder_history", "params:autoencoder"],
                outputs=["autoencoder_loss_plot", "autoencoder_loss_picture"],
                name="draw_autoencoder_losses_node",
            ),
            Node(
                embed_models,
                inputs=["model_vectors", "model_manifest", "autoencoder_checkpoint"],
                outputs="model_embeddings",
                name="embed_models_node",
            ),
            Node(
                evaluate_autoencoder,
                inputs=["model_vectors", "model_manifest", "autoencoder_checkpoint", "params:autoencoder"],
                outputs="autoencoder_evaluation",
                name="evaluate_autoencoder_node",
            ),
            Node(
                draw_embedding_map,
                inputs=["model_embeddings", "autoencoder_evaluation", "params:autoencoder"],
                outputs="embedding_map",
                name="draw_embedding_map_node",
            ),
        ],
        tags="autoencoder",
    )
