"""Wiring of the pipeline hardware_profiling."""

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.hardware_profiling import nodes


def create_pipeline() -> Pipeline:
    """From the model manifest to measured latency, throughput and memory on the present device."""
    steps = [
        step(nodes.profile_models, "hardware_outcomes"),
        step(nodes.join_hardware_profiles, ["hardware_profiles", "hardware_failures"], tags="join"),
        step(nodes.check_hardware_profiles, tags="join"),
    ]
    return Pipeline(steps)
