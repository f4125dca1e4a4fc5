"""The answer to one request, and how it was made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.hardware.budget import Budget, Relaxation

#: Columns of the answer, in order.
COLUMNS = [
    "rank", "model_id", "score", "predicted_value", "predicted_std", "value_low", "value_high", "latency_ms",
    "latency_ms_safe", "throughput", "memory_mb", "memory_mb_safe", "n_parameters", "macs", "basis", "licence",
    "family", "pretraining", "on_pareto_front", "reason", "probed_value",
]  # fmt: skip


@dataclass(frozen=True)
class Options:
    """How an answer is made.

    Attributes:
        top: Number of models that the user wants to see; all feasible ones are ranked.
        level: Probability of the interval of the predicted value.
        neighbours: Known datasets that are named as reasons.
        batches: Batches of one image per class that the dataset is described by.
        seed: Seed of the choice of images.
        measure_seconds: Longest time spent on measuring candidates on the present device.
    """

    top: int = 10
    level: float = 0.9
    neighbours: int = 3
    batches: int = 8
    seed: int = 0
    measure_seconds: float = 20.0


@dataclass(frozen=True)
class Recommendation:
    """The answer to one request.

    Attributes:
        dataset_id: What was asked about.
        table: Feasible models, best first, with the columns ``COLUMNS``.
        excluded: ``model_id`` and ``limits``, the names of the limits that exclude it.
        relaxations: What to relax; empty unless nothing fits.
        nearest: ``dataset_id, similarity, domain, group`` of the nearest known datasets.
        places: ``dataset_id, x, y, domain, kind``: the dataset on a map of the known ones.
        device: Identifier of the device that the figures are for.
        budget: The limits.
        options: How the answer was made.
        dataset: Number of classes and images, and other facts to show.
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
    budget: Budget
    options: Options
    dataset: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sample: tuple[tuple[NDArray[np.uint8], str], ...] = ()

    @property
    def top(self) -> pd.DataFrame:
        """The first models of the table."""
        return self.table.head(self.options.top)

    def to_dict(self) -> dict[str, Any]:
        """All but the map and the images as JSON's own types; unknown numbers are None."""
        return {
            "dataset": {"dataset_id": self.dataset_id, **self.dataset},
            "device": self.device,
            "budget": _plain(self.budget.limits | {"batch_size": self.budget.batch_size})
            | {"precision": self.budget.precision},
            "models": _records(self.top),
            "feasible": len(self.table),
            "excluded": _records(self.excluded),
            "relaxations": [_plain(asdict(relaxation)) | {"text": str(relaxation)} for relaxation in self.relaxations],
            "nearest_datasets": _records(self.nearest),
            "sources": dict(self.sources),
            "notes": list(self.notes),
        }


def interval_factor(level: float) -> float:
    """How many standard deviations enclose a normal variable with probability ``level``."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + level / 2)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value
