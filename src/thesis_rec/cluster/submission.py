"""Handing planned jobs to SLURM: each is the script ``slurm/stage.sh``, which runs any pipeline and requeues itself."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.files import encode_id
from thesis_rec.cluster.plan import Job

logger = logging.getLogger(__name__)


def sbatch_command(job: Job, environment: str, logs: Path, after: Sequence[str] = ()) -> list[str]:
    """The command line that submits a job; what isn't asked for is left out.

    Args:
        job: What is submitted.
        environment: Kedro environment.
        logs: Folder of the tasks' output; must be on the shared disk.
        after: SLURM identifiers that must have ended before.
    """
    resources = job.resources
    hours, minutes = divmod(resources.minutes, 60)
    options = {
        "job-name": job.name,
        "partition": resources.partition,
        "account": resources.account,
        "nodes": resources.nodes,
        # On one node Lightning starts a process for each GPU itself; on several it needs SLURM to do so.
        "ntasks-per-node": max(resources.gpus, 1) if resources.nodes > 1 else 1,
        "cpus-per-task": resources.cpus,
        "mem": f"{resources.memory_gb}G",
        "time": f"{hours:02d}:{minutes:02d}:00",
        "gpus-per-node": resources.gpus,
        "array": f"0-{job.tasks - 1}" if job.tasks > 1 else "",
        "output": logs / ("%A_%a.out" if job.tasks > 1 else "%j.out"),
        "dependency": ":".join(["afterany" if job.joins else "afterok", *after]) if after else "",
        # Otherwise a job whose predecessor failed would wait for ever.
        "kill-on-invalid-dep": "yes" if after else "",
    }
    script = ["slurm/stage.sh", environment, job.pipeline, *job.options]
    return ["sbatch", *(f"--{name}={value}" for name, value in options.items() if value), *script]


def expected_time(job: Job, data_root: Path) -> str:
    """How long a task of a job would take by the newest run of each of its nodes, in words.

    A task of an array has its share of the items, so that the time falls with the number of tasks; a joining job reads
    what all of them made.

    Args:
        job: The job.
        data_root: Root of what runs wrote, among it how long each node took, as one of how many tasks.
    """
    folder = data_root / "08_reporting" / "node_times"
    try:
        files = [folder / f"{encode_id(node.name)}.json" for node in job.work.nodes]
        found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        each = sum(node["seconds"] * (1 if job.joins else node["shards"] / job.tasks) for node in found)
        since = min(node["started"] for node in found)
    except (OSError, ValueError, KeyError, TypeError):  # some never ran, or their times are of another version
        return "no earlier run to tell the time by"
    told = f"{each:.2g} s" if each < 60 else f"{each / 60:.3g} min"
    return f"about {told} a task by the run of {since[:16]}"


def submit_jobs(
    jobs: Sequence[Job], environment: str, project: Path, logs: Path, after: Sequence[str] = ()
) -> dict[str, str]:
    """Submit jobs in order, each after those it waits for.

    Args:
        jobs: Planned jobs, predecessors first.
        environment: Kedro environment.
        project: Folder in which every job runs, by this very Python.
        logs: As of :func:`sbatch_command`.
        after: SLURM identifiers that the first jobs wait for.

    Returns:
        SLURM job identifier by job name.

    Raises:
        ConfigurationError: If SLURM refuses a job; says which ones are in the queue already.
    """
    logs.mkdir(parents=True, exist_ok=True)
    settings = os.environ | {"THESIS_REC_PYTHON": sys.executable}
    identifiers: dict[str, str] = {}
    for job in jobs:
        command = sbatch_command(job, environment, logs, [identifiers[name] for name in job.after] or after)
        command.insert(1, "--parsable")
        done = subprocess.run(command, cwd=project, env=settings, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = " ".join(done.stderr.strip().splitlines()[-1:])
            queued = " ".join(identifiers.values())
            already = f" In the queue already, `scancel {queued}` takes it back: {', '.join(identifiers)}."
            raise ConfigurationError(
                f"SLURM doesn't take {job.name} ({reason}). Correct cluster in the environment's parameters, "
                f"or what the message names.{already if identifiers else ''}"
            )
        identifiers[job.name] = done.stdout.strip().partition(";")[0]
        logger.info("submitted %s as %s (%d tasks)", job.name, identifiers[job.name], job.tasks)
    return identifiers
