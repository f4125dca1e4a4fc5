"""Measuring a whole zoo, model by model, so that a killed run goes on where it stopped.

What is measured about a model is kept in small tables, one per part: ``linear_probe``, ``transferability``,
``responses``, ``fine_tune`` and ``outcome`` (one row: why the model failed, or that it didn't). Every row of the others
carries the hash of what it depends on (weights, images, recipe) in the column ``cell``: a row with the right hash is
never measured again, any other is replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.devices import torch_device
from thesis_rec.base.errors import Failure
from thesis_rec.base.files import sha256_json
from thesis_rec.base.resuming import Outcome, work_on
from thesis_rec.base.tables import MeasuredTask, TaskImages
from thesis_rec.truth.responses import SEED, overlay_responses, response_names
from thesis_rec.truth.settings import HEAD_RATE, MAX_SHARE, SHIFT, WEIGHT_DECAY, CampaignSettings

if TYPE_CHECKING:
    from thesis_rec.images.manifest import DatasetRow
    from thesis_rec.models.backbone import Backbone
    from thesis_rec.models.model_manifest import ManifestRow
    from thesis_rec.truth.cells import ImageBank

Tables = Mapping[str, Callable[[], pd.DataFrame]]

#: Digits of the hashes that stand in the results.
_SHORT = 16


@dataclass(frozen=True)
class Campaign:
    """What is to be measured about every model.

    Attributes:
        images: Base tasks by identifier, those of the reference tasks included.
        tasks: Tasks to measure.
        reference: Tasks that describe models (:func:`~thesis_rec.truth.responses.reference_tasks`).
        settings: What is measured on them, and how.
    """

    images: Mapping[str, TaskImages]
    tasks: Sequence[MeasuredTask]
    reference: Sequence[MeasuredTask]
    settings: CampaignSettings


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
    from thesis_rec.truth.cells import ImageBank

    hashes = {dataset_id: images_fingerprint(task) for dataset_id, task in campaign.images.items()}
    bank = cache(lambda: ImageBank(campaign.images, torch_device(campaign.settings.device)))

    def make(row: ManifestRow, outcome: Outcome) -> Iterator[dict[str, pd.DataFrame]]:
        cells = _Cells(row.model_id, campaign, hashes, fingerprint(row), existing)
        if any(cells.missing.values()):
            yield from cells.measured(partial(load, row), bank())

    items = {row.model_id: row for row in rows}
    for tables, outcomes in work_on(items, "measuring models", lambda row: asked, make, outcomes={}):
        told = {name: pd.DataFrame([{"model_id": name, **outcome}]) for name, outcome in outcomes.items()}
        yield tables | {f"{name}/outcome": table for name, table in told.items()}


#: What tells the cells of a part apart.
_KEYS = {"linear_probe": ["dataset_id"], "transferability": ["dataset_id"], "fine_tune": ["dataset_id", "seed"]}


class _Cells:
    """The cells of one model: hashes of what they depend on, which of them earlier runs lack, and measuring these."""

    def __init__(
        self, model_id: str, campaign: Campaign, images: Mapping[str, str], weights: str, existing: Tables
    ) -> None:
        self.model_id, self.campaign, self.weights, self.tables = model_id, campaign, weights, existing
        settings, bases = campaign.settings, [task.dataset_id for task in campaign.reference if task.draws]
        tasks = {
            task.dataset_id: [[images[base], c] for base, c in task.members] + [task.draws] for task in campaign.tasks
        }
        self.datasets = {name: sha256_json(members)[:_SHORT] for name, members in tasks.items()}
        probe = [weights, settings.linear_probe.model_dump() | {"max_share": MAX_SHARE, "seed": settings.seed}]
        recipe = [*probe, settings.scores, settings.score_images, settings.seed, settings.source]
        bank = {"subtasks": len(campaign.reference) - len(bases), "seed": SEED}, [images[name] for name in bases]
        # What was measured by several copies of a model at once counts as well.
        fixed = {"head_rate": HEAD_RATE, "weight_decay": WEIGHT_DECAY, "shift": SHIFT, "slots": 12}
        tuned = settings.fine_tune.model_dump(exclude={"seeds", "save_every"}) | fixed | {"source": settings.source}
        # Hashes by part, and by what tells the cells of a part apart.
        self.hashes: dict[str, dict[Any, str]] = {"linear_probe": {}, "responses": {}, "fine_tune": {}}
        if "linear_probe" in settings.protocols:
            self.hashes["linear_probe"] = {name: sha256_json([recipe, members]) for name, members in tasks.items()}
            self.hashes["responses"] = {"cell": sha256_json([probe, *bank])} if bases else {}
        if "fine_tune" in settings.protocols:
            self.hashes["fine_tune"] = {
                (name, seed): sha256_json([[weights, tuned, settings.source], members, seed])
                for name, members in tasks.items()
                for seed in range(settings.fine_tune.seeds)
            }
        # What there is no cell of that is made from the same.
        self.missing = dict[str, list[Any]]()
        for part, hashes in self.hashes.items():
            there = set(self._existing(part).get("cell", []))
            self.missing[part] = [key for key, cell in hashes.items() if cell not in there]

    def _existing(self, part: str) -> pd.DataFrame:
        """The table of an earlier run; empty where there is none."""
        key = f"{self.model_id}/{part}"
        return self.tables[key]() if key in self.tables else pd.DataFrame()

    def _merged(self, part: str, new: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """New rows, with what tells their measurement from others, and those earlier ones that they don't replace."""
        old, keys = self._existing(part), new.set_index(_KEYS[part]).index
        if not old.empty:
            old = old[~old.set_index(_KEYS[part]).index.isin(keys)]
        told = {"model_revision": self.weights[:_SHORT], "versions": library_versions()}
        # Scores are made with the probes.
        hashes = self.hashes["fine_tune" if part == "fine_tune" else "linear_probe"]
        new = new.assign(dataset_revision=new["dataset_id"].map(self.datasets), **told, cell=keys.map(hashes))
        return {f"{self.model_id}/{part}": pd.concat([old, new], ignore_index=True)}

    def measured(self, load: Callable[[], Backbone], bank: ImageBank) -> Iterator[dict[str, pd.DataFrame]]:
        """Measure what is missing; tables as of :func:`measure_zoo`."""
        campaign, settings = self.campaign, self.campaign.settings
        reference = campaign.reference if self.missing["responses"] else []
        if self.missing["linear_probe"] or reference:
            from thesis_rec.truth.cells import measure_model

            tasks = [task for task in campaign.tasks if task.dataset_id in self.missing["linear_probe"]]
            truth = measure_model(load(), bank, tasks, reference, settings)
            found: dict[str, pd.DataFrame] = {}
            if reference:
                described = {"name": response_names(reference), "value": truth.responses, **self.hashes["responses"]}
                found[f"{self.model_id}/responses"] = pd.DataFrame({"model_id": self.model_id, **described})
            # Written after the scores: a task counts as done by its probes.
            for part, table in (("transferability", truth.transferability), ("linear_probe", truth.records)):
                if len(table):
                    found |= self._merged(part, table)
            yield found
        if todo := self.missing["fine_tune"]:
            from thesis_rec.truth.fine_tune import fine_tune

            by_id = {task.dataset_id: task for task in campaign.tasks}
            backbone, every, tuned = load(), settings.fine_tune.save_every, []
            for start in range(0, len(todo), every):
                cells = [(by_id[name], seed) for name, seed in todo[start : start + every]]
                tuned.append(fine_tune(backbone, bank, cells, settings.fine_tune, settings.source))
                yield self._merged("fine_tune", pd.concat(tuned))


@cache
def library_versions() -> str:
    """The libraries on which a measured accuracy depends, as ``torch 2.6.0; timm 1.0.20``."""
    from importlib.metadata import version

    return "; ".join(f"{name} {version(name)}" for name in ("torch", "timm", "transformers", "open_clip_torch"))


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
    found = join_part(tables, models, "responses", ["model_id", "name", "value"])
    parts = []
    for model_id, part in found.groupby("model_id", sort=False):
        names, values = part["name"].to_numpy(dtype=np.str_), part["value"].to_numpy(dtype=np.float32)
        parts.append({"responses": values[None], "model_ids": np.array([model_id]), "names": names})
    none = np.zeros(0, dtype=np.str_)
    return overlay_responses(parts) or {"responses": np.zeros((0, 0), np.float32), "model_ids": none, "names": none}
