"""Nodes of the pipeline hardware_profiling."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_rec.base.devices import torch_device
from thesis_rec.base.errors import check_failures, failures_frame, unreached_failures
from thesis_rec.base.settings import evenly
from thesis_rec.models.model_manifest import read_manifest
from thesis_rec.models.model_sources import hub_cache_folder
from thesis_rec.pipelines.hardware_profiling.parameters import HardwareProfilingParameters
from thesis_rec.pipelines.selection import networks

Partitions = dict[str, Callable[[], Any]]


def profile_models(
    model_manifest: pd.DataFrame, existing_hardware_outcomes: Partitions, parameters: HardwareProfilingParameters
) -> Iterator[dict[str, Any]]:
    """Measure this shard's models on the present device; what was measured before is kept.

    Yields:
        Outcomes by ``<model id>/<device id>``, saved as they come.
    """
    import torch

    from thesis_rec.hardware.profiling import profile_zoo
    from thesis_rec.models.loaders import load_backbone

    if parameters.threads is not None:
        torch.set_num_threads(parameters.threads)
    device = torch_device(parameters.device)
    root, cache = Path(parameters.models_root).expanduser(), hub_cache_folder(parameters.hub_cache)
    rows = parameters.shard.select(_rows(model_manifest, parameters))
    load = partial(load_backbone, root=root, device=device, cache=cache)
    for key, outcome in profile_zoo(rows, load, existing_hardware_outcomes, device, parameters):
        yield {key: outcome}


def join_hardware_profiles(
    model_manifest: pd.DataFrame, hardware_outcomes: Partitions, parameters: HardwareProfilingParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The profiles of all shards, earlier runs and devices, and the failures.

    A job that isn't a shard also reports the models that no shard has come to, or only an earlier one that measured
    them in another way.
    """
    from thesis_rec.hardware.profiling import join_outcomes, made_from

    rows, unusable = read_manifest(model_manifest)
    outcomes: Partitions = {key: cache(read) for key, read in hardware_outcomes.items()}  # each file is read once
    # What earlier runs measured of other models stays.
    table, failures = join_outcomes(outcomes, {row.model_id for row in rows})
    if parameters.shard.count == 1:
        asked = {row.model_id: row for row in _rows(model_manifest, parameters)}
        told = ((key.rpartition("/")[0], read().get("settings_hash", "")) for key, read in outcomes.items())
        failures += unreached_failures(asked, told, lambda row: made_from(row, parameters))
    return table, failures_frame([*unusable, *failures])


def check_hardware_profiles(
    hardware_profiles: pd.DataFrame, hardware_failures: pd.DataFrame, parameters: HardwareProfilingParameters
) -> None:
    """Stop if no model could be profiled, or any failed and ``strict`` is set.

    Raises:
        Unreached: If jobs of an array are missing; names the models.
        NothingSucceeded: With the first failures.
    """
    check_failures(hardware_failures, hardware_profiles["model_id"].nunique(), parameters.strict, "models")


def _rows(model_manifest: pd.DataFrame, parameters: HardwareProfilingParameters) -> list[Any]:
    """The models that have a network: those that are named, or all, thinned evenly where only some are asked for.

    Raises:
        ConfigurationError: If a named one isn't among them.
    """
    rows = networks(model_manifest, parameters.models, "hardware_profiling.models")
    return evenly(rows, parameters.max_models)
