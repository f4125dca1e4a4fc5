"""Measuring a whole zoo, model by model, so that a killed run goes on where it stopped.

What is measured about a model is kept in small tables, one per part: ``linear_probe``, ``transferability``,
``responses``, ``fine_tune`` and ``outcome`` (one row: why the model failed, or that it didn't). Every row of the others
carries the hash of what it depends on (weights, images, recipe) in the column ``cell``: a row with the right hash is
never measured again, any other is replaced.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import Failure
from thesis_rec.base.files import sha256_json
from thesis_rec.base.resuming import Outcome, work_on
from thesis_rec.base.tables import MeasuredTask, TaskImages
from thesis_rec.truth.responses import overlay_responses, response_names

if TYPE_CHECKING:
    from thesis_rec.images.manifest import DatasetRow
    from thesis_rec.models.backbone import Backbone
    from thesis_rec.models.model_manifest import ManifestRow
    from thesis_rec.truth.image_bank import ImageBank
    from thesis_rec.truth.settings import FineTuneSettings, TruthSettings

logger = logging.getLogger(__name__)

Tables = Mapping[str, Callable[[], pd.DataFrame]]

#: Parts of a model's truth that hold rows of the results.
PARTS = ("linear_probe", "transferability", "responses", "fine_tune")
#: Digits of the hashes that stand in the results.
_SHORT = 16


@dataclass(frozen=True)
class Campaign:
    """What is to be measured about every model.

    Attributes:
        images: Base tasks by identifier, reference tasks included.
        tasks: Tasks to measure.
        reference: Identifiers of the reference tasks.
        settings: Recipe of probes, scores and responses.
        protocols: ``linear_probe``, ``fine_tune`` or both.
        fine_tune: Recipe of fine-tuning, or None where it isn't asked for.
        fine_tune_seeds: Repeats of each fine-tuned cell.
        save_every: Fine-tuned cells between two saves.
        device: Torch device.
    """

    images: Mapping[str, TaskImages]
    tasks: Sequence[MeasuredTask]
    reference: Sequence[str]
    settings: TruthSettings
    protocols: Collection[str] = ("linear_probe",)
    fine_tune: FineTuneSettings | None = None
    fine_tune_seeds: int = 1
    save_every: int = 8
    device: str = "cpu"


def measured_tasks(
    rows: Sequence[DatasetRow], images: Mapping[str, TaskImages]
) -> tuple[list[MeasuredTask], list[Failure]]:
    """The tasks that can be measured with the images at hand, in the order of their rows.

    Args:
        rows: Rows of the dataset manifest, sub-tasks included.
        images: Base tasks that could be loaded.

    Returns:
        One task for each row all of whose classes have images; and sub-tasks with a class that their parent lacks.
    """
    tasks, failures = [], []
    for row in rows:
        known = {base: len(images[base].class_names) for base in row.parent or (row.dataset_id,) if base in images}
        members = row.class_subset or tuple((base, c) for base, count in known.items() for c in range(count))
        if absent := [f"{base}:{c}" for base, c in members if c >= known.get(base, c + 1)]:
            message = f"its parent has no class {', '.join(absent)}."
            failures.append(Failure(row.dataset_id, message, "Correct class_subset in the dataset manifest."))
        elif members and all(base in known for base, _ in members):
            tasks.append(MeasuredTask(row.dataset_id, members, draws=not row.is_subtask))
    return tasks, failures


def images_fingerprint(task: TaskImages) -> str:
    """Hash of a base task's pixels and labels."""
    digest = hashlib.sha256()
    for array in (task.train_images, task.train_labels, task.test_images, task.test_labels):
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def measure_zoo(
    rows: Sequence[ManifestRow],
    load: Callable[[ManifestRow], Backbone],
    fingerprint: Callable[[ManifestRow], str],
    campaign: Campaign,
    existing: Tables,
    asked: str = "",
) -> Iterator[dict[str, pd.DataFrame]]:
    """Measure what is missing about every model, resumably (:mod:`thesis_rec.base.resuming`).

    Args:
        rows: Models.
        load: Builds a model, on the CPU.
        fingerprint: Hash of a model's weights.
        campaign: What is to be measured.
        existing: Tables of earlier runs by ``<model id>/<part>``, read when needed.
        asked: What tells the choice of datasets and protocols, which outcomes are said to be made from. No model is
            passed over by it: its cells tell more exactly what is missing.

    Yields:
        Tables to be saved under ``<model id>/<part>``, as soon as they are complete. A model that fails keeps what was
        measured before.
    """
    from thesis_rec.truth.image_bank import ImageBank

    hashes = {dataset_id: images_fingerprint(task) for dataset_id, task in campaign.images.items()}
    bank = cache(lambda: ImageBank(campaign.images, campaign.device))

    def make(row: ManifestRow, outcome: Outcome) -> Iterator[dict[str, pd.DataFrame]]:
        cells = _Cells(row.model_id, campaign, hashes, fingerprint(row), existing)
        if cells.to_probe or cells.to_describe or cells.to_tune:
            yield from cells.measured(partial(load, row), bank())

    items = {row.model_id: row for row in rows}
    for tables, outcomes in work_on(items, "measuring models", lambda row: asked, make, outcomes={}):
        told = {name: pd.DataFrame([{"model_id": name, **outcome}]) for name, outcome in outcomes.items()}
        yield tables | {f"{name}/outcome": table for name, table in told.items()}


class _Cells:
    """The cells of one model: hashes of what they depend on, which of them earlier runs lack, and measuring these."""

    def __init__(
        self, model_id: str, campaign: Campaign, images: Mapping[str, str], weights: str, existing: Tables
    ) -> None:
        self.model_id, self.campaign, self.weights, self.tables = model_id, campaign, weights, existing
        settings = campaign.settings
        probed = "linear_probe" in campaign.protocols
        probe = [weights, settings.probe.model_dump()]
        recipe = [*probe, settings.scores, settings.score_images, settings.seed, settings.source]
        tasks = {
            task.dataset_id: [[images[base], c] for base, c in task.members] + [task.draws] for task in campaign.tasks
        }
        self.datasets = {name: sha256_json(members)[:_SHORT] for name, members in tasks.items()}
        self.probes = {name: sha256_json([recipe, members]) for name, members in tasks.items() if probed}
        reference = [images[name] for name in campaign.reference]
        self.responses = sha256_json([probe, settings.response.model_dump(), reference])
        self.fine_tune: dict[tuple[str, int], str] = {}
        if campaign.fine_tune is not None:
            # What was measured by several copies of a model at once counts as well.
            tuned = [weights, campaign.fine_tune.model_dump() | {"slots": 12}, settings.source]
            self.fine_tune = {
                (name, seed): sha256_json([tuned, members, seed])
                for name, members in tasks.items()
                for seed in range(campaign.fine_tune_seeds)
            }
        have = {part: set(self.existing(part).get("cell", [])) for part in PARTS}
        self.to_probe = {name for name, cell in self.probes.items() if cell not in have["linear_probe"]}
        self.to_describe = list(campaign.reference) if probed and self.responses not in have["responses"] else []
        self.to_tune = [key for key, cell in self.fine_tune.items() if cell not in have["fine_tune"]]

    def existing(self, part: str) -> pd.DataFrame:
        """The table of an earlier run; empty where there is none."""
        key = f"{self.model_id}/{part}"
        return self.tables[key]() if key in self.tables else pd.DataFrame()

    def provenance(self, table: pd.DataFrame) -> dict[str, Any]:
        """Columns that tell this measurement from one of other weights, images or libraries."""
        return {
            "model_revision": self.weights[:_SHORT],
            "dataset_revision": table["dataset_id"].map(self.datasets),
            "versions": library_versions(),
        }

    def measured(self, load: Callable[[], Backbone], bank: ImageBank) -> Iterator[dict[str, pd.DataFrame]]:
        """Measure what is missing; tables as of :func:`measure_zoo`."""
        if self.to_probe or self.to_describe:
            yield self._probed(load(), bank)
        if self.to_tune and self.campaign.fine_tune is not None:
            from thesis_rec.truth.fine_tune import fine_tune

            by_id = {task.dataset_id: task for task in self.campaign.tasks}
            todo = [(by_id[dataset_id], seed) for dataset_id, seed in self.to_tune]
            backbone, table, every = load(), self.existing("fine_tune"), self.campaign.save_every
            for start in range(0, len(todo), every):
                new = fine_tune(backbone, bank, todo[start : start + every], self.campaign.fine_tune)
                hashes = [self.fine_tune[key] for key in zip(new["dataset_id"], new["seed"], strict=True)]
                table = _merge(table, new.assign(cell=hashes, **self.provenance(new)), ["dataset_id", "seed"])
                yield {f"{self.model_id}/fine_tune": table}

    def _probed(self, backbone: Backbone, bank: ImageBank) -> dict[str, pd.DataFrame]:
        from thesis_rec.truth.cells import measure_model

        campaign = self.campaign
        tasks = [task for task in campaign.tasks if task.dataset_id in self.to_probe]
        truth = measure_model(backbone, bank, tasks, self.to_describe, campaign.settings)
        found: dict[str, pd.DataFrame] = {}
        if self.to_describe:
            n_classes = {task: len(campaign.images[task].class_names) for task in self.to_describe}
            names = response_names(n_classes, campaign.settings.response)
            described = {"model_id": self.model_id, "name": names, "value": truth.responses, "cell": self.responses}
            found["responses"] = pd.DataFrame(described)
        # Written after the scores: a task counts as done by its probes.
        for part, table in (("transferability", truth.transferability), ("linear_probe", truth.records)):
            if len(table):
                hashed = table.assign(cell=table["dataset_id"].map(self.probes), **self.provenance(table))
                found[part] = _merge(self.existing(part), hashed, ["dataset_id"])
        return {f"{self.model_id}/{part}": table for part, table in found.items()}


@cache
def library_versions() -> str:
    """The libraries on which a measured accuracy depends, as ``torch 2.6.0; timm 1.0.20``."""
    from importlib.metadata import version

    return "; ".join(f"{name} {version(name)}" for name in ("torch", "timm", "transformers", "open_clip_torch"))


def _merge(old: pd.DataFrame, new: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """``new`` and those rows of ``old`` whose keys it doesn't have."""
    if old.empty or new.empty:
        return new if old.empty else old
    replaced = old.set_index(keys).index.isin(new.set_index(keys).index)
    return pd.concat([old[~replaced], new], ignore_index=True)


def join_part(tables: Tables, models: Sequence[str], part: str, columns: Sequence[str]) -> pd.DataFrame:
    """One table of a part of all models.

    Args:
        tables: Tables by ``<model id>/<part>``.
        models: Models to take, in this order.
        part: Name of the part.
        columns: Columns to keep, absent ones empty; others (the hashes) are dropped.
    """
    found = [tables[key]() for model_id in models if (key := f"{model_id}/{part}") in tables]
    found = [table for table in found if len(table)]
    if not found:
        return pd.DataFrame(columns=list(columns))
    return pd.concat(found, ignore_index=True).reindex(columns=list(columns))


def told_outcomes(tables: Tables, models: Sequence[str]) -> list[tuple[str, Outcome]]:
    """Models and what became of them; of before outcomes said so, those that succeeded have none."""
    found = join_part(tables, models, "outcome", ["model_id", "error", "hint", "made_from"])
    return [(row["model_id"], {str(name): value for name, value in row.items()}) for row in found.to_dict("records")]


def join_responses(tables: Tables, models: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """Responses of all models that answered the same reference bank.

    Returns:
        ``responses`` (M, R) float32, ``model_ids`` (M,) and ``names`` (R,). Models whose responses have other names
        than the first model's are left out.
    """
    parts = []
    for model_id in models:
        key = f"{model_id}/responses"
        if key in tables and len(table := tables[key]()):
            names, values = table["name"].to_numpy(dtype=np.str_), table["value"].to_numpy(dtype=np.float32)
            parts.append({"responses": values[None], "model_ids": np.array([model_id]), "names": names})
    none = np.zeros(0, dtype=np.str_)
    return overlay_responses(parts) or {"responses": np.zeros((0, 0), np.float32), "model_ids": none, "names": none}
