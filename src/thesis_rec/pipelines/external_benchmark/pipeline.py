"""Wiring of the pipeline external_benchmark."""

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.external_benchmark import nodes


def create_pipeline() -> Pipeline:
    """From a folder of published tables to the figures of every method on them."""
    steps = [
        step(nodes.read_published_table, "published_table"),
        step(nodes.evaluate_published_table, "external_metrics"),
        step(nodes.draw_external_metrics, "external_plot"),
    ]
    return Pipeline(steps)
