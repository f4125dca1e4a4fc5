"""Wiring of the pipeline ``starter_zoo``."""

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.starter_zoo import nodes


def create_pipeline() -> Pipeline:
    """Plan the zoo, train and measure what is missing of it, write it down, check it."""
    steps = [
        step(nodes.plan_zoo, ["starter_zoo_build", "starter_zoo_plan"]),
        step(nodes.build_zoo, "starter_zoo_failures"),
        step(nodes.assemble_zoo, "starter_zoo_summary"),
        step(nodes.check_zoo),
    ]
    return Pipeline(steps)
