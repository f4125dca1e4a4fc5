"""What must hold before anything is submitted: a job that waited a night must not fail on a typo."""

import os
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from thesis_rec.cluster.plan import Job
from thesis_rec.cluster.resources import Cluster


def find_problems(
    jobs: Sequence[Job],
    cluster: Cluster,
    data_root: Path,
    crossing: Collection[str],
    is_persistent: Callable[[str], bool],
    free_inputs: Collection[str],
    is_there: Callable[[str], bool],
    needs_sbatch: bool = True,
) -> list[str]:
    """All reasons not to submit, each with its remedy; empty when there is none.

    Args:
        jobs: What would be submitted.
        cluster: The environment's ``cluster`` section.
        data_root: Root of everything the jobs write.
        crossing: Datasets that cross the border between jobs.
        is_persistent: Whether a dataset lies in a file.
        free_inputs: Datasets that no job of the plan makes.
        is_there: Whether a dataset's file is there now, or needn't be.
        needs_sbatch: False for a dry run, which may be made anywhere.
    """
    problems = []
    if needs_sbatch and shutil.which("sbatch") is None:
        problems.append("sbatch is not on PATH: run this on a login node of the cluster, or add --dry-run.")
    for job in jobs:
        if not job.resources.partition:
            problems.append(f"{job.name}: no partition; set cluster.default.partition in the environment's parameters.")
        if cluster.needs_account and not job.resources.account:
            problems.append(f"{job.name}: no account; set THESIS_REC_ACCOUNT or cluster.default.account.")
    for name in sorted(crossing):
        if not is_persistent(name):
            problems.append(f"{name} would be lost between jobs: give it an entry with a filepath in the catalog.")
    for name in sorted(free_inputs):
        if is_persistent(name) and not is_there(name):
            problems.append(f"{name} does not exist: run the pipeline that makes it first, or provide the file.")
    present = next(folder for folder in (data_root, *data_root.absolute().parents) if folder.exists())
    if not os.access(present, os.W_OK | os.X_OK):
        problems.append(f"{present} can't be written to: set SCRATCH, or data_root in the environment's globals.")
    free_gb = shutil.disk_usage(present).free / 1e9
    if free_gb < cluster.min_free_gb:
        least = f"cluster.min_free_gb ({cluster.min_free_gb:g})"
        problems.append(f"{data_root} has {free_gb:.1f} GB free, below {least}: make room.")
    return list(dict.fromkeys(problems))
