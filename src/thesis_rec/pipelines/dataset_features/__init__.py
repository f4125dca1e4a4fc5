"""Datasets to tokens: class-balanced batches of images, encoded and sharded."""

from thesis_rec.pipelines.dataset_features.pipeline import create_pipeline

__all__ = ["create_pipeline"]
