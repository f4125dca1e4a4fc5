"""From pipelines to jobs: arrays of ordinary ``kedro run`` calls, and the order in which they must end."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kedro.pipeline import Pipeline

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.cluster.resources import Cluster, Resources

#: Pipelines whose items are independent, so that many jobs can share them.
SHARDED = ("model_extraction", "dataset_features", "ground_truth", "hardware_profiling")

#: Tag of the nodes that only read what the tasks of an array have written.
JOIN_TAG = "join"


@dataclass(frozen=True)
class Job:
    """One job, or one job array.

    Attributes:
        name: Name shown by ``squeue``.
        pipeline: Which pipeline it runs.
        commands: One command line per array task; a single one is an ordinary job.
        resources: What each task asks for.
        after: Names of the jobs that must have ended before.
        joins: Whether it joins the tasks of an array. It then starts however they ended, because it is what says which
            items are missing; every other job starts only after success.
    """

    name: str
    pipeline: str
    commands: tuple[tuple[str, ...], ...]
    resources: Resources
    after: tuple[str, ...] = field(default=())
    joins: bool = False


def kedro_run(pipeline: str, environment: str, params: Mapping[str, object], tags: str = "") -> tuple[str, ...]:
    """The command line of one ordinary run, by the Python that plans it."""
    command = [sys.executable, "-m", "kedro", "run", f"--pipelines={pipeline}", f"--env={environment}"]
    if tags:
        command.append(f"--tags={tags}")
    if params:
        command.append("--params=" + ",".join(f"{key}={value}" for key, value in params.items()))
    return tuple(command)


def plan_jobs(
    pipelines: Mapping[str, Pipeline],
    names: Sequence[str],
    environment: str,
    cluster: Cluster,
    shards: int = 1,
    params: Mapping[str, object] | None = None,
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
    extra = dict(params or {})
    jobs: list[Job] = []
    last_of: dict[str, str] = {}
    for name in names:
        makers = [p for p in names if p in last_of and pipelines[p].all_outputs() & pipelines[name].inputs()]
        after = tuple(last_of[p] for p in makers)
        resources = cluster.resources(name)
        if is_sharded(name, shards):
            array = f"{name}-array"
            parts = ({**extra, "shard.index": index, "shard.count": shards} for index in range(shards))
            commands = tuple(kedro_run(name, environment, part) for part in parts)
            jobs.append(Job(array, name, commands, resources, after))
            command = kedro_run(name, environment, extra, JOIN_TAG)
            joining = cluster.resources(name, joining=True)
            jobs.append(Job(f"{name}-join", name, (command,), joining, (array,), joins=True))
        else:
            jobs.append(Job(name, name, (kedro_run(name, environment, extra),), resources, after))
        last_of[name] = jobs[-1].name
    return jobs


def is_sharded(pipeline: str, shards: int) -> bool:
    """Whether a pipeline becomes a job array."""
    return pipeline in SHARDED and shards > 1


def crossing_datasets(pipelines: Mapping[str, Pipeline], names: Iterable[str], shards: int = 1) -> set[str]:
    """Datasets that one job reads and another one, or a file, provides: each must lie on the shared disk.

    Joining jobs read what the tasks of their array have made.
    """
    parts = [pipelines[name] for name in names]
    parts += [pipelines[name].only_nodes_with_tags(JOIN_TAG) for name in names if is_sharded(name, shards)]
    return {dataset for part in parts for dataset in part.inputs() if not dataset.startswith(("params:", "parameters"))}
