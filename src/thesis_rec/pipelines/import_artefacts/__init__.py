"""Existing vectors, embeddings, tokens and performance tables, brought into the project's own catalog."""

from thesis_rec.pipelines.import_artefacts.pipeline import create_pipeline

__all__ = ["create_pipeline"]
