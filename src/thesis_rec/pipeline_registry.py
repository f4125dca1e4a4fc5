"""The registered pipelines, by name."""

from kedro.pipeline import Pipeline

#: What ``kedro run`` does: the five steps from weights and images to an evaluated ranking.
FIVE = ("model_extraction", "autoencoder", "dataset_features", "similarity_training", "evaluation")

#: What stands around them.
AROUND = (
    "starter_zoo",
    "ground_truth",
    "hardware_profiling",
    "recommendation",
    "external_benchmark",
    "import_artefacts",
)


def register_pipelines() -> dict[str, Pipeline]:
    """All pipelines; ``__default__`` joins the five, ``full`` adds hardware profiling and the recommendation."""
    from importlib import import_module

    # Imported by name rather than found in a folder, so that sums of pipelines can be run by name as well.
    pipelines = {name: import_module(f"thesis_rec.pipelines.{name}").create_pipeline() for name in (*FIVE, *AROUND)}
    five: Pipeline = sum((pipelines[name] for name in FIVE), Pipeline([]))
    recommendation = import_module("thesis_rec.pipelines.recommendation").create_pipeline(own=True)
    pipelines["full"] = five + pipelines["hardware_profiling"] + recommendation
    pipelines["__default__"] = five
    return pipelines
