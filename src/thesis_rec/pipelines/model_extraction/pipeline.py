"""Wiring of the pipeline model_extraction."""

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.model_extraction import nodes


def create_pipeline() -> Pipeline:
    """From the model manifest to one vector per model, spectra, the table of failures and a line on each model."""
    steps = [
        step(nodes.extract_vectors, ["model_vectors", "extraction_outcomes"]),
        step(nodes.join_extraction_failures, "extraction_failures", tags="join"),
        step(nodes.describe_models, ["model_metadata", "model_spectra"], tags="join"),
        step(nodes.check_extraction, tags="join"),
    ]
    return Pipeline(steps)
