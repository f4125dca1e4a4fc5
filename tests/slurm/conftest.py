"""A real single-node SLURM of the tests' own, started for the session and stopped after it.

It has its own munge socket and free ports, so that it disturbs no other SLURM. The node claims more cores and memory
than the machine has, and a GPU, because the clusters' own resources must be accepted as they are.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

CONFIGURATION = """\
ClusterName=testcluster
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/run/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.pid
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldLogFile={root}/run/slurmctld.log
SlurmdLogFile={root}/run/slurmd.log
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobRequeue=1
KillWait=5
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 CPUs=128 RealMemory=1000000 Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes=localhost Default=YES MaxTime=INFINITE State=UP
PartitionName=ai Nodes=localhost MaxTime=INFINITE State=UP
PartitionName=shared Nodes=localhost MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=localhost MaxTime=INFINITE State=UP
"""


def call(*command: str) -> str:
    """Standard output of a SLURM client."""
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def wait_until(condition, seconds: float, what: str) -> None:
    """Poll until ``condition()`` holds; fail the test when it never does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(f"{what} did not happen within {seconds:g} s")


def job_state(job: str) -> str:
    """State of a job or of one task of an array, such as RUNNING, COMPLETED or FAILED."""
    fields = dict(part.split("=", 1) for part in call("scontrol", "show", "job", "-o", job).split() if "=" in part)
    return fields["JobState"]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """Starts munge, slurmctld and slurmd; yields the folder of their files."""
    if shutil.which("slurmctld") is None or shutil.which("munged") is None:
        pytest.skip("slurmctld is not installed")
    if os.geteuid() != 0:
        pytest.skip("a SLURM of one's own needs root")
    root = tmp_path_factory.mktemp("slurm")
    for name in ("run", "state", "spool"):
        (root / name).mkdir()
    with socket.socket() as first, socket.socket() as second:
        first.bind(("", 0))
        second.bind(("", 0))
        ports = first.getsockname()[1], second.getsockname()[1]
    configuration = root / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(root=root, ports=ports))
    (root / "gres.conf").write_text("NodeName=localhost Name=gpu File=/dev/null\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(configuration))
        try:
            _start_munge(root / "run")
            subprocess.run(["slurmctld", "-i"], check=True)
            subprocess.run(["slurmd", "-N", "localhost"], check=True)
            wait_until(lambda: "idle" in _quiet("sinfo", "-h", "-o", "%T"), 60, "an idle node")
            yield root
        finally:
            _quiet("scancel", "--full", "-u", "root")
            # A step that still runs when slurmd stops would be left behind.
            end = time.monotonic() + 30
            while _quiet("squeue", "-h", "-t", "running,completing") and time.monotonic() < end:
                time.sleep(0.1)
            slurmd = _pid(root / "run" / "slurmd.pid")
            _quiet("scontrol", "shutdown")
            # munged must outlive slurmd, which otherwise can't say goodbye and stays.
            end = time.monotonic() + 30
            while slurmd and Path(f"/proc/{slurmd}").exists() and time.monotonic() < end:
                time.sleep(0.1)
            if munged := _pid(root / "run" / "munged.pid"):
                os.kill(munged, 15)


def _start_munge(folder: Path) -> None:
    """A munged of our own: key, socket and files in ``folder``."""
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{option}={folder}/munged.{suffix}" for option, suffix in files.items() if option != "socket"]
    subprocess.run(
        ["munged", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket", *options],
        check=True,
        capture_output=True,
    )


def _quiet(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


def _pid(path: Path) -> int | None:
    return int(path.read_text()) if path.exists() else None
