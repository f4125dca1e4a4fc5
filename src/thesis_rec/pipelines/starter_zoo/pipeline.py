"""Wiring of the pipeline ``starter_zoo``."""

from kedro.pipeline import Node, Pipeline

from thesis_rec.pipelines.starter_zoo.nodes import (
    assemble_zoo,
    check_zoo,
    fine_tune_zoo_models,
    measure_zoo_models,
    plan_zoo,
    profile_zoo_models,
    train_zoo_encoder,
    train_zoo_models,
)


def create_pipeline(**kwargs: object) -> Pipeline:
    """Plan the zoo, train its models and encoder, measure, fine-tune and profile them, write it down, check it."""
    return Pipeline(
        [
            Node(
                plan_zoo,
                inputs="params:starter_zoo",
                outputs=["starter_zoo_build", "starter_zoo_plan"],
                name="plan_zoo_node",
            ),
            Node(
                train_zoo_models,
                inputs=["starter_zoo_build", "params:starter_zoo"],
                outputs="starter_zoo_training_failures",
                name="train_zoo_models_node",
            ),
            Node(
                train_zoo_encoder,
                inputs=["starter_zoo_build", "params:starter_zoo"],
                outputs="starter_zoo_encoder_failures",
                name="train_zoo_encoder_node",
            ),
            Node(
                measure_zoo_models,
                inputs=["starter_zoo_build", "starter_zoo_training_failures", "params:starter_zoo"],
                outputs="starter_zoo_truth_failures",
                name="measure_zoo_models_node",
            ),
            Node(
                fine_tune_zoo_models,
                inputs=["starter_zoo_build", "starter_zoo_training_failures", "params:starter_zoo"],
                outputs="starter_zoo_fine_tuning_failures",
                name="fine_tune_zoo_models_node",
            ),
            Node(
                profile_zoo_models,
                inputs=["starter_zoo_build", "starter_zoo_training_failures", "params:starter_zoo"],
                outputs="starter_zoo_hardware_failures",
                name="profile_zoo_models_node",
            ),
            Node(
                assemble_zoo,
                inputs=[
                    "starter_zoo_build",
                    "starter_zoo_training_failures",
                    "starter_zoo_encoder_failures",
                    "starter_zoo_truth_failures",
                    "starter_zoo_fine_tuning_failures",
                    "starter_zoo_hardware_failures",
                    "params:starter_zoo",
                ],
                outputs=["starter_zoo_summary", "starter_zoo_failures"],
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
