"""Makes the embedded zoo: trains its models and its image encoder, measures and profiles them, writes it all down."""

from thesis_rec.pipelines.starter_zoo.pipeline import create_pipeline

__all__ = ["create_pipeline"]
