import sys
from types import SimpleNamespace

import pytest

from thesis_rec.cluster.plan import crossing_datasets, plan_jobs
from thesis_rec.cluster.preflight import find_problems
from thesis_rec.cluster.resources import Cluster
from thesis_rec.cluster.submission import sbatch_options
from thesis_rec.errors import ConfigurationError


def pipeline(inputs, outputs):
    return SimpleNamespace(inputs=lambda: set(inputs), all_outputs=lambda: set(outputs))


PIPELINES = {
    "model_extraction": pipeline({"model_manifest", "params:model_extraction"}, {"model_vectors"}),
    "autoencoder": pipeline({"model_vectors"}, {"model_embeddings"}),
    "dataset_features": pipeline({"dataset_manifest"}, {"dataset_tokens"}),
    "similarity_training": pipeline({"model_embeddings", "dataset_tokens"}, {"similarity_checkpoint"}),
}
CLUSTER = Cluster(default={"partition": "ai", "account": "mine"}, pipelines={"autoencoder": {"gpus": 1}}, min_free_gb=0)


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
        exists=lambda name: False,
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


def test_sbatch_options_carry_dependencies_and_gpus():
    (job,) = plan_jobs(PIPELINES, ["autoencoder"], "anvil", CLUSTER)
    options = sbatch_options(job, ["12", "13"])
    assert options["slurm_additional_parameters"]["dependency"] == "afterok:12:13"
    assert options["slurm_account"] == "mine"
    assert options["gpus_per_node"] == 1
    assert "dependency" not in sbatch_options(job, [])["slurm_additional_parameters"]
