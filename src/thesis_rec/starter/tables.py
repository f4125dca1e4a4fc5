"""The tables of the finished zoo: manifests and sides, and measurements in types that take little space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.files import encode_id
from thesis_rec.models.model_manifest import ManifestRow

if TYPE_CHECKING:
    from thesis_rec.starter.plan import ZooPlan
    from thesis_rec.starter.recipes import ModelRecipe

LICENCE = "MIT"


def manifest_row(model_id: str, library: str, family: str, pretraining: str) -> ManifestRow:
    """A model's row in the manifest; its source is relative to the zoo's folder."""
    return ManifestRow(
        model_id=model_id,
        loader=library,
        source=f"models/{encode_id(model_id)}",
        revision="",
        family=family,
        pretraining=pretraining,
        licence=LICENCE,
        extractor=library if library != "transformers" else "huggingface",
    )


def recipe_row(recipe: ModelRecipe) -> ManifestRow:
    """A planned model's row in the manifest."""
    from thesis_rec.starter.architectures import ARCHITECTURES

    library = ARCHITECTURES[recipe.architecture].library
    return manifest_row(recipe.model_id, library, recipe.family, recipe.source.name)


#: Transferability scores that are shipped: of the two H-scores, which agree closely, the original one.
SHIPPED_SCORES = ("logme", "h_score", "leep", "n_leep", "gbc")


def compact_records(records: pd.DataFrame) -> pd.DataFrame:
    """Performance records without cost, sorted, in types that take little space."""
    columns = ["model_id", "dataset_id", "protocol", "metric", "value", "seed", "n_train", "source"]
    table = records[columns].sort_values(["protocol", "n_train", "dataset_id", "seed", "model_id"], ignore_index=True)
    # Accuracies are fractions of a few hundred test images: four digits hold them.
    table["value"] = table["value"].astype(float).round(4)
    return table.astype({"value": "float32", "seed": "int32", "n_train": "int32"})


def compact_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """The shipped transferability scores, sorted, rounded to three significant digits, their cost to one."""
    table = scores[scores["method"].isin(SHIPPED_SCORES)]
    table = table.sort_values(["method", "dataset_id", "model_id"], ignore_index=True)
    table["value"] = _significant(table["value"].to_numpy(dtype=float), 3)
    table["seconds"] = _significant(table["seconds"].to_numpy(dtype=float), 1)
    return table.astype({"value": "float32", "seconds": "float32"})


def compact_profiles(profiles: pd.DataFrame) -> pd.DataFrame:
    """Hardware profiles, whose figures are rounded to four significant digits."""
    table = profiles.copy()
    for column in table.columns[table.dtypes == "float64"]:
        table[column] = _significant(table[column].to_numpy(dtype=float), 4)
    return table


def _significant(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    rounded = values.copy()
    usable = np.isfinite(values) & (values != 0)
    scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(values[usable]))))
    rounded[usable] = np.round(values[usable] * scale) / scale
    return rounded


def dataset_manifest(plan: ZooPlan) -> pd.DataFrame:
    """The zoo's dataset manifest: base tasks, then sub-tasks."""
    from thesis_rec.starter import subtasks

    rows = []
    for task in plan.measured():
        is_base = task.draws
        rows.append(
            {
                "dataset_id": task.dataset_id,
                "loader": "generated" if is_base else "",
                "source": task.dataset_id if is_base else "",
                "image_column": "",
                "label_column": "",
                "splits": "pretrain;train;test" if is_base else "",
                "domain": subtasks.domain(task),
                "group": subtasks.group(task),
                "parent": "" if is_base else ";".join(subtasks.parents(task)),
                "class_subset": "" if is_base else subtasks.class_subset(task),
            }
        )
    return pd.DataFrame(rows)


def unknown_sides(plan: ZooPlan, model_ids: Sequence[str]) -> dict[str, list[str]]:
    """Families, datasets and models that count as unknown.

    A model is unknown when its architecture family is, or when it was pre-trained on an unknown source. A dataset is
    unknown when its family is; mixtures never mix both sides.
    """
    from thesis_rec.starter import sides
    from thesis_rec.starter.architectures import UNKNOWN_FAMILIES
    from thesis_rec.tasks import BASE_TASKS

    foreign = set(sides.UNKNOWN_TASK_FAMILIES)
    recipes = {recipe.model_id: recipe for recipe in plan.recipes}
    return {
        "dataset_families": sorted(foreign),
        "dataset_ids": [
            task.dataset_id
            for task in plan.measured()
            if any(BASE_TASKS[base].family in foreign for base, _ in task.members)
        ],
        "model_families": sorted(UNKNOWN_FAMILIES),
        "model_sources": sorted({r.source.name for r in plan.recipes if not r.source.known}),
        "model_ids": [
            name for name in model_ids if recipes[name].family in UNKNOWN_FAMILIES or not recipes[name].source.known
        ],
    }
