"""Profiling a whole zoo: one file per model and device, resumable, one failing model never stopping the others.

A partition's key is ``<model id>/<device id>`` and its content a dictionary: ``rows`` (of ``hardware_profiles``),
``settings_hash`` (of how it was measured), ``error`` and ``hint`` (empty when it succeeded).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from thesis_rec.base.errors import Failure
from thesis_rec.base.files import readable, sha256_json
from thesis_rec.base.progress import track
from thesis_rec.hardware.fingerprint import device_id
from thesis_rec.hardware.profiling import COLUMNS, profile_backbone
from thesis_rec.hardware.timing import ProfileSettings

if TYPE_CHECKING:
    from thesis_rec.models.backbone import Backbone
    from thesis_rec.models.model_manifest import ManifestRow

Outcome = dict[str, Any]
Partitions = Mapping[str, Callable[[], Outcome]]


@dataclass(frozen=True)
class Campaign:
    """What is measured of every model, as :func:`profile_backbone` takes it.

    Attributes:
        device: Torch device.
        precisions: Precisions of the calls.
        batch_sizes: Numbers of images in a call.
        settings: How long to measure.
    """

    device: str = "cpu"
    precisions: Sequence[str] = ("fp32",)
    batch_sizes: Sequence[int] = (1, 32)
    settings: ProfileSettings = field(default_factory=ProfileSettings)

    def hash_of(self, row: ManifestRow) -> str:
        """Changes when a model would have to be measured again: another network, or other calls."""
        network = {"loader": row.loader, "source": row.source, "revision": row.revision}
        calls = {"precisions": sorted(self.precisions), "batch_sizes": sorted(self.batch_sizes)}
        return sha256_json({**network, **calls, "settings": self.settings.model_dump()})


def profile_zoo(
    rows: Iterable[ManifestRow],
    load: Callable[[ManifestRow], Backbone],
    campaign: Campaign,
    existing: Partitions,
) -> Iterator[tuple[str, Outcome]]:
    """Measure models one after another; those measured before in the same way are left out.

    Args:
        rows: The models.
        load: Builds a model.
        campaign: What is measured.
        existing: Partitions of earlier runs.

    Yields:
        Key and content of a partition for each model that was tried.
    """
    present = device_id(campaign.device)
    for row in track(list(rows), "profiling"):
        key, settings_hash = f"{row.model_id}/{present}", campaign.hash_of(row)
        before = readable(existing[key]) if key in existing else None
        if before is not None and not before["error"] and before.get("settings_hash") == settings_hash:
            continue
        try:
            table = profile_backbone(load(row), row.model_id, **vars(campaign))
        except Exception as error:
            # Networks of three libraries can raise anything; one must not stop the others.
            failure = Failure.of(row.model_id, error, "Check the model's loader and source in the manifest.")
            yield key, {"rows": [], "settings_hash": settings_hash, "error": failure.error, "hint": failure.hint}
            continue
        # Through JSON, which knows no numpy numbers.
        found = json.loads(table.to_json(orient="records", double_precision=12))
        yield key, {"rows": found, "settings_hash": settings_hash, "error": "", "hint": ""}


def join_outcomes(outcomes: Partitions, models: Iterable[str]) -> tuple[pd.DataFrame, list[Failure]]:
    """All rows of the models on all devices, and the failures of those that have none.

    Args:
        outcomes: Partitions of all jobs and earlier runs.
        models: Models that count; profiles of others are left out.
    """
    wanted = set(models)
    rows: list[dict[str, Any]] = []
    failures: list[Failure] = []
    for key in sorted(outcomes):
        model_id = key.rpartition("/")[0]
        if model_id not in wanted:
            continue
        outcome = outcomes[key]()
        rows.extend(outcome["rows"])
        if outcome["error"]:
            failures.append(Failure(model_id, outcome["error"], outcome["hint"]))
    return pd.DataFrame(rows, columns=COLUMNS), failures
