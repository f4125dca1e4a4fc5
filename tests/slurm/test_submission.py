"""Sharded extraction on a real SLURM, with everything that happens to jobs: it ends as one undisturbed process does."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.slurm.conftest import call, job_state, wait_until
from thesis_rec.base.settings import Shard

pytestmark = pytest.mark.slurm

PROJECT = Path(__file__).parents[2]
MODELS = pd.read_csv(PROJECT / "data" / "01_raw" / "starter" / "model_manifest.csv")["model_id"].tolist()
SHARDS = 3
PIPELINE = ["--env=gautschi", "--pipelines=model_extraction"]
PARAMETERS = "--params=model_extraction.threads=1"
REQUEUED, KILLED, WARNED = range(SHARDS)


def kedro(scratch: Path, *arguments: str) -> str:
    """What a command of the project prints."""
    settings = {"SCRATCH": str(scratch), "THESIS_REC_ACCOUNT": "someone", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "kedro", *arguments]
    done = subprocess.run(
        command, cwd=PROJECT, env={**os.environ, **settings}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def submit(scratch: Path, after: str) -> tuple[str, str]:
    """Ids of the array, which starts when the job ``after`` has ended, and of the job that joins it."""
    printed = kedro(scratch, "submit", *PIPELINE, PARAMETERS, f"--shards={SHARDS}", f"--after={after}")
    found = dict(re.findall(r"^submitted model_extraction-(array|join) as (\d+)$", printed, re.MULTILINE))
    return found["array"], found["join"]


def outputs(root: Path) -> dict[str, bytes]:
    """All files a run made, but its report and logs, and the hidden ones that a killed process was writing."""
    found = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith((".", "run_report"))]
    hidden = {"logs", "node_times"}
    return {str(path.relative_to(root)): path.read_bytes() for path in found if not hidden & set(path.parts)}


def gate() -> str:
    """A job that waits for its release: what comes after it starts while the test is watching."""
    return call("sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true")


def ended(job: str) -> bool:
    return job_state(job) in ("COMPLETED", "FAILED", "CANCELLED")


@pytest.fixture(scope="module")
def whole(slurm, tmp_path_factory):
    """Outputs of one process that nobody disturbs."""
    scratch = tmp_path_factory.mktemp("whole")
    kedro(scratch, "run", *PIPELINE, PARAMETERS)
    return outputs(scratch / "thesis_rec" / "starter")


def disturb(array: str, vectors: Path) -> None:
    """Requeue one task of a running array, kill one, and warn one as SLURM does before a time limit; each halfway."""
    actions = {
        REQUEUED: ("scontrol", "requeue"),
        KILLED: ("scancel", "--signal=KILL", "--full"),
        WARNED: ("scancel", "--batch", "--signal=USR1"),
    }
    files = {
        index: [vectors / f"{model}.npz" for model in Shard(index=index, count=SHARDS).select(MODELS)]
        for index in actions
    }

    def act() -> bool:
        for index in list(actions):
            done = sum(file.exists() for file in files[index])
            if done:
                assert done < len(files[index]), f"task {index} was too fast to be stopped"
                call(*actions.pop(index), f"{array}_{index}")
        return not actions

    wait_until(act, 300, "the start of every task")


def test_requeued_killed_and_doubled_tasks_end_as_one_process(slurm, whole, tmp_path):
    root = tmp_path / "thesis_rec" / "starter"
    vectors = root / "02_intermediate" / "model_vectors"
    first = gate()
    array, join = submit(tmp_path, first)
    call("scontrol", "release", first)
    disturb(array, vectors)
    # A warning takes effect when the process comes to it; on a starved machine its few models may be done by then.
    back = {REQUEUED: ("PENDING",), WARNED: ("PENDING", "COMPLETED")}
    for index, states in back.items():
        task = f"{array}_{index}"
        wait_until(
            lambda task=task, states=states: job_state(task) in states, 180, f"the return of {task} to the queue"
        )
    kept = {path: path.stat().st_mtime_ns for path in vectors.glob("*.npz")}
    # A task is queued again before its first run has quite ended; started at once, it would get that run's exit status.
    time.sleep(8)
    for index in [index for index in back if job_state(f"{array}_{index}") == "PENDING"]:
        # SLURM lets a requeued job wait for two minutes.
        call("scontrol", "update", f"JobId={array}_{index}", "StartTime=now")
    wait_until(lambda: ended(join), 300, "the end of the joining job")
    states = [job_state(f"{array}_{index}") for index in range(SHARDS)]
    assert states[KILLED] in ("CANCELLED", "FAILED")
    assert [states[REQUEUED], states[WARNED]] == ["COMPLETED", "COMPLETED"]
    # What was finished before a task was stopped isn't made again.
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    # The join says what the killed task didn't deliver, and fails, so that nothing starts that would read half a zoo.
    assert job_state(join) == "FAILED"
    log = (root / "logs" / f"{join}.out").read_text()
    count, names = re.search(r"no job has come to (\d+) models: (.*) and \d+ more", log).groups()
    lost = [
        model for model in Shard(index=KILLED, count=SHARDS).select(MODELS) if not (vectors / f"{model}.npz").exists()
    ]
    # A vector is written before its outcome, by which the join counts: the last one may lack it.
    assert int(count) in (len(lost), len(lost) + 1)
    assert set(names.split(", ")) <= set(MODELS[KILLED::SHARDS])

    # The same command twice at once: every task is doubled, and both write the same files.
    second = gate()
    joins = [submit(tmp_path, second)[1] for _ in range(2)]
    call("scontrol", "release", second)
    for job in joins:
        wait_until(lambda job=job: ended(job), 300, f"the end of {job}")
        assert job_state(job) == "COMPLETED"
    assert outputs(root) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_slurm_accepts_what_the_dry_run_prints(slurm, tmp_path):
    printed = kedro(tmp_path, "submit", "--env=gautschi", "--dry-run")
    lines = [line.strip() for line in printed.splitlines() if line.strip().startswith("sbatch ")]
    assert len(lines) == 5
    for line in lines:
        # The test machine has no GPU.
        words = [word for word in shlex.split(line)[1:] if not word.startswith("--gpus-per-node")]
        call("sbatch", "--test-only", *words)
