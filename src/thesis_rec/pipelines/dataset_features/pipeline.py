"""Wiring of the pipeline dataset_features."""

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.dataset_features import nodes


def create_pipeline() -> Pipeline:
    """From the dataset manifest to token shards, the table of failures and the encoder's own evaluation."""
    steps = [
        step(nodes.encode_datasets, ["dataset_tokens", "dataset_outcomes"]),
        step(nodes.join_dataset_failures, "dataset_failures", tags="join"),
        step(nodes.check_dataset_features, tags="join"),
        step(nodes.evaluate_encoder, "encoder_evaluation", tags="join"),
    ]
    return Pipeline(steps)
