"""What must be downloaded before models can be read, and which of them where a limit doesn't allow all."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from thesis_rec.base.errors import Failure
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.models.model_sources import CONNECT, in_cache

GB = 1e9
#: Speed of a common connection, for the hours that are announced.
MEGABIT_PER_SECOND = 100.0


@dataclass(frozen=True)
class FetchPlan:
    """The models of a manifest by what becomes of them, in its order.

    Attributes:
        here: Those that are on this machine.
        fetched: Those to be downloaded.
        left_out: Those that are neither.
        sizes: Bytes by model, where known.
    """

    here: list[str]
    fetched: list[str]
    left_out: list[str]
    sizes: Mapping[str, float]

    def gigabytes(self, models: Sequence[str]) -> float:
        """Size of some models in GB; those of unknown size count nothing."""
        return sum(self.sizes.get(model, 0.0) for model in models) / GB


def plan_fetch(
    rows: Sequence[ManifestRow], here: Collection[str], weights: Mapping[str, float], max_gb: float, online: bool = True
) -> FetchPlan:
    """Which models are downloaded: those of most weight, of equal ones the smaller, until the limit is reached.

    A model that doesn't fit any more is passed over for smaller ones behind it. Under a limit, a model of unknown size
    is left out.

    Args:
        rows: The models; ``bytes`` of their rows are read.
        here: Models on this machine.
        weights: How much each matters, 0 where absent.
        max_gb: Gigabytes (10^9 bytes) that may be downloaded, infinite for no limit.
        online: Whether anything can be downloaded at all.
    """
    told = pd.Series({row.model_id: (row.model_extra or {}).get("bytes") for row in rows}, dtype=object)
    sizes = {str(name): float(size) for name, size in pd.to_numeric(told, errors="coerce").dropna().items()}
    missing = [row.model_id for row in rows if row.model_id not in here]
    free = max_gb * GB if online else 0.0
    unknown = 0.0 if online and max_gb == float("inf") else float("inf")
    chosen: set[str] = set()
    for model in sorted(missing, key=lambda name: (-weights.get(name, 0.0), sizes.get(name, float("inf")))):
        size = sizes.get(model, unknown)
        if size <= free:
            chosen.add(model)
            free -= size
    there = [row.model_id for row in rows if row.model_id in here]
    left_out = [model for model in missing if model not in chosen]
    return FetchPlan(there, [model for model in missing if model in chosen], left_out, sizes)


def models_here(rows: Sequence[ManifestRow], cache: Path | None) -> set[str]:
    """The models that need no download: those of folders, there or not, and those whose weights are in the hub cache.

    Args:
        rows: The models.
        cache: Folder of hub downloads; None for the hub library's own.
    """
    return {row.model_id for row in rows if row.hub_id is None or in_cache(row.hub_id, row.revision, cache)}


def left_out_failure(model_id: str, online: bool) -> Failure:
    """Why a model was left out, and what to do about it."""
    if online:
        hint = "Raise hub.fetch.max_gb, or fill the hub cache (HF_HOME)."
        return Failure(model_id, "It isn't in the hub cache, and what may be fetched leaves it out.", hint)
    return Failure(model_id, "It isn't in the hub cache and this machine is offline.", CONNECT)


def announcement(plan: FetchPlan, datasets: Sequence[str], encoder: str, online: bool) -> str:
    """What a run is about to fetch, or would if it were allowed to, in one paragraph.

    Args:
        plan: The models.
        datasets: Datasets outside the cache that will be fetched.
        encoder: The image encoder if it must be fetched, else empty.
        online: Whether anything can be downloaded.
    """
    if not online:
        parts = [f"{len(plan.here)} models are on this machine; offline, {len(plan.left_out)} others are left out"]
        parts += [f"{len(datasets)} datasets outside the cache too"] if datasets else []
        parts += [f"the image encoder {encoder} is missing"] if encoder else []
        return ", ".join(parts) + "."
    size = plan.gigabytes(plan.fetched)
    hours = size * 8e3 / MEGABIT_PER_SECOND / 3600
    told = f"{size:.1f} GB, {hours:.1f} hours at {MEGABIT_PER_SECOND:.0f} Mbit/s"
    text = f"To be fetched: {len(plan.fetched)} models ({told})"
    unknown = sum(model not in plan.sizes for model in plan.fetched)
    text += f", {unknown} of them of unknown size" if unknown else ""
    text += f", {len(datasets)} datasets (sizes aren't known beforehand)" if datasets else ", no dataset"
    text += f", and the image encoder {encoder}" if encoder else ""
    text += f". {len(plan.here)} models are on this machine"
    return text + (f"; {len(plan.left_out)} are left out." if plan.left_out else ".")
