"""Model vectors to embeddings: an autoencoder trained on the known models."""

from thesis_rec.pipelines.autoencoder.pipeline import create_pipeline

__all__ = ["create_pipeline"]
