"""Beginning a build from a finished zoo: what it holds becomes finished items of a working folder."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from thesis_rec.base.files import encode_id, load_arrays, sha256_json, write_json
from thesis_rec.starter.assembling import PROFILES, RECORDS, RESPONSES, SCORES
from thesis_rec.starter.measuring import fine_tune_folder, truth_folder, write_responses
from thesis_rec.starter.provenance import Provenance, verify_files
from thesis_rec.starter.sides import GENERATIONS
from thesis_rec.starter.workshop import ENVIRONMENT, Workshop, fresh_folder, read_json, write_parquet
from thesis_rec.truth.responses import overlay_responses

if TYPE_CHECKING:
    from thesis_rec.starter.plan import ZooPlan
    from thesis_rec.starter.settings import BuildSettings

logger = logging.getLogger(__name__)


def adopt_zoo(root: Path, plan: ZooPlan, shop: Workshop, settings: BuildSettings) -> int:
    """Make finished items of everything in a zoo's folder that the plan asks for and the workshop lacks.

    Checkpoints count when their recipes are the plan's, measurements when they were made with the present settings and
    on all tasks of a generation. Measurements are adopted as they were shipped, rounded; a part's cost is shared out
    evenly, as only sums are recorded.

    Args:
        root: The zoo's folder.
        plan: What is to be built.
        shop: Where.
        settings: How.

    Returns:
        Number of models that the workshop has now.

    Raises:
        ItemError: If a file of the zoo is absent or isn't what its record says.
    """
    content = Provenance.read(root).content
    adopted = ("models/", "clip/", RECORDS, SCORES, PROFILES, RESPONSES)
    verify_files(root, [name for name in content["files"] if name.startswith(adopted)], content)
    _adopt_models(root, content, plan, shop)
    _adopt_truth(root, content, plan, shop, settings)
    _adopt_profiles(root, shop)
    names = shop.trained(plan)
    logger.info("%d of %d models adopted from %s", len(names), len(plan.recipes), root)
    return len(names)


def _environment(content: dict[str, Any]) -> dict[str, Any]:
    return {key: content[key] for key in ("versions", "device")}


def _adopt_models(root: Path, content: dict[str, Any], plan: ZooPlan, shop: Workshop) -> None:
    there = set(shop.trained(plan))
    for recipe in plan.recipes:
        card = content["models"].get(recipe.model_id)
        if recipe.model_id in there or card is None or sha256_json(card["recipe"]) != sha256_json(recipe.as_dict()):
            continue
        with fresh_folder(shop.model_folder(recipe.model_id)) as folder:
            shutil.copytree(root / "models" / encode_id(recipe.model_id), folder, dirs_exist_ok=True)
        card = {**card, "recipe_hash": sha256_json(card["recipe"])}
        write_json(shop.folder / "training" / f"{encode_id(recipe.model_id)}.json", card)
    if not (shop.folder / ENVIRONMENT).is_file():
        write_json(shop.folder / ENVIRONMENT, _environment(content))
    if content["clip"] and not (shop.folder / "clip").is_dir():
        with fresh_folder(shop.folder / "clip") as folder:
            shutil.copytree(root / "clip", folder, dirs_exist_ok=True)
        write_json(shop.folder / "clip.json", content["clip"])


def _adopt_truth(root: Path, content: dict[str, Any], plan: ZooPlan, shop: Workshop, settings: BuildSettings) -> None:
    records = pd.read_parquet(root / RECORDS)
    tuned = records[records["protocol"] == "fine_tune"]
    if sha256_json(content["fine_tune"]["settings"]) == sha256_json(settings.fine_tune.model_dump()):
        _, cells = plan.fine_tuned()
        wanted = set(cells)
        parts = {"records": tuned[[cell in wanted for cell in zip(tuned["dataset_id"], tuned["seed"], strict=True)]]}
        costs = _shared(content["fine_tune"])
        _adopt_items(fine_tune_folder(plan, shop, settings.fine_tune), parts, len(cells), costs, plan, shop)
    if sha256_json(content["truth"]["settings"]) != sha256_json(settings.truth.model_dump()):
        return
    probes = records[records["protocol"] == "linear_probe"]
    scores = pd.read_parquet(root / SCORES)
    # Zoos of one generation have their costs beside the settings.
    made = content["truth"].get("generations") or [{**content["truth"], "generation": 1, **_environment(content)}]
    for part in made:
        number = part["generation"]
        if number not in GENERATIONS:
            continue
        tasks = plan.generation(number)
        ids = {task.dataset_id for task in tasks}
        count = sum(settings.truth.linear_probe.draws if task.draws else 1 for task in tasks)
        folder = truth_folder(number, plan, shop, settings.truth)
        if number == 1 and plan.reference_tasks:
            _adopt_responses(root, folder, set(shop.trained(plan)))
        parts = {
            "records": probes[probes["dataset_id"].isin(ids)],
            "scores": scores[scores["dataset_id"].isin(ids)],
        }
        if _adopt_items(folder, parts, count, _shared(part), plan, shop):
            write_json(folder / ENVIRONMENT, _environment(part))


def _shared(part: dict[str, Any]) -> dict[str, float]:
    """A model's share of a part's cost."""
    return {key: value / max(1, part["models"]) for key, value in part["seconds"].items()}


def _adopt_items(
    folder: Path, parts: dict[str, pd.DataFrame], count: int, costs: dict[str, float], plan: ZooPlan, shop: Workshop
) -> int:
    """Split tables by model; a model with fewer than ``count`` records is left to be measured."""
    groups = {kind: dict(list(table.groupby("model_id"))) for kind, table in parts.items()}
    adopted = 0
    for model_id in shop.trained(plan):
        done = folder / f"{encode_id(model_id)}.json"
        found = {kind: tables[model_id] for kind, tables in groups.items() if model_id in tables}
        if read_json(done) or len(found) < len(parts) or len(found["records"]) != count:
            continue
        for kind, table in found.items():
            write_parquet(table, folder / f"{encode_id(model_id)}.{kind}.parquet")
        write_json(done, {"weights_sha256": (shop.card(model_id) or {})["weights_sha256"], "seconds": costs})
        adopted += 1
    return adopted


def _adopt_responses(root: Path, folder: Path, names: set[str]) -> None:
    # Only what is measured now: earlier zoos had more.
    arrays = overlay_responses([load_arrays(root / RESPONSES)])
    for model_id, responses in zip(arrays.get("model_ids", ()), arrays.get("responses", ()), strict=True):
        if model_id in names and not (folder / f"{encode_id(model_id)}.responses.npz").is_file():
            write_responses(responses, folder, model_id)


def _adopt_profiles(root: Path, shop: Workshop) -> None:
    if not (root / PROFILES).is_file():
        return
    profiles = pd.read_parquet(root / PROFILES)
    for (device, model_id), table in profiles.groupby(["device", "model_id"], sort=False):
        name, folder = f"{encode_id(str(model_id))}.profile.parquet", f"hardware-{encode_id(str(device))}"
        if not list(shop.folder.glob(f"{folder}-*/{name}")):
            write_parquet(table, shop.folder / f"{folder}-adopted" / name)
