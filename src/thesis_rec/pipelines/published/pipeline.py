"""Wiring of the pipeline published."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from thesis_rec.pipelines.published.nodes import (
    learn_published_knowledge,
    read_published_cells,
    tell_domains_apart,
)


def create_pipeline(**kwargs: Any) -> Pipeline:
    """From published tables to what the hub zoo knows of models before anything is tried."""
    return Pipeline(
        [
            Node(
                read_published_cells,
                inputs="params:published",
                outputs=["published_cells", "published_report"],
                name="read_published_cells_node",
            ),
            Node(
                learn_published_knowledge,
                inputs=["hub_model_manifest", "published_cells", "published_report", "params:published"],
                outputs=["hub_knowledge", "hub_provenance"],
                name="learn_published_knowledge_node",
            ),
            Node(
                tell_domains_apart,
                inputs=["hub_knowledge", "published_cells"],
                outputs="hub_domains",
                name="tell_domains_apart_node",
            ),
        ],
        tags="published",
    )
