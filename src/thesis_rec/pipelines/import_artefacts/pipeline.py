"""Wiring of the pipeline import_artefacts."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from thesis_rec.pipelines.import_artefacts.nodes import (
    check_imports,
    import_feature_arrays,
    import_networks,
    import_records,
)


def create_pipeline(**kwargs: Any) -> Pipeline:
    """From existing files to performance records, vectors, embeddings and tokens in the project's forms."""
    return Pipeline(
        [
            Node(
                import_records,
                inputs="params:import_artefacts",
                outputs=["imported_records", "record_failures"],
                name="import_records_node",
            ),
            Node(
                import_feature_arrays,
                inputs="params:import_artefacts",
                outputs=["imported_vectors", "array_embeddings", "imported_tokens", "array_failures"],
                name="import_feature_arrays_node",
            ),
            Node(
                import_networks,
                inputs=["imported_vectors", "array_embeddings", "imported_tokens", "params:import_artefacts"],
                outputs=["imported_autoencoder", "imported_embeddings", "imported_scores", "network_failures"],
                name="import_networks_node",
            ),
            Node(
                check_imports,
                inputs=[
                    "imported_records",
                    "imported_embeddings",
                    "record_failures",
                    "array_failures",
                    "network_failures",
                    "params:import_artefacts",
                ],
                outputs="import_failures",
                name="check_imports_node",
            ),
        ],
        tags="import_artefacts",
    )
