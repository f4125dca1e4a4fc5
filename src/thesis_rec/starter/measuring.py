"""Measuring the zoo's models: probes, scores and responses, fine-tuning, speed; where that is missing."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import Failure
from thesis_rec.base.files import encode_id, save_arrays, sha256_json, write_json
from thesis_rec.base.progress import track
from thesis_rec.starter.provenance import environment
from thesis_rec.starter.tables import recipe_row
from thesis_rec.starter.workshop import ENVIRONMENT, Workshop, finish, read_json, task_images, unfinished, write_parquet

if TYPE_CHECKING:
    from thesis_rec.starter.plan import ZooPlan
    from thesis_rec.truth.settings import FineTuneRecipe, TruthSettings

logger = logging.getLogger(__name__)


def measure_models(plan: ZooPlan, shop: Workshop, settings: TruthSettings) -> list[Failure]:
    """Linear probes, transferability scores and responses of the trained models that lack them.

    Args:
        plan: What is built.
        shop: Where.
        settings: What is measured.

    Returns:
        Models that could not be measured.
    """
    from thesis_rec.starter.sides import GENERATIONS

    failures: list[Failure] = []
    for number in GENERATIONS:
        failures += _measure_generation(number, plan, shop, settings, {failure.item for failure in failures})
    return failures


def _measure_generation(
    number: int, plan: ZooPlan, shop: Workshop, settings: TruthSettings, without: Collection[str]
) -> list[Failure]:
    """Measure what is missing of one generation of tasks; responses belong to the first."""
    from thesis_rec.models.loaders import load_backbone
    from thesis_rec.truth.cells import ImageBank, measure_model
    from thesis_rec.truth.responses import reference_tasks

    tasks = plan.generation(number)
    references = list(plan.reference_tasks) if number == 1 else []
    folder = truth_folder(number, plan, shop, settings)
    missing = [recipe for recipe in unfinished(plan, shop, folder) if recipe.model_id not in without]
    if not tasks or not missing or shop.late():
        return []
    names = dict.fromkeys(base for task in tasks for base, _ in task.members)
    bank = ImageBank(task_images(plan, shop, [*names, *references]), shop.device)
    reference = reference_tasks({name: len(bank.classes[name]) for name in references})
    write_json(folder / ENVIRONMENT, environment(shop.device))
    failures: list[Failure] = []
    for recipe in track(missing, f"measuring models on generation {number}"):
        if shop.late():
            break
        name, begun = encode_id(recipe.model_id), time.perf_counter()
        try:
            backbone = load_backbone(recipe_row(recipe), shop.folder, shop.device)
            truth = measure_model(backbone, bank, tasks, reference, settings)
        except Exception as error:
            failures.append(Failure.of(recipe.model_id, error, "Train the model again."))
            continue
        write_parquet(truth.records, folder / f"{name}.records.parquet")
        write_parquet(truth.transferability, folder / f"{name}.scores.parquet")
        if reference:
            write_responses(truth.responses, folder, recipe.model_id)
        finish(shop, folder, recipe.model_id, {"total": time.perf_counter() - begun})
    return failures


def fine_tune_models(plan: ZooPlan, shop: Workshop, settings: FineTuneRecipe) -> list[Failure]:
    """Fine-tune the chosen models on the chosen tasks, where that is missing.

    Returns:
        Models that could not be fine-tuned.
    """
    from thesis_rec.models.loaders import load_backbone
    from thesis_rec.truth.cells import ImageBank
    from thesis_rec.truth.fine_tune import fine_tune

    names, cells = plan.fine_tuned()
    folder = fine_tune_folder(plan, shop, settings)
    missing = [recipe for recipe in unfinished(plan, shop, folder) if recipe.model_id in set(names)]
    missing.sort(key=lambda recipe: names.index(recipe.model_id))
    if not missing or not cells or shop.late():
        return []
    tasks = {task.dataset_id: task for task in plan.measured()}
    used = list(dict.fromkeys(task for task, _ in cells))
    bank = ImageBank(task_images(plan, shop, used), shop.device)
    failures: list[Failure] = []
    for recipe in track(missing, "fine-tuning models"):
        if shop.late():
            break
        begun = time.perf_counter()
        try:
            backbone = load_backbone(recipe_row(recipe), shop.folder, shop.device)
            records = fine_tune(backbone, bank, [(tasks[task], seed) for task, seed in cells], settings, "starter")
        except Exception as error:
            logger.exception("%s can't be fine-tuned", recipe.model_id)
            failures.append(Failure.of(recipe.model_id, error, "Train the model again."))
            continue
        write_parquet(records, folder / f"{encode_id(recipe.model_id)}.records.parquet")
        finish(shop, folder, recipe.model_id, {"total": time.perf_counter() - begun})
    return failures


def profile_models(
    plan: ZooPlan, shop: Workshop, precisions: Sequence[str], batch_sizes: Sequence[int], seconds_per_cell: float = 0.15
) -> list[Failure]:
    """Latency, throughput and memory of every trained model on this device, where they are missing.

    Returns:
        Models that could not be profiled.
    """
    from thesis_rec.hardware.fingerprint import device_id
    from thesis_rec.hardware.profiling import profile_backbone
    from thesis_rec.hardware.timing import ProfileSettings
    from thesis_rec.models.loaders import load_backbone

    calls = {"precisions": precisions, "batch_sizes": batch_sizes, "max_seconds": seconds_per_cell}
    settings = ProfileSettings.model_validate(calls)
    device = device_id(shop.device)
    folder = shop.folder / f"hardware-{encode_id(device)}-{sha256_json(settings.model_dump())[:8]}"
    failures: list[Failure] = []
    for recipe in track(unfinished(plan, shop, folder), "profiling models"):
        if shop.late():
            break
        begun = time.perf_counter()
        try:
            backbone = load_backbone(recipe_row(recipe), shop.folder, shop.device)
            profile = profile_backbone(backbone, shop.device, settings)
        except Exception as error:
            failures.append(Failure.of(recipe.model_id, error, "Choose other precisions or batch sizes."))
            continue
        write_parquet(profile, folder / f"{encode_id(recipe.model_id)}.profile.parquet")
        finish(shop, folder, recipe.model_id, {"total": time.perf_counter() - begun})
    return failures


def truth_folder(number: int, plan: ZooPlan, shop: Workshop, settings: TruthSettings) -> Path:
    """Folder of measurements on a generation of tasks, named after these tasks and the settings."""
    tasks = [[task.dataset_id, task.members] for task in plan.generation(number)]
    sizes = [plan.sizes.train_per_class, plan.sizes.test_per_class]
    reference = plan.reference_tasks if number == 1 else ()
    return shop.folder / f"truth-{sha256_json([tasks, reference, settings.model_dump(), sizes])[:8]}"


def fine_tune_folder(plan: ZooPlan, shop: Workshop, settings: FineTuneRecipe) -> Path:
    """Folder of fine-tuning results, named after the cells and the settings."""
    _, cells = plan.fine_tuned()
    key = [cells, settings.model_dump(), plan.sizes.train_per_class, plan.sizes.test_per_class]
    return shop.folder / f"fine_tune-{sha256_json(key)[:8]}"


def tasks_to_measure(plan: ZooPlan, shop: Workshop, settings: TruthSettings) -> list[str]:
    """Base and reference tasks whose images are needed, as not all models are measured on their generation."""
    from thesis_rec.starter.sides import GENERATIONS

    found: list[str] = []
    for number in GENERATIONS:
        folder = truth_folder(number, plan, shop, settings)
        if any(read_json(folder / f"{encode_id(recipe.model_id)}.json") is None for recipe in plan.recipes):
            found += [base for task in plan.generation(number) if task.draws for base, _ in task.members]
            found += plan.reference_tasks if number == 1 else ()
    return list(dict.fromkeys(found))


def tasks_to_tune(plan: ZooPlan, shop: Workshop, settings: FineTuneRecipe) -> list[str]:
    """Base tasks whose images are needed, as not all chosen models are fine-tuned."""
    models, cells = plan.fine_tuned()
    folder = fine_tune_folder(plan, shop, settings)
    if all(read_json(folder / f"{encode_id(model)}.json") for model in models):
        return []
    return list(dict.fromkeys(task for task, _ in cells))


def write_responses(responses: NDArray[np.float32], folder: Path, model_id: str) -> None:
    """Keep a model's responses, (R,)."""
    save_arrays(folder / f"{encode_id(model_id)}.responses.npz", {"responses": responses})
