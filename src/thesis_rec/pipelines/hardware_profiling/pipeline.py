"""Wiring of the pipeline hardware_profiling."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from thesis_rec.pipelines.hardware_profiling.nodes import (
    check_hardware_profiles,
    join_hardware_profiles,
    profile_models,
)


def create_pipeline(**kwargs: Any) -> Pipeline:
    """From the model manifest to measured latency, throughput and memory on the present device."""
    return Pipeline(
        [
            Node(
                profile_models,
                inputs=["model_manifest", "existing_hardware_outcomes", "params:hardware_profiling"],
                outputs="hardware_outcomes",
                name="profile_models_node",
            ),
            Node(
                join_hardware_profiles,
                inputs=["model_manifest", "hardware_outcomes", "params:hardware_profiling"],
                outputs=["hardware_profiles", "hardware_failures"],
                name="join_hardware_profiles_node",
                tags="join",
            ),
            Node(
                check_hardware_profiles,
                inputs=["hardware_profiles", "hardware_failures", "params:hardware_profiling"],
                outputs=None,
                name="check_hardware_profiles_node",
                tags="join",
            ),
        ],
        tags="hardware_profiling",
    )
