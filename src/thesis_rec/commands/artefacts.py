"""The bundle of the project, read through its catalog: one's own artefacts before those that came with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thesis_rec.base.errors import ConfigurationError, ThesisRecError
from thesis_rec.recommendation.bundle import Bundle


def load_bundle(project: str | Path | None = None, environment: str | None = None) -> Bundle:
    """Read what a recommendation needs.

    Args:
        project: Folder of the project; by default the present folder or the nearest above it.
        environment: Kedro environment, by default the usual one.

    Raises:
        ConfigurationError: If there is no project, or no trained ranker in it.
    """
    from kedro.io import DatasetError

    from thesis_rec.pipelines.recommendation.nodes import assemble_bundle
    from thesis_rec.pipelines.recommendation.parameters import RecommendationParameters

    folder = find_project(project)
    context = load_context(folder, environment)
    parameters = RecommendationParameters.model_validate(context.params["recommendation"])
    catalog = context.catalog
    try:
        manifest, datasets = catalog.load("model_manifest"), catalog.load("dataset_manifest")
        artefacts = catalog.load("recommendation_artefacts")
    except DatasetError as error:
        raise explained(error) from error
    return assemble_bundle(manifest, datasets, artefacts, absolute(parameters, folder))


def load_autoencoder(project: str | Path | None = None, environment: str | None = None) -> dict[str, Any]:
    """The encoder half of one's own autoencoder, in half precision.

    Args:
        project: As for :func:`load_bundle`.
        environment: As for :func:`load_bundle`.
    """
    from thesis_rec.models.auto_encoder import encoder_half

    return encoder_half(load_context(find_project(project), environment).catalog.load("autoencoder_checkpoint"))


def load_context(folder: Path, environment: str | None) -> Any:
    """Kedro's context of a project: its parameters and catalog."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(folder)
    with KedroSession.create(project_path=folder, env=environment) as session:
        return session.load_context()  # type: ignore[attr-defined]


def find_project(start: str | Path | None = None) -> Path:
    """The nearest folder of this project, from ``start`` upwards.

    Raises:
        ConfigurationError: If there is none.
    """
    from kedro.utils import find_kedro_project

    folder = find_kedro_project(Path(start or Path.cwd()).expanduser().resolve())
    if folder is None:
        raise ConfigurationError(
            f"{start or Path.cwd()} is not within a project; give its folder as `project=` or change to it."
        )
    return Path(folder)


def absolute(parameters: Any, folder: Path) -> Any:
    """Parameters whose relative paths are those of the project's folder, wherever the process runs."""
    source = folder / parameters.encoder.source
    encoder = parameters.encoder
    if source.is_dir():
        encoder = encoder.model_copy(update={"source": str(source)})
    return parameters.model_copy(update={"encoder": encoder, "models_root": str(folder / parameters.models_root)})


def explained(error: Exception) -> ThesisRecError:
    """The project's own error behind one of Kedro's, or its message as one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ThesisRecError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return ConfigurationError(str(error).strip())
