"""Wiring of the pipeline evaluation."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from thesis_rec.pipelines.evaluation.nodes import (
    draw_evaluation,
    evaluate_rankings,
    measure_noise,
)
from thesis_rec.pipelines.study import NODES


def create_pipeline(**kwargs: Any) -> Pipeline:
    """From trained rankers and measured truth to rankings, metrics and figures of every method."""
    return Pipeline(
        [
            *NODES,
            Node(
                measure_noise,
                inputs=["performance_records", "params:evaluation"],
                outputs="noise_ceiling",
                name="measure_noise_node",
            ),
            Node(
                evaluate_rankings,
                inputs=[
                    "performance",
                    "splits",
                    "knowledge_of_known",
                    "similarity_checkpoint",
                    "candidate_models",
                    "task_tokens",
                    "dataset_manifest",
                    "transferability_scores",
                    "noise_ceiling",
                    "params:evaluation",
                ],
                outputs=["rankings", "evaluation_figures", "evaluation_metrics"],
                name="evaluate_rankings_node",
            ),
            Node(
                draw_evaluation,
                inputs="evaluation_metrics",
                outputs=["evaluation_plots", "evaluation_pictures", "evaluation_overview"],
                name="draw_evaluation_node",
            ),
        ],
        tags="evaluation",
    )
