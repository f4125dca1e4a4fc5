"""A real single-node SLURM of the tests' own, started for the session and stopped after it."""

from __future__ import annotations

import os
import shutil
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
SlurmctldPort=16817
SlurmdPort=16818
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
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobRequeue=1
KillWait=5
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=cpu Nodes=localhost Default=YES MaxTime=INFINITE State=UP
PartitionName=ai Nodes=localhost MaxTime=INFINITE State=UP
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
        time.sleep(0.1)
    pytest.fail(f"{what} did not happen within {seconds:g} s")


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
    configuration = root / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(root=root))
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(configuration)
    munge = Path("/run/munge")
    munge.mkdir(parents=True, exist_ok=True)
    for folder in (munge, Path("/etc/munge"), Path("/var/lib/munge"), Path("/var/log/munge")):
        shutil.chown(folder, "munge", "munge")
    running = subprocess.run(["pgrep", "-x", "munged"], capture_output=True, check=False).returncode == 0
    if not running:
        subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=True)
    subprocess.run(["slurmctld", "-i"], check=True)
    subprocess.run(["slurmd", "-N", "localhost"], check=True)
    try:
        wait_until(lambda: "idle" in _quiet("sinfo", "-h", "-o", "%T"), 30, "an idle node")
        yield root
    finally:
        _quiet("scancel", "--full", "-u", "root")
        slurmd = _pid(root / "run" / "slurmd.pid")
        _quiet("scontrol", "shutdown")
        # munged must outlive slurmd, which otherwise can't say goodbye and stays.
        end = time.monotonic() + 20
        while slurmd and Path(f"/proc/{slurmd}").exists() and time.monotonic() < end:
            time.sleep(0.1)
        if not running and (pid := _pid(Path("/run/munge/munged.pid"))):
            os.kill(pid, 15)
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


def _quiet(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


def _pid(path: Path) -> int | None:
    return int(path.read_text()) if path.exists() else None
