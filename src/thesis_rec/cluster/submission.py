"""Handing planned jobs to SLURM through submitit."""

import json
import logging
import shlex
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError
from submitit.helpers import Checkpointable

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.cluster.plan import Job

logger = logging.getLogger(__name__)

#: How often a job that runs out of time is put back into the queue.
MAX_TIMEOUTS = 10


class RequeuedRun(Checkpointable):
    """A command that may be stopped at any time; submitit, which calls it in a job, starts the same again.

    ``kedro run`` continues by itself where it was: items are files that are whole or absent, and training resumes from
    its latest checkpoint.

    Args:
        command: Command line.
        folder: Where it runs.
    """

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.command = list(command)
        self.folder = folder

    def __call__(self) -> None:
        """Run the command; its output goes to the job's log as it comes.

        Raises:
            subprocess.CalledProcessError: If it fails, which makes the job fail.
        """
        subprocess.run(self.command, cwd=self.folder, check=True, preexec_fn=_ignore_warning)


def _ignore_warning() -> None:
    """SLURM sends its warning to all processes of a job; submitit answers it, the command must not die of it."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def sbatch_options(job: Job) -> dict[str, Any]:
    """What a task of a job asks for, by the names of sbatch's options; what isn't asked for is left out."""
    resources = job.resources
    options = {
        "job_name": job.name,
        "partition": resources.partition,
        "account": resources.account,
        "nodes": resources.nodes,
        # On one node Lightning starts a process for each GPU itself; on several it needs SLURM to do so.
        "ntasks_per_node": max(resources.gpus, 1) if resources.nodes > 1 else 1,
        "cpus_per_task": resources.cpus,
        "mem": f"{resources.memory_gb}G",
        "time": resources.minutes,
        "gpus_per_node": resources.gpus,
    }
    return {name: value for name, value in options.items() if value}


def submitit_options(job: Job, after: Sequence[str]) -> dict[str, Any]:
    """A job's options as submitit takes them.

    Args:
        job: What is submitted.
        after: SLURM identifiers that must have ended before.
    """
    more: dict[str, Any] = {"requeue": True}
    if after:
        more["dependency"] = ("afterany:" if job.joins else "afterok:") + ":".join(after)
        # Otherwise a job whose predecessor failed would wait for ever.
        more["kill-on-invalid-dep"] = "yes"
    # From SLURM 22.05 to 23.02 srun doesn't take over the cores of a job's task: the run would be bound to one.
    cores = [f"--cpus-per-task={job.resources.cpus}"]
    return sbatch_options(job) | {"stderr_to_stdout": True, "srun_args": cores, "additional_parameters": more}


def sbatch_line(job: Job, log_folder: Path) -> str:
    """What ``sbatch`` gets for a job, as a command line: each option, the array, and the script of any stage."""
    hours, minutes = divmod(job.resources.minutes, 60)
    options = sbatch_options(job) | {"time": f"{hours:02d}:{minutes:02d}:00"}
    task = "%j"
    if len(job.commands) > 1:
        task = "%A_%a"
        options["array"] = f"0-{len(job.commands) - 1}"
    options["output"] = log_folder / task / f"{task}_0_log.out"
    # The environment and parameters stand in every job's command; the script adds a task's shard itself.
    given = dict(word.split("=", 1) for word in job.commands[0] if word.startswith("--"))
    params = ",".join(one for one in given.get("--params", "").split(",") if one and not one.startswith("shard."))
    more = [*(["--tags=join"] if job.joins else []), *([f"--params={params}"] if params else [])]
    script = ["slurm/stage.sh", given["--env"], job.pipeline, *more]
    return shlex.join(["sbatch", *(f"--{name.replace('_', '-')}={options[name]}" for name in options), *script])


def read_reports(data_root: Path) -> list[dict[str, Any]]:
    """The kept run reports, newest first; reports that can't be read are left out."""
    found: list[dict[str, Any]] = []
    for path in sorted((data_root / "08_reporting" / "run_reports").glob("*.json")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            found.append({key: report[key] for key in ("started", "runtime_params", "nodes")})
        except (OSError, ValueError, KeyError, TypeError):
            logger.warning("%s is no run report and is left out", path)
    return sorted(found, key=lambda report: str(report["started"]), reverse=True)


def expected_time(job: Job, nodes: Collection[str], reports: Sequence[Mapping[str, Any]]) -> str:
    """How long a task of a job would take by the newest report that tells of all its nodes, in words.

    A task of an array has its share of the items, so that the time falls with the number of tasks; a joining job reads
    what all of them made.

    Args:
        job: The job.
        nodes: Names of the nodes that it runs.
        reports: Of :func:`read_reports`.
    """
    for report in reports:
        # A node that a later run left out bears its own time and parameters.
        of_run = {name: report[name] for name in ("started", "runtime_params")}
        known = {node["name"]: of_run | node for node in report["nodes"]}
        if set(nodes) <= set(known):
            found = [known[name] for name in nodes]
            each = sum(
                float(node["seconds"]) * (1 if job.joins else _shards(node) / len(job.commands)) for node in found
            )
            told = f"{each:.2g} s" if each < 60 else f"{each / 60:.3g} min"
            return f"about {told} a task by the run of {min(str(node['started']) for node in found)[:16]}"
    return "no earlier run to tell the time by"


def _shards(node: Mapping[str, Any]) -> int:
    """Among how many tasks the run of a node was divided."""
    shard = (node["runtime_params"] or {}).get("shard") or {}
    return int(shard.get("count", 1))


def submit_jobs(jobs: Sequence[Job], project: Path, log_folder: Path, after: Sequence[str] = ()) -> dict[str, str]:
    """Submit jobs in order, each after those it waits for.

    Args:
        jobs: Planned jobs, predecessors first.
        project: Folder in which every command runs.
        log_folder: Where each task's output goes, one folder per task; must be on the shared disk.
        after: SLURM identifiers that the first jobs wait for.

    Returns:
        SLURM job identifier by job name.

    Raises:
        ConfigurationError: If SLURM refuses a job; says which ones are in the queue already.
    """
    log_folder.mkdir(parents=True, exist_ok=True)
    identifiers: dict[str, str] = {}
    for job in jobs:
        executor = submitit.SlurmExecutor(log_folder / "%j", MAX_TIMEOUTS)
        waits = [identifiers[name] for name in job.after] or list(after)
        executor.update_parameters(**submitit_options(job, waits))
        try:
            with executor.batch():  # an array, or of a single command an ordinary job
                tasks = [executor.submit(RequeuedRun(command, project)) for command in job.commands]
        except FailedJobError as error:
            reason = " ".join(str(error).strip().splitlines()[-1:])
            queued = " ".join(identifiers.values())
            already = f" In the queue already, `scancel {queued}` takes it back: {', '.join(identifiers)}."
            raise ConfigurationError(
                f"SLURM doesn't take {job.name} ({reason}). Correct cluster in the environment's parameters, "
                f"or what the message names.{already if identifiers else ''}"
            ) from error
        identifiers[job.name] = tasks[0].job_id.split("_")[0]
        logger.info("submitted %s as %s (%d tasks)", job.name, identifiers[job.name], len(tasks))
    return identifiers
