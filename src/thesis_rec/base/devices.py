"""Which torch device a setting names, what GPU there is, and how many processors."""

import os
import re
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from thesis_rec.base.errors import ConfigurationError, first_line

#: Where a container's limit stands.
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def torch_device(name: str) -> str:
    """The torch device that a setting names: ``auto`` is a GPU where there is one, else the processor.

    Raises:
        ConfigurationError: If there is no such device here.
    """
    if name == "cpu":
        return name
    # Torch takes seconds to import: only who asks for what is there waits for it.
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except Exception as error:  # torch has many for what isn't there
        text = f"The device {name!r} can't be used: {first_line(error)}."
        raise ConfigurationError(f"{text} Take auto, or cpu.") from error
    return name


class Gpu(NamedTuple):
    """What there is to tell of a GPU: its name, its compute capability such as ``9.0``, and MiB of its memory."""

    name: str
    capability: str
    memory_mb: float


@cache
def told_gpu() -> Gpu | None:
    """The NVIDIA GPU that torch would take, told by ``nvidia-smi`` in a fraction of the time that torch is imported in.

    Returns:
        None where only torch can tell: without ``nvidia-smi``, with GPUs of several kinds or slices of one (MIG), where
        ``CUDA_VISIBLE_DEVICES`` hides them, or where the installed torch is built for processors alone.
    """
    query = [
        "nvidia-smi",
        "--query-gpu=name,compute_cap,memory.total,mig.mode.current",
        "--format=csv,noheader,nounits",
    ]
    spec = find_spec("torch")
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    if not first.isdigit() or spec is None or spec.origin is None:
        return None
    try:
        built = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
        told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    gpus = [tuple(line.split(", ")) for line in told.splitlines()]
    if len(set(gpus)) != 1 or int(first) >= len(gpus) or not re.search(r"^cuda\b.*= '\d", built, re.MULTILINE):
        return None
    name, capability, memory, sliced = gpus[0]
    return None if sliced == "Enabled" else Gpu(name, capability, float(memory))


def processors() -> int:
    """Processors that this process may use, which on a cluster are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_mb(kind: str) -> float | None:
    """MiB of memory that a process may use on this machine's processor or GPU (``cuda``); None where nobody tells."""
    if kind == "cuda":
        if gpu := told_gpu():
            return gpu.memory_mb
        import torch

        return float(torch.cuda.get_device_properties(0).total_memory) / 2**20
    try:
        size = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return None
    limit = _CGROUP.read_text(encoding="ascii").strip() if _CGROUP.is_file() else ""
    return min(size, float(limit) if limit.isdigit() else size) / 2**20
