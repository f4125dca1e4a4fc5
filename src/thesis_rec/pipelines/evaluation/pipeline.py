"""Wiring of the pipeline evaluation."""

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.evaluation import nodes
from thesis_rec.pipelines.study import NODES


def create_pipeline() -> Pipeline:
    """From trained rankers and measured truth to rankings, metrics and figures of every method."""
    steps = [
        *NODES,
        step(nodes.measure_noise, "noise_ceiling"),
        step(nodes.evaluate_rankings, ["rankings", "evaluation_figures", "evaluation_metrics"]),
        step(nodes.draw_evaluation, ["evaluation_plots", "evaluation_overview"]),
    ]
    return Pipeline(steps)
