"""Nodes of the pipeline ``starter_zoo``: what is missing of the zoo is built in the working folder."""

import logging
from typing import Any

import pandas as pd

from thesis_rec.base.errors import check_failures, failures_frame
from thesis_rec.starter.building import STAGES, begin_build, run_stage
from thesis_rec.starter.settings import ZooSettings

logger = logging.getLogger(__name__)


class StarterZooParameters(ZooSettings):
    """All knobs of ``params:starter_zoo``; see ``conf/base/parameters/starter_zoo.yml``."""

    strict: bool = False


def plan_zoo(parameters: StarterZooParameters) -> tuple[Any, dict[str, Any]]:
    """Decide what is built, take over earlier results and begin drawing images.

    Args:
        parameters: Sizes, recipes and the working folder.

    Returns:
        The build, which lives in memory for one run, and a summary of its plan.
    """
    build = begin_build(parameters)
    return build, build.plan.summary()


def build_zoo(starter_zoo_build: Any, parameters: StarterZooParameters) -> pd.DataFrame:
    """Build what is missing, stage by stage: models, image encoder, truth, fine-tuning, hardware profiles.

    Returns:
        The table of what failed.
    """
    stages = [stage for stage in STAGES if stage in parameters.stages]
    return failures_frame([failure for stage in stages for failure in run_stage(stage, *starter_zoo_build)])


def assemble_zoo(
    starter_zoo_build: Any, starter_zoo_failures: pd.DataFrame, parameters: StarterZooParameters
) -> dict[str, Any]:
    """Write manifests, tables and the provenance record, and the bundle if asked for.

    Returns:
        Counts of what is there.
    """
    from thesis_rec.starter.assembling import finish_build

    return finish_build(starter_zoo_build, parameters, len(starter_zoo_failures))


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
