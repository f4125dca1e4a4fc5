"""Wiring of the pipeline dataset_features."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from thesis_rec.pipelines.dataset_features.nodes import (
    check_dataset_features,
    encode_datasets,
    evaluate_encoder,
    join_dataset_failures,
)


def create_pipeline(**kwargs: Any) -> Pipeline:
    """From the dataset manifest to token shards, the table of failures and the encoder's own evaluation."""
    return Pipeline(
        [
            Node(
                encode_datasets,
                inputs=["dataset_manifest", "existing_dataset_tokens", "params:dataset_features"],
                outputs=["dataset_tokens", "dataset_outcomes"],
                name="encode_datasets_node",
            ),
            Node(
                join_dataset_failures,
                inputs=["dataset_manifest", "dataset_outcomes", "params:dataset_features"],
                outputs="dataset_failures",
                name="join_dataset_failures_node",
                tags="join",
            ),
            Node(
                check_dataset_features,
                inputs=["dataset_manifest", "dataset_tokens", "dataset_failures", "params:dataset_features"],
                outputs=None,
                name="check_dataset_features_node",
                tags="join",
            ),
            Node(
                evaluate_encoder,
                inputs=["dataset_manifest", "dataset_tokens", "params:dataset_features"],
                outputs="encoder_evaluation",
                name="evaluate_encoder_node",
                tags="join",
            ),
        ],
        tags="dataset_features",
    )
