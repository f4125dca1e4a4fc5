"""The registered pipelines, by name."""

from importlib import import_module

from kedro.pipeline import Pipeline

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.text import did_you_mean

#: What ``kedro run`` does: the five steps from weights and images to an evaluated ranking.
FIVE = ("model_extraction", "autoencoder", "dataset_features", "similarity_training", "evaluation")

#: What stands around them.
AROUND = (
    "starter_zoo",
    "ground_truth",
    "hardware_profiling",
    "recommendation",
    "external_benchmark",
    "published",
    "import_artefacts",
)

#: Everything that ``kedro run --pipelines`` takes.
NAMES = (*FIVE, *AROUND, "full", "__default__")


#: Names of the thesis code's trainers and steps, and the pipelines that do their work.
ALIASES = {
    "modelextractor": "model_extraction",
    "modelautoencoder": "autoencoder",
    "datasetfeatures": "dataset_features",
    "similaritytransformer": "similarity_training",
}


def pipeline_name(name: str) -> str:
    """A registered pipeline by its name or its name in the thesis code.

    Raises:
        ConfigurationError: If there is none.
    """
    name = ALIASES.get(name.lower().replace("_", ""), name)
    if name in NAMES:
        return name
    raise ConfigurationError(f"There is no pipeline {name!r}.{did_you_mean(name, NAMES)} There are {', '.join(NAMES)}.")


def register_pipelines() -> dict[str, Pipeline]:
    """All pipelines; ``__default__`` joins the five, ``full`` adds hardware profiling and the recommendation."""
    # Who asks for a name alone doesn't wait for what pipelines import.
    from thesis_rec.pipelines.boxes import boxed

    # Named rather than found in a folder, so that sums of pipelines can be run by name as well.
    modules = {name: import_module(f"thesis_rec.pipelines.{name}.pipeline") for name in (*FIVE, *AROUND)}
    pipelines = {name: boxed(module.create_pipeline(), name) for name, module in modules.items()}
    five: Pipeline = sum((pipelines[name] for name in FIVE), Pipeline([]))
    answer = boxed(modules["recommendation"].create_pipeline(own=True), "recommendation")
    pipelines["full"] = five + pipelines["hardware_profiling"] + answer
    pipelines["__default__"] = five
    return pipelines
