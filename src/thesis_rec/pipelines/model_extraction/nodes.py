"""Nodes of the pipeline model_extraction."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from thesis_rec.base.errors import check_failures, failures_frame
from thesis_rec.base.files import load_arrays
from thesis_rec.base.resuming import outcome_failures
from thesis_rec.base.settings import evenly
from thesis_rec.catalog.files import Partitions
from thesis_rec.knowledge.protocols import ProtocolKnowledge
from thesis_rec.models import model_extraction, model_sources
from thesis_rec.models.model_manifest import ManifestRow, read_manifest
from thesis_rec.pipelines.selection import ModelStep


class ModelExtractionParameters(ModelStep):
    """What ``conf/base/parameters/model_extraction.yml`` holds; each knob is explained there."""

    max_models: int | None = Field(default=None, ge=1)
    fetch_gb: float = Field(default=float("inf"), ge=0)
    bundle: str = ""
    threads: int | None = Field(default=None, ge=1)


def extract_vectors(
    model_manifest: pd.DataFrame,
    existing_model_vectors: Partitions,
    existing_extraction_outcomes: Partitions,
    parameters: ModelExtractionParameters,
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Extract this shard's models; what is up to date is kept.

    Yields:
        New vectors and outcomes by model, as they come: both are saved at once, so a killed run loses one
        model at most.
    """
    plan = fetch_plan(model_manifest, parameters)
    left_out = set(plan.index[plan["fate"] == model_sources.LEFT_OUT])
    without = [model_sources.left_out_failure(model, model_sources.hub_is_reachable()) for model in left_out]
    yield {}, {failure.item: asdict(failure) for failure in without}
    rows = [row for row in parameters.shard.select(_rows(model_manifest, parameters)) if row.model_id not in left_out]
    yield from model_extraction.extract_models(
        rows, *parameters.files, existing_model_vectors, existing_extraction_outcomes, parameters.threads
    )


def fetch_plan(model_manifest: pd.DataFrame, parameters: ModelExtractionParameters) -> pd.DataFrame:
    """Which of this shard's models are here, which will be downloaded and which are left out.

    Each shard may download its part of the limit.
    """
    rows = parameters.shard.select(_rows(model_manifest, parameters))
    here = model_sources.models_here(rows, parameters.files[1])
    online = len(here) == len(rows) or model_sources.hub_is_reachable()
    limit = parameters.fetch_gb / parameters.shard.count
    weights = _published_figures(parameters.bundle) if online and 0 < limit < float("inf") else {}
    return model_sources.plan_fetch(rows, here, weights, limit, online)


def _published_figures(bundle: str) -> dict[str, float]:
    """Number of published figures of each model; nothing where the zoo's knowledge isn't of such."""
    try:
        known = ProtocolKnowledge.from_arrays(load_arrays(Path(bundle) / "knowledge.npz"))
    except (OSError, ValueError, KeyError):
        return {}
    return {model: float(known.figures(model)) for model in known.model_ids}


def join_extraction_failures(
    model_manifest: pd.DataFrame, extraction_outcomes: Partitions, parameters: ModelExtractionParameters
) -> pd.DataFrame:
    """The failures table of all shards: unusable rows of the manifest, and models whose weights can't be read.

    A model from whose file something was left out is there too, with the share, though it has a vector.
    """
    _, unusable = read_manifest(model_manifest)
    asked = {row.model_id: row for row in _rows(model_manifest, parameters)}
    told = [(name, extraction_outcomes[name]()) for name in asked if name in extraction_outcomes]

    def of_now(row: ManifestRow) -> str | None:
        # Files of the hub aren't looked for.
        return None if row.hub_id else model_extraction.made_from(row, *parameters.files)

    return failures_frame([*unusable, *outcome_failures(asked, told, of_now, parameters.shard)])


def describe_models(
    model_manifest: pd.DataFrame, model_vectors: Partitions, parameters: ModelExtractionParameters
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Family, size and fingerprint of each extracted model; and what its weights show against random ones."""
    return model_extraction.extracted_tables(_rows(model_manifest, parameters), model_vectors)


def check_extraction(
    model_metadata: pd.DataFrame, extraction_failures: pd.DataFrame, parameters: ModelExtractionParameters
) -> None:
    """Stop if no model could be extracted, or any failed and ``strict`` is set.

    Raises:
        Unreached: If jobs of an array are missing; names the models.
        NothingSucceeded: With the first failures.
    """
    failures = model_extraction.real_failures(extraction_failures)
    succeeded = set(model_metadata["model_id"]) - set(failures["model_id"])
    check_failures(failures, len(succeeded), parameters.strict, "models")


def _rows(model_manifest: pd.DataFrame, parameters: ModelExtractionParameters) -> list[Any]:
    """The usable rows, thinned evenly where only some are asked for."""
    return evenly(read_manifest(model_manifest)[0], parameters.max_models)
