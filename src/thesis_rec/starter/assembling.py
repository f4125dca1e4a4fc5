"""Making the zoo's own folder of a working folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from thesis_rec.base.errors import ItemError
from thesis_rec.base.files import atomic_path, encode_id, load_arrays, save_arrays, write_json
from thesis_rec.models.model_sources import PROVENANCE_FILE
from thesis_rec.starter.archives import export_bundle
from thesis_rec.starter.measuring import fine_tune_folder, truth_folder
from thesis_rec.starter.provenance import environment, hash_tree
from thesis_rec.starter.sides import GENERATIONS
from thesis_rec.starter.tables import (
    LICENCE,
    compact_profiles,
    compact_records,
    compact_scores,
    dataset_manifest,
    recipe_row,
    unknown_sides,
)
from thesis_rec.starter.workshop import ENVIRONMENT, Workshop, ZooBuild, fresh_folder, read_json, write_parquet

if TYPE_CHECKING:
    from thesis_rec.starter.plan import ZooPlan
    from thesis_rec.starter.settings import BuildSettings, ZooSettings

#: The zoo's tables.
RECORDS, SCORES, PROFILES, RESPONSES, SPECTRA = (
    "performance_records.parquet",
    "transferability_scores.parquet",
    "hardware_profiles.parquet",
    "model_responses.npz",
    "model_spectra.npz",
)


def finish_build(build: ZooBuild, chosen: ZooSettings, failed: int) -> dict[str, Any]:
    """Make the zoo's own folder as far as there are models, and the bundle if asked for.

    Args:
        build: What was built, where and how.
        chosen: Where the zoo and its bundle go.
        failed: Number of items that failed.

    Returns:
        Counts of what is there.
    """
    plan, shop, settings = build
    shop.painter.__exit__()
    names = shop.trained(plan)
    summary: dict[str, Any] = {"models": len(names), "planned": len(plan.recipes), "failed": failed}
    if names:
        record = assemble(plan, shop, settings, Path(chosen.output))
        summary |= {
            "measured": record["truth"]["models"],
            "fine_tuned": record["fine_tune"]["models"],
            "seconds_per_linear_probe": record["truth"]["seconds_per_linear_probe"],
            "seconds_per_fine_tuning": record["fine_tune"]["seconds_per_cell"],
            "files": len(record["files"]),
        }
    if chosen.bundle_out:
        pieces = export_bundle(shop.folder, Path(chosen.bundle_out))
        summary["bundle"] = {path.name: path.stat().st_size for path in pieces}
    return summary


def assemble(plan: ZooPlan, shop: Workshop, settings: BuildSettings, output: Path) -> dict[str, Any]:
    """Make the zoo's own folder from the working folder.

    Args:
        plan: What was built.
        shop: Where it was built.
        settings: How it was built.
        output: The zoo's folder; files that the build doesn't make are kept.

    Returns:
        The provenance record.

    Raises:
        ItemError: If no model is there.
    """
    names = shop.trained(plan)
    if not names:
        raise ItemError(str(shop.folder), "No trained model is there.", "Run the stage that trains models first.")
    cards = {name: shop.card(name) or {} for name in names}
    # What it says of the folder isn't true from here on.
    (output / PROVENANCE_FILE).unlink(missing_ok=True)
    with fresh_folder(output / "models") as folder:
        for name in names:
            shutil.copytree(shop.model_folder(name), folder / encode_id(name))
    if (shop.folder / "clip").is_dir():
        with fresh_folder(output / "clip") as folder:
            shutil.copytree(shop.folder / "clip", folder, dirs_exist_ok=True)
    generations = [
        (number, tasks, truth_folder(number, plan, shop, settings.truth))
        for number in GENERATIONS
        if (tasks := plan.generation(number))
    ]
    measured = {number: _finished(folder, names) for number, _, folder in generations}
    tuned_folder = fine_tune_folder(plan, shop, settings.fine_tune)
    tuned = _finished(tuned_folder, names)
    records = [table for number, _, folder in generations for table in _tables(folder, measured[number], "records")]
    records += _tables(tuned_folder, tuned, "records")
    if records:
        # Tasks with as many classes have few different accuracies: a row group of their own takes less space.
        write_parquet(compact_records(pd.concat(records, ignore_index=True)), output / RECORDS, "n_train")
    scores = [table for number, _, folder in generations for table in _tables(folder, measured[number], "scores")]
    if scores:
        write_parquet(compact_scores(pd.concat(scores, ignore_index=True)), output / SCORES)
    profiles = [pd.read_parquet(path) for path in sorted(shop.folder.glob("hardware-*/*.profile.parquet"))]
    profiles = [table[table["model_id"].isin(names)] for table in profiles]
    if profiles:
        write_parquet(compact_profiles(pd.concat(profiles, ignore_index=True)), output / PROFILES)
    _write_responses(plan, generations[0][2], measured[generations[0][0]], output / RESPONSES)
    _write_manifests(plan, names, cards, output)
    _write_spectra(output)
    unknown = unknown_sides(plan, names)
    write_json(output / "sides.json", unknown)
    linear = [
        {
            "generation": number,
            "base_tasks": sum(task.draws for task in tasks),
            "sub_tasks": sum(not task.draws for task in tasks),
            "models": len(measured[number]),
            "seconds": _costs(folder, measured[number]),
            **(read_json(folder / ENVIRONMENT) or {}),
        }
        for number, tasks, folder in generations
    ]
    total = sum(part["seconds"].get("total", 0.0) for part in linear)
    probes = sum(
        part["models"] * (part["base_tasks"] * settings.truth.linear_probe.draws + part["sub_tasks"]) for part in linear
    )
    tuning_costs = _costs(tuned_folder, tuned)
    content = {
        "format": 1,
        "seed": plan.seed,
        "sizes": plan.sizes.model_dump(),
        **(read_json(shop.folder / ENVIRONMENT) or environment(shop.device)),
        "licence": LICENCE,
        "unknown": unknown,
        "reference_tasks": list(plan.reference_tasks),
        "truth": {
            "settings": settings.truth.model_dump(),
            "seconds_per_linear_probe": round(total / max(1, probes), 6),
            "models": min((part["models"] for part in linear), default=0),
            "generations": linear,
        },
        "fine_tune": {
            "settings": settings.fine_tune.model_dump(),
            "seconds": tuning_costs,
            "seconds_per_cell": round(
                tuning_costs.get("total", 0.0) / max(1, len(tuned) * len(plan.fine_tuned()[1])), 4
            ),
            "models": len(tuned),
        },
        "clip": read_json(shop.folder / "clip.json"),
        "models": {name: {key: value for key, value in cards[name].items() if key != "recipe_hash"} for name in names},
        "files": hash_tree(output),
    }
    write_record(content, output)
    return content


def write_record(content: dict[str, Any], output: Path) -> None:
    """Write the provenance record of a zoo's folder: one line per model and file, so that differences stay readable."""
    with atomic_path(output / PROVENANCE_FILE) as path:
        path.write_text(_lines(content), encoding="utf-8")


def _write_manifests(plan: ZooPlan, names: Sequence[str], cards: dict[str, dict[str, Any]], output: Path) -> None:
    recipes = {recipe.model_id: recipe for recipe in plan.recipes}
    models = pd.DataFrame([recipe_row(recipes[name]).model_dump() for name in names])
    models["n_parameters"] = [cards[name]["n_parameters"] for name in names]
    for table, name in ((models, "model_manifest.csv"), (dataset_manifest(plan), "dataset_manifest.csv")):
        with atomic_path(output / name) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")


def _write_responses(plan: ZooPlan, folder: Path, names: Sequence[str], target: Path) -> None:
    """All models' responses on the reference bank, if they were measured."""
    from thesis_rec.tasks import BASE_TASKS
    from thesis_rec.truth.responses import reference_tasks, response_names

    if not names or not plan.reference_tasks:
        return
    responses = [load_arrays(folder / f"{encode_id(name)}.responses.npz")["responses"] for name in names]
    n_classes = {task: len(BASE_TASKS[task].class_names) for task in plan.reference_tasks}
    arrays = {
        "responses": np.stack(responses).astype(np.float16),
        "model_ids": np.array(names),
        "names": np.array(response_names(reference_tasks(n_classes))),
    }
    save_arrays(target, arrays)


def _write_spectra(output: Path) -> None:
    """What each model's weights show against random ones."""
    from thesis_rec.models.model_extraction import open_model, vector_and_spectra
    from thesis_rec.models.model_manifest import read_manifest
    from thesis_rec.models.spectra import NAMES

    rows, _ = read_manifest(pd.read_csv(output / "model_manifest.csv", dtype=str, keep_default_na=False))
    spectra = [vector_and_spectra(open_model(row, output))[1] for row in rows]
    names = {"model_ids": np.array([row.model_id for row in rows]), "names": np.array(NAMES)}
    save_arrays(output / SPECTRA, {"spectra": np.stack(spectra).astype(np.float16), **names})


def _lines(content: dict[str, Any]) -> str:
    parts = []
    for key, value in content.items():
        if key in ("models", "files"):
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in value.items())
            parts.append(f"{json.dumps(key)}: {{\n{inner}\n}}")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _finished(folder: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if read_json(folder / f"{encode_id(name)}.json")]


def _tables(folder: Path, names: Sequence[str], kind: str) -> list[pd.DataFrame]:
    return [pd.read_parquet(folder / f"{encode_id(name)}.{kind}.parquet") for name in names]


def _costs(folder: Path, names: Sequence[str]) -> dict[str, float]:
    """Seconds of each part, summed over models."""
    total: dict[str, float] = {}
    for name in names:
        for key, value in (read_json(folder / f"{encode_id(name)}.json") or {"seconds": {}})["seconds"].items():
            total[key] = total.get(key, 0.0) + value
    return {key: round(value, 3) for key, value in total.items()}
