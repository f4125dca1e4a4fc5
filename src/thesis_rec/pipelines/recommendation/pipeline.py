"""Wiring of the pipeline recommendation."""

from kedro.pipeline import Pipeline

from thesis_rec.pipelines.boxes import step
from thesis_rec.pipelines.recommendation import nodes
from thesis_rec.recommendation.bundle import NEEDED

#: What the other pipelines of a run make, by catalog name.
OWN = (*NEEDED, "model_metadata", "hardware_profiles", "model_responses", "model_spectra")


def create_pipeline(own: bool = False) -> Pipeline:
    """From artefacts to the answer to one request.

    Args:
        own: Whether the artefacts are those that other pipelines of the same run make; otherwise they are one's own of
            earlier runs, or those that came with the project.
    """
    steps = [
        step(nodes.assemble_bundle, "recommendation_bundle"),
        step(nodes.recommend_models, ["recommendation", "recommendation_answer", "recommendation_report"]),
    ]
    if not own:
        return Pipeline(steps)
    collect = step(nodes.collect_artefacts, "artefacts_of_this_run", {name: name for name in OWN})
    return Pipeline([collect]) + Pipeline(steps, inputs={"recommendation_artefacts": "artefacts_of_this_run"})
