"""Checkpoints to vectors of 8192 numbers, model by model."""

from thesis_rec.pipelines.model_extraction.pipeline import create_pipeline

__all__ = ["create_pipeline"]
