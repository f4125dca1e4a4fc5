"""Wiring of the pipeline external_benchmark."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from thesis_rec.pipelines.external_benchmark.nodes import (
    draw_external_metrics,
    evaluate_published_table,
    read_published_table,
)


def create_pipeline(**kwargs: Any) -> Pipeline:
    """From a folder of published tables to the figures of every method on them."""
    return Pipeline(
        [
            Node(
                read_published_table,
                inputs="params:external_benchmark",
                outputs="published_table",
                name="read_published_table_node",
            ),
            Node(
                evaluate_published_table,
                inputs=["published_table", "params:external_benchmark"],
                outputs="external_metrics",
                name="evaluate_published_table_node",
            ),
            Node(
                draw_external_metrics,
                inputs="external_metrics",
                outputs="external_plot",
                name="draw_external_metrics_node",
            ),
        ],
        tags="external_benchmark",
    )
