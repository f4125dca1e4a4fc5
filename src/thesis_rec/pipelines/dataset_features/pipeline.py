"""Wiring of the pipeline dataset_features."""

from typing import Any

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.dataset_features import nodes


def create_pipeline(**kwargs: Any) -> Pipeline:
    """From the dataset manifest to token shards, the table of failures and the encoder's own evaluation."""
    return Pipeline(
        [
            step(
                nodes.encode_datasets,
                [
                    "dataset_manifest",
                    "existing_dataset_tokens",
                    "existing_dataset_outcomes",
                    "params:dataset_features",
                ],
                ["dataset_tokens", "dataset_outcomes"],
            ),
            step(
                nodes.join_dataset_failures,
                ["dataset_manifest", "dataset_outcomes", "params:dataset_features"],
                "dataset_failures",
                tags="join",
            ),
            step(
                nodes.check_dataset_features,
                ["dataset_manifest", "dataset_tokens", "dataset_failures", "params:dataset_features"],
                None,
                tags="join",
            ),
            step(
                nodes.evaluate_encoder,
                ["dataset_manifest", "dataset_tokens", "existing_encoder_evaluation", "params:dataset_features"],
                "encoder_evaluation",
                tags="join",
            ),
        ]
    )
