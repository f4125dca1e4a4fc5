"""The answer to one request, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.hardware.budget import Relaxation
from thesis_rec.models.model_manifest import open_clip_name
from thesis_rec.recommendation.request import Request

#: Columns of the answer's table, in order; ``--format csv`` prints them, and so do the ``models`` of ``--format json``.
#: ``docs/data-contracts.md`` says what each holds, and in which unit.
COLUMNS = (
    "rank", "model_id", "score", "predicted_value", "predicted_std", "value_low", "value_high", "latency_ms",
    "latency_ms_safe", "throughput", "memory_mb", "memory_mb_safe", "download_mb", "n_parameters", "macs", "basis",
    "licence", "family", "pretraining", "on_pareto_front", "reason", "probed_value",
)  # fmt: skip

#: Accuracy that nobody would pay twice the time for: less than two repeats of a measurement differ by.
NEARLY = 0.01


@dataclass(frozen=True)
class Recommendation:
    """The answer to one request.

    Attributes:
        dataset_id: What was asked about.
        table: Models that keep the limits, best first, with the columns :data:`COLUMNS`.
        excluded: ``model_id`` and ``limits``, the names of the limits that exclude it.
        relaxations: What to relax; empty unless nothing fits.
        nearest: ``dataset_id, similarity, domain, group`` of the nearest known datasets; empty where the images were
            not looked at.
        places: ``dataset_id, x, y, domain, kind``: the dataset on a map of the known ones; empty likewise.
        device: Identifier of the device that the figures are for.
        options: The request.
        dataset: Number of classes and images, and other facts to show.
        rests_on: A sentence on what the predictions rest on.
        load: The line of code that loads the first model; empty without one.
        zoo: Name of the zoo that the models are of.
        sources: Where each artefact is from.
        notes: Sentences that the user should read.
        sample: (K, H, W, 3) uint8 images to show, and their class names.
    """

    dataset_id: str
    table: pd.DataFrame
    excluded: pd.DataFrame
    relaxations: list[Relaxation]
    nearest: pd.DataFrame
    places: pd.DataFrame
    device: str
    options: Request
    dataset: dict[str, Any] = field(default_factory=dict)
    rests_on: str = ""
    load: str = ""
    zoo: str = "hub"
    sources: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sample: tuple[tuple[NDArray[np.uint8], str], ...] = ()

    @property
    def top(self) -> pd.DataFrame:
        """The first models of the table."""
        return self.table.head(self.options.top)

    @cached_property
    def nearly_as_good(self) -> dict[str, Any] | None:
        """Of the models that are expected to lose at most 0.01 against the first, in half its time: the fastest."""
        if self.table.empty:
            return None
        first, values, times = self.table.iloc[0], self.table["predicted_value"], self.table["latency_ms"]
        found = self.table[(values >= first["predicted_value"] - NEARLY) & (times <= first["latency_ms"] / 2)]
        return None if found.empty else dict(found.loc[found["latency_ms"].idxmin()])

    @property
    def excluded_by(self) -> dict[str, int]:
        """How many models each limit excludes, the strictest first; a model may break several."""
        counts = self.excluded["limits"].str.split(", ").explode().value_counts()
        return {str(name): int(count) for name, count in counts.items()}

    def to_dict(self) -> dict[str, Any]:
        """All but the map and the images as JSON's own types; unknown numbers are None."""
        return {
            "dataset": {"dataset_id": self.dataset_id, **self.dataset},
            "device": self.device,
            "budget": self.options.limits | self.options.model_dump(include={"batch_size", "precision"}),
            "asked": self.options.model_dump(include={"protocol", "domain", "level"}),
            "zoo": self.zoo,
            "rests_on": self.rests_on,
            "load": self.load,
            "nearly_as_good": self.nearly_as_good and self.nearly_as_good["model_id"],
            "models": _records(self.top),
            "feasible": len(self.table),
            "excluded": _records(self.excluded),
            "relaxations": [
                vars(one) | {"factor": one.factor if np.isfinite(one.factor) else None, "text": str(one)}
                for one in self.relaxations
            ],
            "nearest_datasets": _records(self.nearest),
            "sources": dict(self.sources),
            "notes": list(self.notes),
        }


def load_line(model: Mapping[Any, Any], root: Path) -> str:
    """The line of code that loads a model of the manifest.

    Args:
        model: ``model_id``, ``loader``, ``source`` and ``pretraining`` of its row.
        root: Folder that local sources are relative to.
    """
    loader, source, listed = (str(model.get(key, "")) for key in ("loader", "source", "model_id"))
    remote = source.startswith("hf-hub:")
    place = source.removeprefix("hf-hub:") if remote else str((root / source).absolute())
    name = source if remote else f"local-dir:{place}"
    if loader == "timm":
        # Of repositories of others timm knows how to read the weights; not all have a configuration of its own.
        named = remote and listed.startswith("timm/") and place != listed
        return f'timm.create_model("{listed.removeprefix("timm/") if named else name}", pretrained=True)'
    if loader == "open_clip":
        architecture, weights = open_clip_name(listed)
        if remote and weights and listed.startswith("open_clip/") and weights == str(model.get("pretraining", "")):
            # By open_clip's own names: not every repository of its weights has a configuration.
            return f'open_clip.create_model_and_transforms("{architecture}", pretrained="{weights}")'
        return f'open_clip.create_model_and_transforms("{name}")'
    return f'transformers.AutoModel.from_pretrained("{place}")' if loader == "transformers" else ""


def _records(table: pd.DataFrame) -> list[Any]:
    known = table.notna() & ~table.isin([np.inf, -np.inf])
    return table.astype(object).where(known, None).to_dict("records")
