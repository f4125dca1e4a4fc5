"""Handing planned jobs to SLURM through submitit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thesis_rec.cluster.plan import Job

logger = logging.getLogger(__name__)


def sbatch_options(job: Job, after: Sequence[str]) -> dict[str, Any]:
    """A job's resources as submitit's keyword arguments.

    Args:
        job: What is submitted.
        after: SLURM identifiers that must have ended well before.
    """
    resources = job.resources
    additional: dict[str, Any] = {"requeue": True, "open-mode": "append"}
    if after:
        additional["dependency"] = "afterok:" + ":".join(after)
        # Otherwise a job whose predecessor failed would wait for ever.
        additional["kill-on-invalid-dep"] = "yes"
    options: dict[str, Any] = {
        "name": job.name,
        "timeout_min": resources.minutes,
        "nodes": resources.nodes,
        "cpus_per_task": resources.cpus,
        "mem_gb": resources.memory_gb,
        "slurm_partition": resources.partition,
        "slurm_additional_parameters": additional,
    }
    if resources.gpus:
        options |= {"gpus_per_node": resources.gpus, "tasks_per_node": resources.gpus}
    if resources.account:
        options["slurm_account"] = resources.account
    return options


def submit_jobs(
    jobs: Sequence[Job], log_folder: Path, after: Sequence[str] = (), parallel: int = 256
) -> dict[str, str]:
    """Submit jobs in order, each after those it waits for.

    Args:
        jobs: Planned jobs, predecessors first.
        log_folder: Where each task's output goes, one file per task; must be on the shared disk.
        after: SLURM identifiers that the first jobs wait for.
        parallel: Most tasks of one array that run at once.

    Returns:
        SLURM job identifier by job name.
    """
    import submitit

    log_folder.mkdir(parents=True, exist_ok=True)
    identifiers: dict[str, str] = {}
    for job in jobs:
        executor = submitit.AutoExecutor(folder=str(log_folder / "%j"), cluster="slurm")
        waits = [identifiers[name] for name in job.after] or list(after)
        executor.update_parameters(**sbatch_options(job, waits), slurm_array_parallelism=parallel)
        functions = [submitit.helpers.CommandFunction(list(command)) for command in job.commands]
        if len(functions) == 1:
            submitted = executor.submit(functions[0])
        else:
            with executor.batch():
                tasks = [executor.submit(function) for function in functions]
            submitted = tasks[0]
        identifiers[job.name] = submitted.job_id.split("_")[0]
        logger.info("submitted %s as %s (%d tasks)", job.name, identifiers[job.name], len(functions))
    return identifiers
