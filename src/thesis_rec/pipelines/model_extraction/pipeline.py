"""Wiring of the pipeline model_extraction."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from thesis_rec.pipelines.model_extraction.nodes import (
    check_extraction,
    describe_models,
    extract_vectors,
    join_extraction_failures,
)


def create_pipeline(**kwargs: Any) -> Pipeline:
    """From the model manifest to one vector per model, spectra, the table of failures and a line on each model."""
    return Pipeline(
        [
            Node(
                extract_vectors,
                inputs=[
                    "model_manifest",
                    "existing_model_vectors",
                    "existing_extraction_outcomes",
                    "params:model_extraction",
                ],
                outputs=["model_vectors", "extraction_outcomes"],
                name="extract_vectors_node",
            ),
            Node(
                join_extraction_failures,
                inputs=["model_manifest", "extraction_outcomes", "params:model_extraction"],
                outputs="extraction_failures",
                name="join_extraction_failures_node",
                tags="join",
            ),
            Node(
                describe_models,
                inputs=["model_manifest", "model_vectors", "extraction_outcomes", "params:model_extraction"],
                outputs=["model_metadata", "model_spectra"],
                name="describe_models_node",
                tags="join",
            ),
            Node(
                check_extraction,
                inputs=["model_metadata", "extraction_failures", "params:model_extraction"],
                outputs=None,
                name="check_extraction_node",
                tags="join",
            ),
        ],
        tags="model_extraction",
    )
