"""Wiring of the pipeline published."""

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.published import nodes


def create_pipeline() -> Pipeline:
    """From published tables to what the hub zoo knows of models before anything is tried."""
    steps = [
        step(nodes.read_published_cells, ["published_cells", "published_report"]),
        step(nodes.learn_published_knowledge, ["hub_knowledge", "hub_domains", "hub_provenance"]),
    ]
    return Pipeline(steps)
