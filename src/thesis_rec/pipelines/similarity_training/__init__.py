"""Embeddings, tokens and measured performance to trained rankers."""

from thesis_rec.pipelines.similarity_training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
