"""Wiring of the pipeline autoencoder."""

from typing import Any

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.autoencoder import nodes
from thesis_rec.pipelines.boxes import step


def create_pipeline(**kwargs: Any) -> Pipeline:
    """From model vectors to a trained autoencoder, every model's embedding, and the autoencoder's own evaluation."""
    return Pipeline(
        [
            step(
                nodes.train_autoencoder,
                ["model_vectors", "model_manifest", "zoo_sides", "params:autoencoder"],
                ["autoencoder_checkpoint", "autoencoder_history"],
            ),
            step(
                nodes.draw_autoencoder_losses,
                ["autoencoder_history", "params:autoencoder"],
                "autoencoder_loss_plot",
            ),
            step(nodes.embed_models, ["model_vectors", "model_manifest", "autoencoder_checkpoint"], "model_embeddings"),
            step(
                nodes.evaluate_autoencoder,
                ["model_vectors", "model_manifest", "autoencoder_checkpoint", "params:autoencoder"],
                "autoencoder_evaluation",
            ),
            step(
                nodes.draw_embedding_map,
                ["model_embeddings", "autoencoder_evaluation", "params:autoencoder"],
                "embedding_map",
            ),
        ]
    )
