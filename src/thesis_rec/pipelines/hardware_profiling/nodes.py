"""Nodes of the pipeline hardware_profiling."""

from collections.abc import Iterator
from functools import partial

import pandas as pd
from pydantic import Field

from thesis_rec.base.devices import torch_device
from thesis_rec.base.errors import check_failures, failures_frame
from thesis_rec.base.resuming import Outcome, outcome_failures
from thesis_rec.base.settings import Words
from thesis_rec.catalog.files import Partitions
from thesis_rec.hardware.contexts import COLUMNS
from thesis_rec.hardware.timing import ProfileSettings
from thesis_rec.models.model_manifest import read_manifest
from thesis_rec.pipelines.selection import ModelStep, networks

#: What names models.
KNOB = "hardware_profiling.models"


class HardwareProfilingParameters(ProfileSettings, ModelStep):
    """What ``conf/base/parameters/hardware_profiling.yml`` holds; each knob is explained there."""

    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    models: Words[str] = ()


def profile_models(
    model_manifest: pd.DataFrame, existing_hardware_outcomes: Partitions, parameters: HardwareProfilingParameters
) -> Iterator[dict[str, Outcome]]:
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
    root, cache = parameters.files
    rows = parameters.shard.select(networks(model_manifest, parameters.models, KNOB))
    load = partial(load_backbone, root=root, device=device, cache=cache)
    yield from profile_zoo(rows, load, existing_hardware_outcomes, device, parameters)


def join_hardware_profiles(
    model_manifest: pd.DataFrame, hardware_outcomes: Partitions, parameters: HardwareProfilingParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The profiles of all shards, earlier runs and devices, and the failures."""
    from thesis_rec.hardware.profiling import made_from

    rows, unusable = read_manifest(model_manifest)
    # What earlier runs measured of other models stays.
    models = {row.model_id for row in rows}
    keys = [(key.rpartition("/")[0], key) for key in sorted(hardware_outcomes)]
    told = [(name, hardware_outcomes[key]()) for name, key in keys if name in models]
    table = pd.DataFrame([row for _, outcome in told for row in outcome.get("rows", ())], columns=COLUMNS)
    asked = {row.model_id: row for row in networks(model_manifest, parameters.models, KNOB)}
    failures = outcome_failures(asked, told, partial(made_from, settings=parameters), parameters.shard)
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
