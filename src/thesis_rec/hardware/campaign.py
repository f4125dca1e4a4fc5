"""Profiling a whole zoo: one file per model and device, resumable, one failing model never stopping the others.

A partition's key is ``<model id>/<device id>`` and its content a dictionary: ``rows`` (of ``hardware_profiles``),
``settings_hash`` (of how it was measured), ``error`` and ``hint`` (empty when it succeeded).
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from thesis_rec.base.errors import Failure
from thesis_rec.base.files import readable, sha256_json
from thesis_rec.base.progress import track
from thesis_rec.hardware.fingerprint import device_id
from thesis_rec.hardware.profiling import COLUMNS, profile_backbone
from thesis_rec.hardware.timing import ProfileSettings
from thesis_rec.models.backbone import Backbone
from thesis_rec.models.model_manifest import ManifestRow

Outcome = dict[str, Any]
Partitions = Mapping[str, Callable[[], Outcome]]


def made_from(row: ManifestRow, settings: ProfileSettings) -> str:
    """Hash that changes when a model would have to be measured again: another network, or other calls."""
    network = {"loader": row.loader, "source": row.source, "revision": row.revision}
    clock = {name: getattr(settings, name) for name in ProfileSettings.model_fields}
    calls = {name: sorted(clock.pop(name)) for name in ("precisions", "batch_sizes")}
    return sha256_json({**network, **calls, "settings": clock})


def profile_zoo(
    rows: Sequence[ManifestRow],
    load: Callable[[ManifestRow], Backbone],
    existing: Partitions,
    device: str,
    settings: ProfileSettings,
) -> Iterator[tuple[str, Outcome]]:
    """Measure models one after another; those measured before in the same way are left out.

    Args:
        rows: The models.
        load: Builds a model.
        existing: Partitions of earlier runs.
        device: As of :func:`~thesis_rec.hardware.profiling.profile_backbone`.
        settings: Precisions, batch sizes and how long to measure.

    Yields:
        Key and content of a partition for each model that was tried.
    """
    present = device_id(device)
    for row in track(rows, "profiling"):
        key, wanted = f"{row.model_id}/{present}", made_from(row, settings)
        before = readable(existing[key]) if key in existing else None
        if before is not None and not before["error"] and before.get("settings_hash") == wanted:
            continue
        outcome: Outcome = {"rows": [], "settings_hash": wanted, "error": "", "hint": ""}
        try:
            table = profile_backbone(load(row), device, settings)
            # Through JSON, which knows no numpy numbers.
            outcome["rows"] = json.loads(table.to_json(orient="records", double_precision=12))
        except Exception as error:
            # Networks of three libraries can raise anything; one must not stop the others.
            failure = Failure.of(row.model_id, error, "Check the model's loader and source in the manifest.")
            outcome |= {"error": failure.error, "hint": failure.hint}
        yield key, outcome


def join_outcomes(outcomes: Partitions, models: Collection[str]) -> tuple[pd.DataFrame, list[Failure]]:
    """All rows of the models on all devices, and the failures of those that have none.

    Args:
        outcomes: Partitions of all jobs and earlier runs.
        models: Models that count; profiles of others are left out.
    """
    found = [(name, outcomes[key]()) for key in sorted(outcomes) if (name := key.rpartition("/")[0]) in models]
    failures = [Failure(name, outcome["error"], outcome["hint"]) for name, outcome in found if outcome["error"]]
    return pd.DataFrame([row for _, outcome in found for row in outcome["rows"]], columns=COLUMNS), failures
