"""Nodes of the pipeline dataset_features."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from thesis_rec.base.errors import Failure, check_failures, failures_frame
from thesis_rec.base.resuming import outcome_failures
from thesis_rec.base.settings import Shard, evenly
from thesis_rec.catalog.files import Partitions
from thesis_rec.images.encoders import encoder_id, load_encoder
from thesis_rec.images.encoders.encoder_evaluation import mean_accuracies
from thesis_rec.images.encoders.image_encoder import EncoderConfig
from thesis_rec.images.hub import in_cache
from thesis_rec.images.manifest import base_rows, read_dataset_manifest
from thesis_rec.views import tokens
from thesis_rec.views.tokens import TokenSettings


class DatasetFeaturesParameters(TokenSettings):
    """What ``conf/base/parameters/dataset_features.yml`` holds; each knob is explained there."""

    encoder: EncoderConfig
    fetch: bool = True
    images_root: str = Field(min_length=1)
    max_datasets: int | None = Field(default=None, ge=1)
    device: str = "auto"
    strict: bool = False
    shard: Shard = Shard()


def encode_datasets(
    dataset_manifest: pd.DataFrame,
    existing_dataset_tokens: Partitions,
    existing_dataset_outcomes: Partitions,
    parameters: DatasetFeaturesParameters,
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Encode this shard's datasets; what is finished already is kept.

    Yields:
        New token shards by key, and outcomes by dataset, as they come: both are saved at once.
    """
    without = set() if parameters.fetch else set(outside_the_cache(dataset_manifest, parameters))
    without -= {key.rsplit("/", 2)[0] for key in existing_dataset_tokens}
    hint = "Set hub.fetch.datasets, or fill the cache (HF_HOME) on another machine and copy it here."
    absent = Failure("", "It isn't in the cache, and no dataset may be fetched.", hint)
    yield {}, {name: asdict(absent) for name in without}
    yield from tokens.extract_tokens(
        [row for row in _selected_rows(dataset_manifest, parameters) if row.dataset_id not in without],
        Path(parameters.images_root).expanduser(),
        parameters,
        encoder_id(parameters.encoder),
        existing_dataset_tokens,
        lambda: load_encoder(parameters.encoder, parameters.device, parameters.precision),
        existing_dataset_outcomes,
    )


def outside_the_cache(dataset_manifest: pd.DataFrame, parameters: DatasetFeaturesParameters) -> list[str]:
    """The datasets of this job that would have to be downloaded from the hub."""
    root = Path(parameters.images_root).expanduser()
    rows = [row for row in _selected_rows(dataset_manifest, parameters) if row.loader == "huggingface"]
    return [row.dataset_id for row in rows if not in_cache(row, root)]


def join_dataset_failures(
    dataset_manifest: pd.DataFrame, dataset_outcomes: Partitions, parameters: DatasetFeaturesParameters
) -> pd.DataFrame:
    """The failures table: unusable rows of the manifest, failed datasets, skipped images."""
    _, unusable = read_dataset_manifest(dataset_manifest)
    asked = {row.dataset_id: row for row in _selected_rows(dataset_manifest, parameters)}
    told = [(name, dataset_outcomes[name]()) for name in asked if name in dataset_outcomes]
    root, encoder = Path(parameters.images_root).expanduser(), encoder_id(parameters.encoder)
    of_now = partial(tokens.made_from, root=root, settings=parameters, encoder_id=encoder)
    return failures_frame([*unusable, *outcome_failures(asked, told, of_now, parameters.shard)], key="dataset_id")


def evaluate_encoder(
    dataset_manifest: pd.DataFrame, dataset_outcomes: Partitions, parameters: DatasetFeaturesParameters
) -> dict[str, Any]:
    """Nearest-class-mean and zero-shot accuracy of the image encoder on every dataset, as its outcome tells them."""
    asked = [row.dataset_id for row in _selected_rows(dataset_manifest, parameters)]
    told = {name: dataset_outcomes[name]() for name in asked if name in dataset_outcomes}
    entries = {name: outcome["encoder"] for name, outcome in told.items() if "encoder" in outcome}
    encoder = encoder_id(parameters.encoder) if entries else None
    return {"encoder_id": encoder, "datasets": entries, "mean": mean_accuracies(entries)}


def check_dataset_features(
    dataset_manifest: pd.DataFrame,
    dataset_tokens: Partitions,
    dataset_failures: pd.DataFrame,
    parameters: DatasetFeaturesParameters,
) -> None:
    """Stop if no dataset could be encoded, or any failed and ``strict`` is set.

    Raises:
        Unreached: If jobs of an array are missing; names the datasets.
        NothingSucceeded: With the first failures.
    """
    encoded = {key.rsplit("/", 2)[0] for key in dataset_tokens}
    succeeded = sum(row.dataset_id in encoded for row in _selected_rows(dataset_manifest, parameters))
    check_failures(dataset_failures, succeeded, parameters.strict, "datasets")


def _selected_rows(dataset_manifest: pd.DataFrame, parameters: DatasetFeaturesParameters) -> list[Any]:
    """The rows with images of their own that this job encodes."""
    rows = base_rows(read_dataset_manifest(dataset_manifest)[0])
    # The manifest lists families one after another. What users add is no sample of anything.
    drawn = set(evenly([row.dataset_id for row in rows if row.loader == "generated"], parameters.max_datasets))
    return parameters.shard.select([row for row in rows if row.loader != "generated" or row.dataset_id in drawn])
