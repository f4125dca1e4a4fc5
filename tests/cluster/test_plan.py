import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.catalog import AtomicJSONDataset
from thesis_rec.cluster.plan import Cluster, Resources, find_problems, plan_jobs
from thesis_rec.cluster.submission import expected_time, sbatch_command, submit_jobs


def work(*given):
    """What nodes do."""


def pipeline(name, inputs, outputs, joins=()):
    nodes = [Node(work, inputs, outputs, name=f"make_{name}")]
    nodes += [Node(work, joins, f"{name}_failures", name=f"join_{name}", tags="join")] if joins else []
    return Pipeline(nodes)


PIPELINES = {
    "model_extraction": pipeline(
        "vectors",
        ["model_manifest", "params:model_extraction"],
        ["model_vectors", "extraction_outcomes"],
        ["model_vectors", "extraction_outcomes"],
    ),
    "autoencoder": pipeline("embeddings", ["model_vectors"], ["model_embeddings"]),
    "dataset_features": pipeline("tokens", ["dataset_manifest"], ["dataset_tokens"], ["dataset_tokens"]),
    "similarity_training": pipeline("ranker", ["model_embeddings", "dataset_tokens"], ["similarity_checkpoint"]),
}


def files(folder, *names):
    """A catalog of files, of which those exist that are called like these names."""
    for name in names:
        (folder / name).touch()
    read = ("model_manifest", "model_vectors", "extraction_outcomes", "dataset_manifest", "model_embeddings")
    return DataCatalog({name: AtomicJSONDataset(filepath=folder / name) for name in read})


CLUSTER = Cluster(
    default={"partition": "ai", "account": "mine"},
    join={"memory_gb": 2},
    pipelines={"autoencoder": {"gpus": 1}},
    min_free_gb=0,
)
PROJECT = Path(__file__).parents[2]


def test_arrays_joins_and_their_order():
    jobs = {job.name: job for job in plan_jobs(PIPELINES, list(PIPELINES), CLUSTER, shards=3)}
    assert (jobs["model_extraction-array"].tasks, jobs["model_extraction-array"].options) == (3, ())
    assert jobs["model_extraction-join"].after == ("model_extraction-array",)
    assert [job.name for job in jobs.values() if job.joins] == ["model_extraction-join", "dataset_features-join"]
    assert jobs["model_extraction-join"].options == ("--tags=join",)
    assert jobs["autoencoder"].after == ("model_extraction-join",)
    assert jobs["autoencoder"].resources.gpus == 1
    assert jobs["dataset_features-array"].after == ()
    assert jobs["similarity_training"].after == ("autoencoder", "dataset_features-join")


def test_one_shard_is_one_ordinary_run():
    (job,) = plan_jobs(PIPELINES, ["model_extraction"], CLUSTER, params="seed=2")
    assert (job.tasks, job.options) == (1, ("--params=seed=2",))


def test_impossible_plans_are_refused():
    with pytest.raises(ConfigurationError, match="longest job array"):
        plan_jobs(PIPELINES, ["model_extraction"], CLUSTER, shards=5000)


def test_preflight_finds_every_problem(tmp_path):
    cluster = Cluster(min_free_gb=1e9)
    jobs = plan_jobs(PIPELINES, ["autoencoder", "similarity_training"], cluster)
    problems = find_problems(jobs, cluster, tmp_path / "not" / "there" / "yet", files(tmp_path))
    text = "\n".join(problems)
    for part in (
        "no partition",
        "no account",
        "dataset_tokens would be lost",
        "model_vectors does not exist",
        "GB free",
    ):
        assert part in text


def test_preflight_finds_a_disk_that_cannot_be_written_to(monkeypatch, tmp_path):
    """Also one that is only below the folders that would be made; whoever is root may write wherever the disk can."""
    jobs = plan_jobs(PIPELINES, ["autoencoder"], CLUSTER)
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and allowed(path, mode))
    catalog = files(tmp_path, "model_vectors")
    (problem,) = find_problems(jobs, CLUSTER, tmp_path / "thesis_rec" / "hub", catalog, False)
    assert problem.startswith(f"{tmp_path} can't be written to")


def test_preflight_passes_when_all_is_well(tmp_path):
    jobs = plan_jobs(PIPELINES, ["autoencoder"], CLUSTER)
    assert not find_problems(jobs, CLUSTER, tmp_path, files(tmp_path, "model_vectors"), False)


def test_what_a_joining_job_reads_crosses_a_border_too(tmp_path):
    """What its array makes isn't there yet, but must lie in files."""
    catalog = files(tmp_path, "model_manifest")
    jobs = plan_jobs(PIPELINES, ["model_extraction"], CLUSTER, shards=2)
    assert not find_problems(jobs, CLUSTER, tmp_path, catalog, False)
    catalog["extraction_outcomes"] = MemoryDataset()
    (problem,) = find_problems(jobs, CLUSTER, tmp_path, catalog, False)
    assert problem.startswith("extraction_outcomes would be lost between jobs")
    assert not find_problems(plan_jobs(PIPELINES, ["model_extraction"], CLUSTER), CLUSTER, tmp_path, catalog, False)


LOGS = Path("/logs")


def options_of(job):
    return dict(word.split("=", 1) for word in sbatch_command(job, "anvil", LOGS) if word.startswith("--"))


def test_joining_jobs_start_however_their_array_ended():
    array, join = plan_jobs(PIPELINES, ["model_extraction"], CLUSTER, shards=2)
    assert "--dependency=afterany:7" in sbatch_command(join, "gautschi", LOGS, ["7"])
    assert join.resources.memory_gb == 2
    assert array.resources.memory_gb == Resources().memory_gb


def test_several_nodes_get_a_process_for_each_gpu():
    (job,) = plan_jobs(PIPELINES, ["autoencoder"], CLUSTER)
    assert options_of(job)["--ntasks-per-node"] == "1"
    several = replace(job, resources=Resources(partition="ai", gpus=4, nodes=2))
    assert options_of(several)["--ntasks-per-node"] == "4"
    alone = replace(job, resources=Resources(partition="ai", gpus=4))
    assert options_of(alone)["--ntasks-per-node"] == "1"


def stand_in(folder, monkeypatch, script):
    """``sbatch`` is a script."""
    (folder / "sbatch").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_jobs_wait_for_what_they_read_and_the_first_for_what_was_asked(monkeypatch, tmp_path):
    count = f"echo $THESIS_REC_PYTHON $* >> {tmp_path}/given\nwc -l < {tmp_path}/given"
    stand_in(tmp_path, monkeypatch, count)
    jobs = plan_jobs(PIPELINES, list(PIPELINES), CLUSTER, shards=2)
    identifiers = submit_jobs(jobs, "anvil", tmp_path, tmp_path / "logs", ["99"])
    assert [*identifiers.values()] == [str(number + 1) for number in range(len(jobs))]
    lines = (tmp_path / "given").read_text().splitlines()
    for job, line in zip(jobs, lines, strict=True):
        waits = [identifiers[name] for name in job.after] or ["99"]
        how = "afterany" if job.joins else "afterok"
        words = line.split()
        assert words[:2] == [sys.executable, "--parsable"]
        assert f"--dependency={':'.join([how, *waits])}" in words
        assert words[-len(job.options) - 3 :] == ["slurm/stage.sh", "anvil", job.pipeline, *job.options]


@pytest.mark.parametrize(
    ("where", "needed", "count"), [(None, True, 1), (None, False, 0), ("/usr/bin/sbatch", True, 0)]
)
def test_sbatch_is_needed_where_jobs_are_submitted(monkeypatch, tmp_path, where, needed, count):
    monkeypatch.setattr("shutil.which", lambda name: where)
    jobs = plan_jobs(PIPELINES, ["autoencoder"], CLUSTER)
    found = find_problems(jobs, CLUSTER, tmp_path, files(tmp_path, "model_vectors"), needed)
    assert [problem.startswith("sbatch is not on PATH") for problem in found] == [True] * count


def test_a_job_that_slurm_refuses_is_named_and_so_are_those_in_the_queue(tmp_path, monkeypatch):
    """``sbatch`` takes the first job and refuses the second; what it says last is the reason."""
    stand_in(
        tmp_path,
        monkeypatch,
        f"if [ -e {tmp_path}/one ]; then\n"
        "  echo 'sbatch: error: invalid account or partition' >&2\n  echo 'sbatch: error: Batch job refused' >&2\n"
        f"  exit 1\nfi\ntouch {tmp_path}/one\necho '41;anvil'",
    )
    jobs = plan_jobs(PIPELINES, ["model_extraction"], CLUSTER, shards=2)
    with pytest.raises(ConfigurationError, match=r"take model_extraction-join .*Batch job refused.*scancel 41.*-array"):
        submit_jobs(jobs, "anvil", tmp_path, tmp_path / "logs")


def test_the_line_for_sbatch_says_all_that_a_job_asks_for():
    jobs = plan_jobs(PIPELINES, ["model_extraction", "autoencoder"], CLUSTER, shards=16)
    array, join, single = (sbatch_command(job, "gautschi", LOGS) for job in jobs)
    assert array[0] == "sbatch"
    assert array[-3:] == ["slurm/stage.sh", "gautschi", "model_extraction"]
    assert {"--partition=ai", "--account=mine", "--cpus-per-task=4", "--mem=16G", "--time=01:00:00"} <= set(array)
    assert "--array=0-15" in array
    assert "--output=/logs/%A_%a.out" in array
    assert not any(word.startswith(("--gpus", "--dependency", "--kill")) for word in array)
    assert join[-1] == "--tags=join"
    assert "--mem=2G" in join
    assert "--gpus-per-node=1" in single
    assert "--ntasks-per-node=1" in single
    assert "--output=/logs/%j.out" in single
    waiting = sbatch_command(jobs[-1], "gautschi", LOGS, ["12", "13"])
    assert {"--dependency=afterok:12:13", "--kill-on-invalid-dep=yes"} <= set(waiting)
    # What was given is in the line too, but not a task's shard, which the script adds.
    given = "seed=1,model_extraction.max_models=6"
    for job in plan_jobs(PIPELINES, ["model_extraction"], CLUSTER, shards=16, params=given):
        assert sbatch_command(job, "gautschi", LOGS)[-1] == f"--params={given}"


@pytest.mark.parametrize("cluster", ["gautschi", "anvil"])
def test_the_script_runs_any_stage(cluster, tmp_path):
    """What the script hands to ``kedro run``, in an array and out of one."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "srun").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    script = ["bash", str(PROJECT / "slurm" / "stage.sh"), cluster, "model_extraction"]

    def said(*more, **variables):
        done = subprocess.run(
            [*script, *more], env={**environment, **variables}, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    run = [".venv/bin/kedro", "run", f"--env={cluster}", "--pipelines=model_extraction", "--tags=join"]
    assert said("--tags=join") == run
    # Some versions of srun bind a run to one core unless they are told.
    assert said("--tags=join", SLURM_CPUS_PER_TASK="14") == ["--cpus-per-task=14", *run]
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16", "SLURM_ARRAY_TASK_MAX": "15"}
    assert said(**task)[-1] == "--params=shard.count=16,shard.index=3"
    # `kedro submit` names its own Python.
    assert said("--tags=join", THESIS_REC_PYTHON="/some/python")[:3] == ["/some/python", "-m", "kedro"]
    # One's own parameters stay beside the shard's, and some tasks of an array can run again.
    assert said("--params=a.b=1", "--params", "c=2", **task)[-1] == "--params=a.b=1,c=2,shard.count=16,shard.index=3"
    some = task | {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MAX": "7"}
    assert said("--params=shard.count=16", **some)[-1] == "--params=shard.count=16,shard.index=3"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        said(**some)
    assert "--params=shard.count=N" in refused.value.stderr
    assert not refused.value.stdout


@pytest.mark.parametrize(
    ("task", "refused"), [({}, False), ({"SLURM_ARRAY_JOB_ID": "16", "SLURM_ARRAY_TASK_ID": "4"}, False), ({}, True)]
)
def test_the_script_requeues_a_job_whose_time_is_up(task, refused, tmp_path):
    """The signal reaches the script alone; the run goes on until SLURM ends it."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    stand_ins = {
        "srun": f"touch {tmp_path}/begun\nwhile test ! -e {tmp_path}/end; do sleep 0.05; done\nexit 5",
        "scontrol": f'echo "$@" >> {tmp_path}/calls\ntest {"1 = 2" if refused else "1 = 1"}',
    }
    for name, content in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{content}\n")
        (tmp_path / name).chmod(0o755)
    sizes = {"SLURM_ARRAY_TASK_COUNT": "16", "SLURM_ARRAY_TASK_MAX": "15"} if task else {}
    job = subprocess.Popen(
        ["bash", str(PROJECT / "slurm" / "stage.sh"), "gautschi", "model_extraction"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "17", **task, **sizes},
        stderr=subprocess.PIPE,
        text=True,
    )
    until((tmp_path / "begun").exists)
    for signals in (1, 2):
        job.send_signal(signal.SIGUSR1)
        until(lambda n=signals: (tmp_path / "calls").exists() and (tmp_path / "calls").read_text().count("\n") == n)
        assert job.poll() is None
    (tmp_path / "end").touch()
    said = job.communicate(timeout=20)[1]
    assert job.returncode == 5
    assert (tmp_path / "calls").read_text().splitlines() == [f"requeue {'16_4' if task else '17'}"] * 2
    assert ("submit it again" in said) == refused


def test_the_script_gives_a_job_up_that_never_gets_on(tmp_path):
    for name, content in {"srun": f"touch {tmp_path}/begun; sleep 1", "scontrol": f"touch {tmp_path}/requeued"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{content}\n")
        (tmp_path / name).chmod(0o755)
    job = subprocess.Popen(
        ["bash", str(PROJECT / "slurm" / "stage.sh"), "gautschi", "model_extraction"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "10"},
        stderr=subprocess.PIPE,
        text=True,
    )
    until((tmp_path / "begun").exists)
    job.send_signal(signal.SIGUSR1)
    assert "give it more time" in job.communicate(timeout=20)[1]
    assert not (tmp_path / "requeued").exists()


def until(holds, seconds=20.0):
    """Wait for something to hold."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_how_long_a_job_takes_is_told_by_earlier_runs_of_its_nodes(tmp_path):
    (single,) = plan_jobs(PIPELINES, ["model_extraction"], CLUSTER)
    array, join = plan_jobs(PIPELINES, ["model_extraction"], CLUSTER, shards=4)
    assert "no earlier run" in expected_time(single, tmp_path)
    folder = tmp_path / "08_reporting" / "node_times"
    folder.mkdir(parents=True)

    def ran(node, seconds, started, shards=1):
        (folder / f"{node}.json").write_text(json.dumps({"seconds": seconds, "started": started, "shards": shards}))

    ran("make_vectors", 590.0, "2026-05-04T10:12:00+0000")
    assert "no earlier run" in expected_time(single, tmp_path)
    ran("join_vectors", 10.0, "2026-05-04T10:12:00+0000")
    assert expected_time(single, tmp_path) == "about 10 min a task by the run of 2026-05-04T10:12"
    assert expected_time(array, tmp_path).startswith("about 2.5 min")
    assert expected_time(join, tmp_path).startswith("about 10 s")
    # A newer run of two shards, and of the job that joined them.
    ran("make_vectors", 590.0, "2026-06-01T08:00:00+0000", shards=2)
    ran("join_vectors", 10.0, "2026-06-01T09:00:00+0000")
    assert expected_time(array, tmp_path) == "about 4.96 min a task by the run of 2026-06-01T08:00"
    (folder / "join_vectors.json").write_text("{")
    assert "no earlier run" in expected_time(array, tmp_path)
