"""Wiring of the pipeline ``ground_truth``."""

from kedro.pipeline import Node, Pipeline

from thesis_rec.pipelines.ground_truth.nodes import (
    check_ground_truth,
    join_measurements,
    load_ground_truth_images,
    measure_models,
)


def create_pipeline(**kwargs: object) -> Pipeline:
    """Load images, measure every model on every task, join the tables, check and summarise them."""
    return Pipeline(
        [
            Node(
                load_ground_truth_images,
                inputs=["dataset_manifest", "params:ground_truth"],
                outputs=["ground_truth_images", "ground_truth_dataset_failures"],
                name="load_ground_truth_images_node",
            ),
            Node(
                measure_models,
                inputs=[
                    "model_manifest",
                    "dataset_manifest",
                    "ground_truth_images",
                    "existing_ground_truth_cells",
                    "params:ground_truth",
                ],
                outputs="ground_truth_cells",
                name="measure_models_node",
            ),
            Node(
                join_measurements,
                inputs=["ground_truth_cells", "model_manifest", "params:ground_truth"],
                outputs=[
                    "measured_performance",
                    "measured_transferability_scores",
                    "measured_model_responses",
                    "ground_truth_failures",
                ],
                name="join_measurements_node",
                tags="join",
            ),
            Node(
                check_ground_truth,
                inputs=[
                    "measured_performance",
                    "ground_truth_failures",
                    "ground_truth_dataset_failures",
                    "params:ground_truth",
                ],
                outputs="ground_truth_summary",
                name="check_ground_truth_node",
                tags="join",
            ),
        ],
        tags="ground_truth",
    )
