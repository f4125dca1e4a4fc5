"""Nodes of the pipeline ``ground_truth``."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from thesis_rec.base.errors import ConfigurationError, Failure, check_failures, failures_frame
from thesis_rec.base.files import sha256_json
from thesis_rec.base.resuming import outcome_failures
from thesis_rec.base.settings import Seed, Settings, Words
from thesis_rec.images.dataset_source import ImageLimits
from thesis_rec.images.loading import MOST_BYTES, load_task_images
from thesis_rec.images.manifest import DatasetRow, read_dataset_manifest
from thesis_rec.models.model_manifest import read_manifest
from thesis_rec.models.model_sources import locate, weights_fingerprint
from thesis_rec.pipelines.selection import ModelStep, check_names, networks
from thesis_rec.starter.sides import REFERENCE_TASKS
from thesis_rec.tasks import task_images
from thesis_rec.truth import measuring, performance_records
from thesis_rec.truth.performance_records import Score
from thesis_rec.truth.responses import reference_tasks
from thesis_rec.truth.settings import CampaignSettings

Tables = dict[str, Callable[[], pd.DataFrame]]


class ImageParameters(Settings):
    """How much of each dataset is used."""

    n_per_class: int = Field(default=60, ge=1)
    size: int | None = Field(default=None, ge=8)
    largest: int = Field(default=512, ge=8)
    seed: Seed = 0


class GroundTruthParameters(CampaignSettings, ModelStep):
    """All knobs of ``params:ground_truth``; see ``conf/base/parameters/ground_truth.yml``."""

    images_root: str
    models: Words[str] = ()
    datasets: Words[str] = ()
    subtasks: bool = False
    reference: Literal["starter", "none"] = "starter"
    images: ImageParameters = ImageParameters()
    scores: Words[Score] = ("logme", "h_score", "h_score_shrunk", "leep", "n_leep", "gbc")
    batch_size: int = Field(default=512, ge=1)

    @property
    def reference_tasks(self) -> tuple[str, ...]:
        """Tasks that describe models, on which none is evaluated."""
        return REFERENCE_TASKS if self.reference == "starter" else ()


def load_ground_truth_images(
    dataset_manifest: pd.DataFrame, parameters: GroundTruthParameters
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Load the images of all datasets that are measured, and of the reference tasks.

    Args:
        dataset_manifest: Rows of datasets and sub-tasks.
        parameters: Which datasets, and how many images of each.

    Returns:
        ``TaskImages`` by dataset id, and the datasets that could not be used.
    """
    rows, failures = _selected_datasets(dataset_manifest, parameters)
    bases = [row for row in rows if not row.is_subtask]
    root = Path(parameters.images_root).expanduser()
    size, largest = parameters.images.size, parameters.images.largest
    limits = ImageLimits(**parameters.images.model_dump(exclude={"size", "largest"}))
    memory = 4 * MOST_BYTES // max(4, len(bases))  # all are held at once
    images: dict[str, Any] = {}
    for row in bases:
        # Generated ones are the very images on which the embedded zoo was measured, so that its rows can be reproduced.
        drawn = row.loader == "generated" and size is None
        try:
            if drawn:
                images[row.dataset_id] = task_images(row.source)
            else:
                images[row.dataset_id] = load_task_images(row, root, limits, size, failures, memory, largest)
        except Exception as error:
            # Image libraries raise anything at all for bad files; one dataset must not stop the others.
            failures.append(Failure.of(row.dataset_id, error, "Check its files and its row in the dataset manifest."))
    images |= {name: task_images(name) for name in parameters.reference_tasks if name not in images}
    failures.extend(measuring.measured_tasks(rows, images)[1])
    return images, failures_frame(failures, "dataset_id")


def measure_models(
    model_manifest: pd.DataFrame,
    dataset_manifest: pd.DataFrame,
    ground_truth_images: dict[str, Any],
    existing_ground_truth_cells: Tables,
    parameters: GroundTruthParameters,
) -> Iterator[dict[str, pd.DataFrame]]:
    """Measure this shard's models on all tasks; what was measured before is kept.

    Args:
        model_manifest: Rows of models.
        dataset_manifest: Rows of datasets and sub-tasks.
        ground_truth_images: Images of the base tasks.
        existing_ground_truth_cells: Tables of earlier runs.
        parameters: What is measured, and how.

    Yields:
        Tables by ``<model id>/<part>``, saved as they come.
    """
    from thesis_rec.models.loaders import load_backbone

    rows, _ = _selected_datasets(dataset_manifest, parameters)
    tasks, _ = measuring.measured_tasks(rows, ground_truth_images)
    root, cache = parameters.files
    yield from measuring.measure_zoo(
        parameters.shard.select(networks(model_manifest, parameters.models, "ground_truth.models")),
        load=lambda row: load_backbone(row, root, "cpu", cache),
        fingerprint=lambda row: weights_fingerprint(locate(row, root, cache, build=True)),
        campaign=_campaign(parameters, ground_truth_images, tasks),
        existing=existing_ground_truth_cells,
        asked=_asked(rows, parameters),
    )


def join_measurements(
    ground_truth_cells: Tables,
    model_manifest: pd.DataFrame,
    dataset_manifest: pd.DataFrame,
    parameters: GroundTruthParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """Join the tables of all models, those measured by other shards and earlier runs included.

    Args:
        ground_truth_cells: Tables by ``<model id>/<part>``.
        model_manifest: Models that count; tables of others are left out.
        dataset_manifest: Rows of datasets and sub-tasks.
        parameters: Which models and datasets were asked for.

    Returns:
        Performance records, transferability scores, responses and failures.
    """
    rows, unusable = read_manifest(model_manifest)
    models = [row.model_id for row in rows]
    columns = [*performance_records.RECORD_COLUMNS, *performance_records.PROVENANCE_COLUMNS]
    parts = [measuring.join_part(ground_truth_cells, models, name, columns) for name in ("linear_probe", "fine_tune")]
    records = pd.concat(parts, ignore_index=True)
    records = records.astype({"value": float, "seed": int, "n_train": int, "seconds": float, "n_test": "Int64"})
    scores = measuring.join_part(ground_truth_cells, models, "transferability", performance_records.SCORE_COLUMNS)
    scores = scores.astype({"value": float, "seconds": float})
    told = measuring.told_outcomes(ground_truth_cells, models)
    asked = {row.model_id: row for row in networks(model_manifest, parameters.models, "ground_truth.models")}
    of_now = _asked(_selected_datasets(dataset_manifest, parameters)[0], parameters)
    failures = failures_frame([*unusable, *outcome_failures(asked, told, lambda row: of_now, parameters.shard)])
    return records, scores, measuring.join_responses(ground_truth_cells, models), failures


def check_ground_truth(
    measured_performance: pd.DataFrame,
    ground_truth_failures: pd.DataFrame,
    ground_truth_dataset_failures: pd.DataFrame,
    parameters: GroundTruthParameters,
) -> dict[str, Any]:
    """Raise when nothing was measured (or anything failed, with ``strict``); else summarise the tables.

    Args:
        measured_performance: Records of all models.
        ground_truth_failures: Models that failed.
        ground_truth_dataset_failures: Datasets that failed, and single images that were skipped.
        parameters: Whether a single failure is an error.

    Returns:
        Counts, and the noise ceilings and variance components of protocols with repeats.

    Raises:
        Unreached: If jobs of an array are missing; names the models.
        NothingSucceeded: If no cell was measured, or something failed and ``strict`` is set.
    """
    models, datasets = (int(measured_performance[key].nunique()) for key in ("model_id", "dataset_id"))
    check_failures(ground_truth_dataset_failures, datasets, parameters.strict, "datasets")
    check_failures(ground_truth_failures, models, parameters.strict, "models")
    components = {}
    for protocol in sorted(measured_performance["protocol"].unique()):
        with suppress(ValueError):  # too few models, tasks or repeats
            components[protocol] = performance_records.variance_components(measured_performance, protocol)
    return {
        "models": models,
        "datasets": datasets,
        "records": len(measured_performance),
        "failed_models": len(ground_truth_failures),
        "noise_ceiling": performance_records.noise_ceilings(measured_performance, parameters.seed),
        "variance_components": components,
    }


def _selected_datasets(manifest: pd.DataFrame, parameters: GroundTruthParameters) -> tuple[list[Any], list[Failure]]:
    """Rows to measure and the bases that their sub-tasks need, without reference tasks; and unusable rows."""
    rows, failures = read_dataset_manifest(manifest)
    if wanted := set(parameters.datasets):
        failures = [failure for failure in failures if failure.item in wanted]
        known = {row.dataset_id for row in rows} | {failure.item for failure in failures}
        check_names(parameters.datasets, known, "ground_truth.datasets", "dataset of the manifest")
        # A sub-task that is asked for by name is measured whatever `subtasks` says.
        chosen = [row for row in rows if row.dataset_id in wanted]
        parents = {base for row in chosen for base in row.parent}
        return [row for row in rows if row.dataset_id in wanted | parents], failures
    return [row for row in rows if parameters.subtasks or not row.is_subtask], failures


def _asked(rows: Iterable[DatasetRow], parameters: GroundTruthParameters) -> str:
    """What tells the choice of datasets and protocols that a model was measured for."""
    return sha256_json([sorted(row.dataset_id for row in rows), sorted(parameters.protocols)])


def _campaign(parameters: GroundTruthParameters, images: dict[str, Any], tasks: list[Any]) -> measuring.Campaign:
    sizes = {task.train_images.shape[1:3] for task in images.values()}
    if "fine_tune" in parameters.protocols and len(sizes) > 1:
        hint = "set ground_truth.images.size, or choose datasets of one size."
        raise ConfigurationError(f"fine_tune needs images of one size, but there are {sorted(sizes)}: {hint}")
    reference = {name: len(images[name].class_names) for name in parameters.reference_tasks}
    evaluated = [task for task in tasks if not {base for base, _ in task.members} & set(reference)]
    return measuring.Campaign(images, evaluated, reference_tasks(reference), parameters)
