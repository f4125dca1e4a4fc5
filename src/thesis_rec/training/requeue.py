"""A SLURM job that is told its time is up puts itself back into the queue; its next start goes on where it was."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

logger = logging.getLogger(__name__)


def slurm_job() -> str | None:
    """This job as ``scontrol`` names it, ``<array job>_<task>`` inside an array; None outside SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


@contextmanager
def requeue_on_signal() -> Iterator[None]:
    """While the block runs, SIGUSR1 requeues the job (``#SBATCH --signal=USR1@90``).

    Nothing is saved at the signal: a training run resumes exactly from its latest epoch, which lies on disk already,
    and every other result is a file that is whole or absent. Outside SLURM, or in a thread, where no signal arrives,
    nothing changes.
    """
    if slurm_job() is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    # SLURM signals all processes of a job: those that decode images inherit this handler, but must not act on it.
    before = signal.signal(signal.SIGUSR1, partial(_requeue, os.getpid()))
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def _requeue(owner: int, number: int, frame: FrameType | None) -> None:
    job = slurm_job()
    if job is None or os.getpid() != owner or os.environ.get("SLURM_PROCID", "0") != "0":
        return
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        logger.error("job %s couldn't be requeued: %s", job, done.stderr.strip())
    else:
        logger.warning("job %s is requeued and will go on where it was", job)
