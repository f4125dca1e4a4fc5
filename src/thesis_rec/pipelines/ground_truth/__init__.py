"""Measures what models really achieve on datasets: linear probes, fine-tuning, transferability scores, responses."""

from thesis_rec.pipelines.ground_truth.pipeline import create_pipeline

__all__ = ["create_pipeline"]
