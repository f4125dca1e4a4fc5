"""The registered pipelines, by name."""

from kedro.pipeline import Pipeline

from thesis_rec.base.errors import ConfigurationError, did_you_mean

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
    from thesis_rec.pipelines.autoencoder import pipeline as autoencoder
    from thesis_rec.pipelines.boxes import boxed
    from thesis_rec.pipelines.dataset_features import pipeline as dataset_features
    from thesis_rec.pipelines.evaluation import pipeline as evaluation
    from thesis_rec.pipelines.external_benchmark import pipeline as external_benchmark
    from thesis_rec.pipelines.ground_truth import pipeline as ground_truth
    from thesis_rec.pipelines.hardware_profiling import pipeline as hardware_profiling
    from thesis_rec.pipelines.import_artefacts import pipeline as import_artefacts
    from thesis_rec.pipelines.model_extraction import pipeline as model_extraction
    from thesis_rec.pipelines.published import pipeline as published
    from thesis_rec.pipelines.recommendation import pipeline as recommendation
    from thesis_rec.pipelines.similarity_training import pipeline as similarity_training
    from thesis_rec.pipelines.starter_zoo import pipeline as starter_zoo

    # Named rather than found in a folder, so that sums of pipelines can be run by name as well.
    modules = (
        model_extraction, autoencoder, dataset_features, similarity_training, evaluation, starter_zoo, ground_truth,
        hardware_profiling, recommendation, external_benchmark, published, import_artefacts,
    )  # fmt: skip
    made = {module.__name__.split(".")[-2]: module.create_pipeline() for module in modules}
    pipelines = {name: boxed(pipeline, name) for name, pipeline in made.items()}
    five: Pipeline = sum((pipelines[name] for name in FIVE), Pipeline([]))
    answer = boxed(recommendation.create_pipeline(own=True), "recommendation")
    pipelines["full"] = five + pipelines["hardware_profiling"] + answer
    pipelines["__default__"] = five
    return pipelines
