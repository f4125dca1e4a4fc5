"""Wiring of the pipeline ``starter_zoo``."""

from kedro.pipeline import Node, Pipeline

from thesis_rec.pipelines.starter_zoo.nodes import assemble_zoo, build_zoo, check_zoo, plan_zoo


def create_pipeline(**kwargs: object) -> Pipeline:
    """Plan the zoo, train and measure what is missing of it, write it down, check it."""
    return Pipeline(
        [
            Node(
                plan_zoo,
                inputs="params:starter_zoo",
                outputs=["starter_zoo_build", "starter_zoo_plan"],
                name="plan_zoo_node",
            ),
            Node(
                build_zoo,
                inputs=["starter_zoo_build", "params:starter_zoo"],
                outputs="starter_zoo_failures",
                name="build_zoo_node",
            ),
            Node(
                assemble_zoo,
                inputs=["starter_zoo_build", "starter_zoo_failures", "params:starter_zoo"],
                outputs="starter_zoo_summary",
                name="assemble_zoo_node",
            ),
            Node(
                check_zoo,
                inputs=["starter_zoo_summary", "starter_zoo_failures", "params:starter_zoo"],
                outputs=None,
                name="check_zoo_node",
            ),
        ],
        tags="starter_zoo",
    )
