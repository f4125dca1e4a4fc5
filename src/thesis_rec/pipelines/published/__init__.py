"""The pipeline published: what the hub zoo knows from published figures."""

from thesis_rec.pipelines.published.pipeline import create_pipeline

__all__ = ["create_pipeline"]
