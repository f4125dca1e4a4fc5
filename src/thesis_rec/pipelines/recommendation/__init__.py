"""Which model for these images on this hardware: the ranked answer, as a table, a document and a report."""

from thesis_rec.pipelines.recommendation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
