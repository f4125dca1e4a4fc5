"""Training the zoo's models and its image encoder, where they are missing."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_rec.base.errors import Failure, ItemError
from thesis_rec.base.files import encode_id, sha256_file, sha256_json, write_json
from thesis_rec.base.progress import track
from thesis_rec.starter.plan import spread
from thesis_rec.starter.provenance import environment
from thesis_rec.starter.workshop import ENVIRONMENT, Workshop, fresh_folder, read_json, task_images

if TYPE_CHECKING:
    from thesis_rec.starter.clip import ClipSettings
    from thesis_rec.starter.plan import ZooPlan

logger = logging.getLogger(__name__)


def train_models(plan: ZooPlan, shop: Workshop) -> list[Failure]:
    """Train and save the models that are missing.

    Args:
        plan: What is built.
        shop: Where.

    Returns:
        Models whose training diverged or failed.
    """
    from thesis_rec.starter.architectures import ARCHITECTURES
    from thesis_rec.starter.checkpoints import save
    from thesis_rec.starter.construction import parameter_count
    from thesis_rec.starter.pretraining import Bank, head_names, train_recipes

    there = set(shop.trained(plan))
    missing = [recipe for recipe in plan.recipes if recipe.model_id not in there]
    if not missing or shop.late():
        return []
    begun = time.perf_counter()
    data = shop.painter.pretraining(
        (task for recipe in missing for task in recipe.source.tasks), plan.sizes.images_per_class
    )
    bank = Bank.of(data, shop.device)
    logger.info("%d pre-training images after %.1f s", len(bank.images), time.perf_counter() - begun)
    failures: list[Failure] = []
    write_json(shop.folder / ENVIRONMENT, environment(shop.device))
    begun = time.perf_counter()
    results = train_recipes(missing, bank, shop.device, shop.slots, shop.deadline)
    for recipe, module, outcome in track(results, "training models", len(missing)):
        loss = None if outcome is None else outcome.loss
        finite = all(bool(p.isfinite().all()) for p in module.parameters()) and (loss is None or np.isfinite(loss))
        if not finite:
            failures.append(
                Failure(recipe.model_id, "Training diverged.", "Lower the learning rate or change the seed.")
            )
            continue
        names = head_names(recipe.source, bank.class_names)
        architecture = ARCHITECTURES[recipe.architecture]
        with fresh_folder(shop.model_folder(recipe.model_id)) as folder:
            save(module, architecture, names, folder, {"source": recipe.source.name, "steps": recipe.steps})
        card = {
            "recipe": recipe.as_dict(),
            "recipe_hash": sha256_json(recipe.as_dict()),
            "class_names": names,
            "n_parameters": parameter_count(module),
            "loss": None if loss is None else round(loss, 4),
            "seconds": 0.0 if outcome is None else round(outcome.seconds, 3),
            "captured": outcome is not None and outcome.captured,
            "weights_sha256": _weights_hash(shop.model_folder(recipe.model_id)),
        }
        write_json(shop.folder / "training" / f"{encode_id(recipe.model_id)}.json", card)
    logger.info("models: %d asked for, %.1f s", len(missing), time.perf_counter() - begun)
    return failures


def _weights_hash(folder: Path) -> str:
    return sha256_file(next(iter(sorted(folder.glob("*.safetensors")))))


def train_encoder(plan: ZooPlan, shop: Workshop, settings: ClipSettings) -> dict[str, Any]:
    """Train the image encoder unless it is there, and measure it.

    Returns:
        What is recorded about it; empty when time was up.
    """
    from thesis_rec.starter.clip import captions_of, class_mean_accuracy, save_clip, train_clip
    from thesis_rec.starter.pretraining import Bank

    wanted = sha256_json({"settings": asdict(settings), "tasks": plan.clip_tasks})
    path = shop.folder / "clip.json"
    card = read_json(path)
    if card and card["hash"] == wanted and (shop.folder / "clip").is_dir():
        return card
    if shop.late():
        return {}
    begun = time.perf_counter()
    bank = Bank.of(shop.painter.pretraining(plan.clip_tasks, settings.images_per_class), shop.device)
    logger.info("%d images for the encoder after %.1f s", len(bank.images), time.perf_counter() - begun)
    captions = captions_of(plan.clip_tasks)
    begun = time.perf_counter()
    model, loss = train_clip(bank, captions, settings, shop.device)
    seconds = time.perf_counter() - begun
    if not np.isfinite(loss):
        raise ItemError("clip", "Training the encoder diverged.", "Lower its learning rate.")
    accuracies = {}
    for task in spread(plan.first_base_tasks(), 24, plan.seed):
        images = task_images(plan, shop, [task])[task]
        accuracies[task] = round(class_mean_accuracy(model, images, shop.device), 4)
    model.cpu()
    with fresh_folder(shop.folder / "clip") as folder:
        save_clip(model, captions, settings, folder, {"tasks": len(plan.clip_tasks)})
    card = {
        "hash": wanted,
        "settings": asdict(settings),
        "tasks": list(plan.clip_tasks),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "loss": round(loss, 4),
        "seconds": round(seconds, 2),
        "nearest_class_mean_accuracy": accuracies,
    }
    write_json(path, card)
    logger.info(
        "encoder: loss %.3f after %.1f s, nearest class mean %.3f on average",
        loss, seconds, float(np.mean(list(accuracies.values()))),
    )  # fmt: skip
    return card
