"""Wiring of the pipeline recommendation."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from thesis_rec.pipelines.recommendation.nodes import assemble_bundle, collect_artefacts, recommend_models

#: What the other pipelines of a run make, by catalog name.
OWN = (
    "knowledge",
    "model_embeddings",
    "model_metadata",
    "dataset_tokens",
    "performance",
    "hardware_profiles",
    "model_responses",
    "model_spectra",
)


def create_pipeline(own: bool = False, **kwargs: Any) -> Pipeline:
    """From artefacts to the answer to one request.

    Args:
        own: Whether the artefacts are those that other pipelines of the same run make; otherwise they are one's own of
            earlier runs, or those that came with the project.
        kwargs: Ignored.
    """
    artefacts = "artefacts_of_this_run" if own else "recommendation_artefacts"
    nodes = [
        Node(
            assemble_bundle,
            inputs=["model_manifest", "dataset_manifest", artefacts, "params:recommendation"],
            outputs="recommendation_bundle",
            name="assemble_bundle_node",
        ),
        Node(
            recommend_models,
            inputs=["recommendation_bundle", "params:recommendation"],
            outputs=["recommendation", "recommendation_answer", "recommendation_report"],
            name="recommend_models_node",
        ),
    ]
    if own:
        collect = Node(
            collect_artefacts,
            inputs={name: name for name in OWN},
            outputs=artefacts,
            name="collect_artefacts_node",
        )
        nodes.insert(0, collect)
    return Pipeline(nodes, tags="recommendation")
