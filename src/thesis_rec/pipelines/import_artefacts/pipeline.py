"""Wiring of the pipeline import_artefacts."""

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.import_artefacts import nodes


def create_pipeline() -> Pipeline:
    """From existing files to performance records, vectors, embeddings and tokens in the project's forms."""
    made = [f"imported_{what}" for what in ("records", "vectors", "embeddings", "tokens", "autoencoder", "scores")]
    steps = [step(nodes.import_artefacts, [*made, "import_failures"]), step(nodes.check_imports)]
    return Pipeline(steps)
