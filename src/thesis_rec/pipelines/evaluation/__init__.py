"""The ranker and every baseline on the same cells, in four quadrants, with intervals and figures."""

from thesis_rec.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
