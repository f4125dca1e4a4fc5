"""Wiring of the pipeline ``ground_truth``."""

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.ground_truth import nodes


def create_pipeline() -> Pipeline:
    """Load images, measure every model on every task, join the tables, check and summarise them."""
    steps = [
        step(nodes.load_ground_truth_images, ["ground_truth_images", "ground_truth_dataset_failures"]),
        step(nodes.measure_models, "ground_truth_cells"),
        step(
            nodes.join_measurements,
            [
                "measured_performance",
                "measured_transferability_scores",
                "measured_model_responses",
                "ground_truth_failures",
            ],
            tags="join",
        ),
        step(nodes.check_ground_truth, "ground_truth_summary", tags="join"),
    ]
    return Pipeline(steps)
