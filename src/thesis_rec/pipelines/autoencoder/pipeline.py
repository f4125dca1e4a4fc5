"""Wiring of the pipeline autoencoder."""

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.autoencoder import nodes
from thesis_rec.pipelines.boxes import step


def create_pipeline() -> Pipeline:
    """From model vectors to a trained autoencoder, every model's embedding, and the autoencoder's own evaluation."""
    steps = [
        step(nodes.train_autoencoder, ["autoencoder_checkpoint", "autoencoder_history"]),
        step(nodes.draw_autoencoder_losses, "autoencoder_loss_plot"),
        step(nodes.embed_models, "model_embeddings"),
        step(nodes.evaluate_autoencoder, "autoencoder_evaluation"),
        step(nodes.draw_embedding_map, "embedding_map"),
    ]
    return Pipeline(steps)
