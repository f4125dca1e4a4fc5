"""Nodes of the pipeline ``starter_zoo``: what is missing of the zoo is built in the working folder."""

import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from thesis_rec.base.errors import check_failures, failures_frame
from thesis_rec.pipelines.starter_zoo.parameters import StarterZooParameters

logger = logging.getLogger(__name__)


class ZooBuild(NamedTuple):
    """What is built, where and how; lives in memory for one run."""

    plan: Any
    shop: Any
    settings: Any


def plan_zoo(parameters: StarterZooParameters) -> tuple[ZooBuild, dict[str, Any]]:
    """Decide what is built, take over earlier results and begin drawing images.

    Args:
        parameters: Sizes, recipes and the working folder.

    Returns:
        The build and a summary of its plan.
    """
    from thesis_rec.base.devices import torch_device
    from thesis_rec.starter.adopting import adopt_zoo
    from thesis_rec.starter.archives import import_bundle
    from thesis_rec.starter.building import expect_images
    from thesis_rec.starter.painter import Painter
    from thesis_rec.starter.plan import make_plan
    from thesis_rec.starter.workshop import Workshop

    settings = _settings(parameters)
    folder = Path(parameters.working_folder)
    if parameters.bundle_in:
        count = import_bundle([Path(path) for path in parameters.bundle_in], folder)
        logger.info("%d files from %d archives", count, len(parameters.bundle_in))
    budget = parameters.time_budget_seconds
    deadline = None if budget is None else time.monotonic() + budget
    plan = make_plan(settings.seed, settings.sizes)
    painter = Painter(parameters.workers).__enter__()
    shop = Workshop(folder, torch_device(parameters.device), painter, deadline, parameters.slots)
    if parameters.begin_from is not None:
        adopt_zoo(Path(parameters.begin_from), plan, shop, settings)
    expect_images(parameters.stages, plan, shop, settings)
    fine_tuned, cells = plan.fine_tuned()
    summary = {
        "models": [recipe.model_id for recipe in plan.recipes],
        "base_tasks": list(plan.base_tasks),
        "reference_tasks": list(plan.reference_tasks),
        "subtasks": len(plan.subtasks),
        "updates": sum(recipe.steps for recipe in plan.recipes),
        "fine_tuned_models": fine_tuned,
        "fine_tuned_cells": len(fine_tuned) * len(cells),
    }
    return ZooBuild(plan, shop, settings), summary


def build_zoo(starter_zoo_build: ZooBuild, parameters: StarterZooParameters) -> pd.DataFrame:
    """Build what is missing, stage by stage: models, image encoder, truth, fine-tuning, hardware profiles.

    Returns:
        The table of what failed.
    """
    from thesis_rec.starter.building import STAGES, run_stage

    stages = [stage for stage in STAGES if stage in parameters.stages]
    return failures_frame([failure for stage in stages for failure in run_stage(stage, *starter_zoo_build)])


def assemble_zoo(
    starter_zoo_build: ZooBuild, starter_zoo_failures: pd.DataFrame, parameters: StarterZooParameters
) -> dict[str, Any]:
    """Write manifests, tables and the provenance record, and the bundle if asked for.

    Returns:
        Counts of what is there.
    """
    from thesis_rec.starter.archives import export_bundle
    from thesis_rec.starter.assembling import assemble

    plan, shop, settings = starter_zoo_build
    shop.painter.__exit__()
    names = shop.trained(plan)
    summary: dict[str, Any] = {
        "models": len(names),
        "planned": len(plan.recipes),
        "failed": len(starter_zoo_failures),
    }
    if names:
        record = assemble(plan, shop, settings, Path(parameters.output))
        summary |= {
            "measured": record["truth"]["models"],
            "fine_tuned": record["fine_tune"]["models"],
            "seconds_per_linear_probe": record["truth"]["seconds_per_linear_probe"],
            "seconds_per_fine_tuning": record["fine_tune"]["seconds_per_cell"],
            "files": len(record["files"]),
        }
    if parameters.bundle_out:
        pieces = export_bundle(shop.folder, Path(parameters.bundle_out))
        summary["bundle"] = {path.name: path.stat().st_size for path in pieces}
    return summary


def check_zoo(
    starter_zoo_summary: dict[str, Any], starter_zoo_failures: pd.DataFrame, parameters: StarterZooParameters
) -> None:
    """Raise when nothing was built, or anything failed with ``strict``.

    Raises:
        NothingSucceeded: See above.
    """
    there, planned = starter_zoo_summary["models"], starter_zoo_summary["planned"]
    check_failures(starter_zoo_failures, there, parameters.strict, "models")
    if there < planned:
        logger.info("%d of %d models are there; run again to go on", there, planned)


def _settings(parameters: StarterZooParameters) -> Any:
    from thesis_rec.starter.building import BuildSettings
    from thesis_rec.starter.clip import ClipSettings
    from thesis_rec.truth.settings import FineTuneSettings, ProbeRecipe, ProbeSettings, TruthSettings

    truth = parameters.truth
    return BuildSettings(
        seed=parameters.seed,
        sizes=parameters.sizes,
        clip=ClipSettings(seed=parameters.seed, **parameters.encoder.model_dump()),
        truth=TruthSettings(
            probe=ProbeSettings(seed=parameters.seed, **truth.model_dump(include=set(ProbeRecipe.model_fields))),
            score_images=truth.score_images,
            batch_size=truth.batch_size,
            source="starter",
            seed=parameters.seed,
        ),
        fine_tune=FineTuneSettings(source="starter", slots=parameters.slots, **parameters.fine_tune.model_dump()),
        precisions=tuple(parameters.hardware.precisions),
        batch_sizes=tuple(parameters.hardware.batch_sizes),
        seconds_per_profile=parameters.hardware.seconds_per_cell,
    )
