import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.cluster.plan import crossing_datasets, plan_jobs
from thesis_rec.cluster.preflight import find_problems
from thesis_rec.cluster.resources import Cluster, Resources
from thesis_rec.cluster.submission import RequeuedRun, sbatch_options


def pipeline(inputs, outputs, joins=()):
    part = SimpleNamespace(inputs=lambda: set(joins))
    return SimpleNamespace(
        inputs=lambda: set(inputs), all_outputs=lambda: set(outputs), only_nodes_with_tags=lambda *tags: part
    )


PIPELINES = {
    "model_extraction": pipeline(
        {"model_manifest", "params:model_extraction"}, {"model_vectors"}, {"model_vectors", "extraction_outcomes"}
    ),
    "autoencoder": pipeline({"model_vectors"}, {"model_embeddings"}),
    "dataset_features": pipeline({"dataset_manifest"}, {"dataset_tokens"}),
    "similarity_training": pipeline({"model_embeddings", "dataset_tokens"}, {"similarity_checkpoint"}),
}
CLUSTER = Cluster(
    default={"partition": "ai", "account": "mine"},
    join={"memory_gb": 2},
    pipelines={"autoencoder": {"gpus": 1}},
    min_free_gb=0,
)
PROJECT = Path(__file__).parents[2]


def test_arrays_joins_and_their_order():
    jobs = {job.name: job for job in plan_jobs(PIPELINES, list(PIPELINES), "gautschi", CLUSTER, shards=3)}
    array = jobs["model_extraction-array"]
    assert [command[-1] for command in array.commands] == [
        "--params=shard.index=0,shard.count=3",
        "--params=shard.index=1,shard.count=3",
        "--params=shard.index=2,shard.count=3",
    ]
    assert array.commands[0][:4] == (sys.executable, "-m", "kedro", "run")
    assert jobs["model_extraction-join"].after == ("model_extraction-array",)
    assert [job.name for job in jobs.values() if job.joins] == ["model_extraction-join", "dataset_features-join"]
    assert jobs["model_extraction-join"].commands[0][-1] == "--tags=join"
    assert jobs["autoencoder"].after == ("model_extraction-join",)
    assert jobs["autoencoder"].resources.gpus == 1
    assert jobs["dataset_features-array"].after == ()
    assert jobs["similarity_training"].after == ("autoencoder", "dataset_features-join")


def test_one_shard_is_one_ordinary_run():
    (job,) = plan_jobs(PIPELINES, ["model_extraction"], "anvil", CLUSTER, params={"seed": 2})
    assert job.commands[0][-2:] == ("--env=anvil", "--params=seed=2")


def test_impossible_plans_are_refused():
    with pytest.raises(ConfigurationError, match="No pipeline named nope"):
        plan_jobs(PIPELINES, ["nope"], "anvil", CLUSTER)
    with pytest.raises(ConfigurationError, match="longest job array"):
        plan_jobs(PIPELINES, ["model_extraction"], "anvil", CLUSTER, shards=5000)


def test_preflight_finds_every_problem(tmp_path):
    cluster = Cluster(min_free_gb=1e9)
    jobs = plan_jobs(PIPELINES, ["autoencoder"], "anvil", cluster)
    crossing = crossing_datasets(PIPELINES, ["autoencoder", "similarity_training"])
    problems = find_problems(
        jobs,
        cluster,
        tmp_path / "not" / "there" / "yet",
        crossing,
        is_persistent=lambda name: name != "dataset_tokens",
        free_inputs={"model_vectors"},
        is_there=lambda name: False,
    )
    text = "\n".join(problems)
    for part in (
        "no partition",
        "no account",
        "dataset_tokens would be lost",
        "model_vectors does not exist",
        "GB free",
    ):
        assert part in text


def test_preflight_passes_when_all_is_well(tmp_path):
    jobs = plan_jobs(PIPELINES, ["autoencoder"], "anvil", CLUSTER)
    assert not find_problems(
        jobs, CLUSTER, tmp_path, {"model_vectors"}, lambda name: True, {"model_vectors"}, lambda name: True, False
    )


def test_what_a_joining_job_reads_crosses_a_border_too():
    assert crossing_datasets(PIPELINES, ["model_extraction"]) == {"model_manifest"}
    assert crossing_datasets(PIPELINES, ["model_extraction"], shards=2) == {
        "model_manifest",
        "model_vectors",
        "extraction_outcomes",
    }


def test_joining_jobs_start_however_their_array_ended():
    array, join = plan_jobs(PIPELINES, ["model_extraction"], "gautschi", CLUSTER, shards=2)
    assert sbatch_options(join, ["7"])["slurm_additional_parameters"]["dependency"] == "afterany:7"
    assert join.resources.memory_gb == 2
    assert array.resources.memory_gb == Resources().memory_gb


def test_several_nodes_get_a_process_for_each_gpu():
    (job,) = plan_jobs(PIPELINES, ["autoencoder"], "anvil", CLUSTER)
    assert sbatch_options(job, [])["tasks_per_node"] == 1
    several = replace(job, resources=Resources(partition="ai", gpus=4, nodes=2))
    assert sbatch_options(several, [])["tasks_per_node"] == 4


def test_a_command_survives_the_warning_and_passes_its_failure_on(tmp_path):
    code = "import os, pathlib, signal; os.kill(os.getpid(), signal.SIGUSR2); pathlib.Path('done').touch()"
    run = RequeuedRun([sys.executable, "-c", code], tmp_path)
    run()
    assert (tmp_path / "done").exists()
    assert run.checkpoint().function is run
    with pytest.raises(subprocess.CalledProcessError):
        RequeuedRun([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)()


def scripts():
    return [
        pytest.param(cluster, script, id=f"{cluster}-{script.stem}")
        for cluster in ("gautschi", "anvil")
        for script in sorted((PROJECT / "slurm" / cluster).glob("*.sh"))
    ]


@pytest.mark.parametrize(("cluster", "script"), scripts())
def test_scripts_ask_for_what_the_configuration_says(cluster, script):
    section = yaml.safe_load((PROJECT / "conf" / cluster / "parameters" / "cluster.yml").read_text())["cluster"]
    wanted = Cluster(**section).resources(script.stem, joining=script.stem == "join")
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script.read_text(), re.MULTILINE))
    hours, minutes, _ = map(int, options["time"].split(":"))
    asked = {
        "partition": options["partition"],
        "cpus": int(options["cpus-per-task"]),
        "memory_gb": int(options["mem"].removesuffix("G")),
        "minutes": 60 * hours + minutes,
        "gpus": int(options.get("gpus-per-node", 0)),
        "nodes": int(options["nodes"]),
    }
    assert asked == wanted.model_dump(exclude={"account"})
    assert options["signal"] == "USR1@90"
    assert f"--env={cluster} " in script.read_text()


def test_sbatch_options_carry_dependencies_and_gpus():
    (job,) = plan_jobs(PIPELINES, ["autoencoder"], "anvil", CLUSTER)
    options = sbatch_options(job, ["12", "13"])
    assert options["slurm_additional_parameters"]["dependency"] == "afterok:12:13"
    assert options["slurm_account"] == "mine"
    assert options["gpus_per_node"] == 1
    assert "dependency" not in sbatch_options(job, [])["slurm_additional_parameters"]
