"""Building the embedded zoo stage by stage, resumable item by item.

A deadline ends a stage between items. :func:`thesis_rec.starter.assembling.assemble` makes the zoo's own folder of the
working folder when the stages are through.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_rec.base.devices import torch_device
from thesis_rec.base.errors import Failure, ItemError
from thesis_rec.starter.archives import import_bundle
from thesis_rec.starter.making import train_encoder, train_models
from thesis_rec.starter.measuring import (
    fine_tune_models,
    measure_models,
    profile_models,
    tasks_to_measure,
    tasks_to_tune,
)
from thesis_rec.starter.painter import Painter
from thesis_rec.starter.plan import ZooPlan, make_plan
from thesis_rec.starter.workshop import Workshop, ZooBuild

if TYPE_CHECKING:
    from thesis_rec.starter.settings import BuildSettings, ZooSettings

logger = logging.getLogger(__name__)


def begin_build(settings: ZooSettings) -> ZooBuild:
    """Decide what is built, take over earlier results and begin drawing images.

    Args:
        settings: Sizes, recipes and the working folder.
    """
    from thesis_rec.starter.adopting import adopt_zoo

    folder, build = Path(settings.working_folder), settings.build
    if settings.bundle_in:
        count = import_bundle([Path(path) for path in settings.bundle_in], folder)
        logger.info("%d files from %d archives", count, len(settings.bundle_in))
    budget = settings.time_budget_seconds
    deadline = None if budget is None else time.monotonic() + budget
    plan = make_plan(settings.seed, settings.sizes)
    painter = Painter(settings.workers).__enter__()
    shop = Workshop(folder, torch_device(settings.device), painter, deadline, settings.slots)
    if settings.begin_from is not None:
        adopt_zoo(Path(settings.begin_from), plan, shop, build)
    expect_images(settings.stages, plan, shop, build)
    return ZooBuild(plan, shop, build)


#: Stages in the order in which they are built.
STAGES = ("models", "encoder", "truth", "fine_tune", "hardware")


def run_stage(stage: str, plan: ZooPlan, shop: Workshop, settings: BuildSettings) -> list[Failure]:
    """Build what is missing of one stage, until the workshop's deadline.

    Args:
        stage: One of :data:`STAGES`.
        plan: What is built.
        shop: Where.
        settings: How.

    Returns:
        Items that failed.

    Raises:
        ValueError: If there is no such stage.
    """
    begun = time.perf_counter()
    match stage:
        case "models":
            failures = train_models(plan, shop)
        case "encoder":
            try:
                train_encoder(plan, shop, settings.clip)
                failures = []
            except ItemError as error:
                failures = [Failure.of("clip", error)]
        case "truth":
            failures = measure_models(plan, shop, settings.truth)
        case "fine_tune":
            failures = fine_tune_models(plan, shop, settings.fine_tune)
        case "hardware":
            chosen = settings.profiles
            failures = profile_models(plan, shop, chosen.precisions, chosen.batch_sizes, chosen.seconds_per_cell)
        case _:
            raise ValueError(f"unknown stage {stage!r}; there are {', '.join(STAGES)}")
    logger.info("stage %s: %.1f s, %d failures", stage, time.perf_counter() - begun, len(failures))
    return failures


def expect_images(stages: Sequence[str], plan: ZooPlan, shop: Workshop, settings: BuildSettings) -> None:
    """Begin drawing, in the background, all images that the stages will need, in the order of their use."""
    sizes = plan.sizes
    if "models" in stages:
        there = set(shop.trained(plan))
        sources = [recipe.source for recipe in plan.recipes if recipe.model_id not in there]
        tasks = dict.fromkeys(task for source in sources for task in source.tasks)
        shop.painter.expect("pretrain", tasks, sizes.images_per_class)
    if "encoder" in stages and not (shop.folder / "clip").is_dir():
        shop.painter.expect("pretrain", plan.clip_tasks, settings.clip.images_per_class)
    measured: dict[str, None] = {}
    if "truth" in stages:
        measured |= dict.fromkeys(tasks_to_measure(plan, shop, settings.truth))
    if "fine_tune" in stages:
        measured |= dict.fromkeys(tasks_to_tune(plan, shop, settings.fine_tune))
    for task in measured:
        shop.painter.expect("train", [task], sizes.train_per_class)
        shop.painter.expect("test", [task], sizes.test_per_class)


def validate_build(data: Any) -> None:
    """Check what stages of a build pass on.

    Raises:
        ValueError: If it is no build.
    """
    if not isinstance(data, ZooBuild):
        raise ValueError(f"expected a build with its plan, got {type(data).__name__}")
