"""The ranker and the baselines on published tables of fine-tuned models."""

from thesis_rec.pipelines.external_benchmark.pipeline import create_pipeline

__all__ = ["create_pipeline"]
