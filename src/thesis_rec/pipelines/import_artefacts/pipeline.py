"""Wiring of the pipeline import_artefacts."""

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.import_artefacts import nodes


def create_pipeline() -> Pipeline:
    """From existing files to performance records, vectors, embeddings and tokens in the project's forms."""
    steps = [
        step(nodes.import_records, ["imported_records", "record_failures"]),
        step(
            nodes.import_feature_arrays,
            ["imported_vectors", "array_embeddings", "imported_tokens", "array_failures"],
        ),
        step(
            nodes.import_networks,
            ["imported_autoencoder", "imported_embeddings", "imported_scores", "network_failures"],
        ),
        step(nodes.check_imports, "import_failures"),
    ]
    return Pipeline(steps)
