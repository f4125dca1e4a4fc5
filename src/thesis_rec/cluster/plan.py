"""From pipelines to jobs: arrays of ordinary runs of a pipeline, and the order in which they must end.

What must hold is checked before anything is submitted: a job that waited a night must not fail on a typo.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from pydantic import Field

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.settings import Settings


class Resources(Settings):
    """Resources of one job; every field maps to one option of ``sbatch``."""

    partition: str = ""
    account: str = ""
    cpus: int = Field(default=4, ge=1)
    memory_gb: int = Field(default=16, ge=1)
    minutes: int = Field(default=60, ge=1)
    gpus: int = Field(default=0, ge=0)
    nodes: int = Field(default=1, ge=1)


class Cluster(Settings):
    """The ``cluster`` section of an environment.

    Attributes:
        needs_account: Whether jobs without an account are refused there.
        min_free_gb: Free space on the disk of ``data_root`` below which nothing is submitted.
        max_array_size: Longest job array the cluster accepts (``scontrol show config``, ``MaxArraySize``).
        default: Resources of pipelines that have no entry of their own.
        join: What jobs that join an array ask for; unset fields are those of ``default``. They read small tables.
        pipelines: Resources by pipeline name; unset fields are those of ``default``.
    """

    needs_account: bool = True
    min_free_gb: float = Field(default=10.0, ge=0)
    max_array_size: int = Field(default=1000, ge=1)
    default: Resources = Resources()
    join: dict[str, str | int] = Field(default_factory=dict)
    pipelines: dict[str, dict[str, str | int]] = Field(default_factory=dict)

    def resources(self, pipeline: str, joining: bool = False) -> Resources:
        """Resources of one pipeline's jobs, or of the job that joins its array."""
        own = self.join if joining else self.pipelines.get(pipeline, {})
        return Resources(**{**self.default.model_dump(), **own})


#: Pipelines whose items are independent, so that many jobs can share them.
SHARDED = ("model_extraction", "dataset_features", "ground_truth", "hardware_profiling")

#: Tag of the nodes that only read what the tasks of an array have written.
JOIN_TAG = "join"


@dataclass(frozen=True)
class Job:
    """One job, or one job array.

    Attributes:
        name: Name shown by ``squeue``.
        pipeline: Name of the pipeline that it runs.
        work: That pipeline, or the part of it that it runs.
        options: Further options of ``kedro run``.
        resources: What each task asks for.
        tasks: Tasks of an array; one is an ordinary job.
        after: Names of the jobs that must have ended before.
        joins: Whether it joins the tasks of an array. It then starts however they ended, because it is what says which
            items are missing; every other job starts only after success.
    """

    name: str
    pipeline: str
    work: Pipeline
    options: tuple[str, ...]
    resources: Resources
    tasks: int = 1
    after: tuple[str, ...] = field(default=())
    joins: bool = False


def plan_jobs(
    pipelines: Mapping[str, Pipeline],
    names: Sequence[str],
    cluster: Cluster,
    shards: int = 1,
    params: str = "",
) -> list[Job]:
    """The jobs that run the pipelines ``names``, in an order in which each may be submitted.

    A pipeline with independent items becomes an array of ``shards`` tasks and a joining job, which computes nothing
    anew: it names every item that no task delivered. A job waits for those that make what it reads.

    Raises:
        ConfigurationError: If the array would be longer than the cluster allows.
    """
    if shards > cluster.max_array_size:
        text = f"{shards} shards are more than the cluster's longest job array ({cluster.max_array_size});"
        raise ConfigurationError(f"{text} use fewer shards, each takes several items.")
    given = (f"--params={params}",) if params else ()
    jobs: list[Job] = []
    last_of: dict[str, str] = {}
    for name in names:
        work, resources = pipelines[name], cluster.resources(name)
        after = tuple(last_of[p] for p in names if p in last_of and pipelines[p].all_outputs() & work.inputs())
        if name in SHARDED and shards > 1:
            array, join, joining = f"{name}-array", f"{name}-join", cluster.resources(name, joining=True)
            collecting, tag = work.only_nodes_with_tags(JOIN_TAG), f"--tags={JOIN_TAG}"
            jobs.append(Job(array, name, work, given, resources, shards, after))
            jobs.append(Job(join, name, collecting, (tag, *given), joining, after=(array,), joins=True))
        else:
            jobs.append(Job(name, name, work, given, resources, after=after))
        last_of[name] = jobs[-1].name
    return jobs


def find_problems(
    jobs: Sequence[Job], cluster: Cluster, data_root: Path, catalog: DataCatalog, needs_sbatch: bool = True
) -> list[str]:
    """All reasons not to submit, each with its remedy; empty when there is none.

    What a job reads, another one or a file provides: either must lie on the shared disk.

    Args:
        jobs: What would be submitted.
        cluster: The environment's ``cluster`` section.
        data_root: Root of everything the jobs write.
        catalog: Where everything lies.
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
    made = {name for job in jobs for name in job.work.all_outputs()}
    for name in sorted({name for job in jobs for name in job.work.inputs() if not name.startswith("params:")}):
        if name not in catalog or isinstance(catalog.get(name), MemoryDataset):
            problems.append(f"{name} would be lost between jobs: give it an entry with a filepath in the catalog.")
        elif name not in made and not catalog.exists(name):
            problems.append(f"{name} does not exist: run the pipeline that makes it first, or provide the file.")
    present = next(folder for folder in (data_root, *data_root.absolute().parents) if folder.exists())
    if not os.access(present, os.W_OK | os.X_OK):
        problems.append(f"{present} can't be written to: set SCRATCH, or data_root in the environment's globals.")
    free_gb = shutil.disk_usage(present).free / 1e9
    if free_gb < cluster.min_free_gb:
        least = f"cluster.min_free_gb ({cluster.min_free_gb:g})"
        problems.append(f"{data_root} has {free_gb:.1f} GB free, below {least}: make room.")
    return list(dict.fromkeys(problems))
