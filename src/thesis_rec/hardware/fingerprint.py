"""Names of devices: what a measurement is only comparable with."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from thesis_rec.base.devices import torch_device


@dataclass(frozen=True)
class Fingerprint:
    """A device and the software that decides its speed.

    Attributes:
        kind: ``cpu``, ``cuda`` or ``mps``.
        name: Name of the processor, as the operating system or driver gives it.
        cores: CPU cores of this process, or streaming multiprocessors of a GPU.
        threads: Threads that torch uses for one operation (CPU); 0 on a GPU, where it doesn't matter.
        capability: Instruction set (CPU) or compute capability (GPU).
        torch_version: Major and minor version of torch.
        memory_mb: Memory of the device in MiB, 0 if unknown.
    """

    kind: str
    name: str
    cores: int
    threads: int
    capability: str
    torch_version: str
    memory_mb: int = 0

    @property
    def device_id(self) -> str:
        """One readable word, such as ``cpu_amd-epyc-9b14_2c2t_torch2.11``; the key of hardware profiles."""
        size = f"{self.cores}c{self.threads}t" if self.kind == "cpu" else f"sm{self.capability.replace('.', '')}"
        return f"{self.kind}_{slug(self.name)}_{size}_torch{self.torch_version}"

    def as_dict(self) -> dict[str, Any]:
        """All attributes and the identifier, for provenance."""
        return {"device_id": self.device_id, **asdict(self)}


def slug(text: str) -> str:
    """``text`` in lower case with everything but letters, digits and dots as single hyphens."""
    text = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*$", " ", text.lower())
    return re.sub(r"[^a-z0-9.]+", "-", text).strip("-") or "unknown"


def device_fingerprint(device: str = "cpu") -> Fingerprint:
    """The fingerprint of a torch device of this machine.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    """
    import torch

    version = ".".join(torch.__version__.split("+")[0].split(".")[:2])
    kind = device.partition(":")[0]
    if kind == "cuda":
        properties = torch.cuda.get_device_properties(torch.device(device))
        return Fingerprint(
            "cuda",
            properties.name,
            properties.multi_processor_count,
            0,
            f"{properties.major}.{properties.minor}",
            version,
            properties.total_memory >> 20,
        )
    if kind == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        return Fingerprint("cpu", cpu_name(), cpu_cores(), torch.get_num_threads(), capability, version, _memory_mb())
    return Fingerprint(kind, platform.machine(), cpu_cores(), 0, "", version, _memory_mb())


def present_device() -> tuple[str, str]:
    """The torch device to work on, and its identifier.

    Torch, whose import takes seconds, is asked only where there is a GPU.
    """
    if Path("/dev/nvidia0").exists() or (os.name == "nt" and shutil.which("nvidia-smi")) or "torch" in sys.modules:
        device = torch_device("auto")
        return device, device_fingerprint(device).device_id
    version = ".".join(metadata.version("torch").split("+")[0].split(".")[:2])
    return "cpu", Fingerprint("cpu", cpu_name(), cpu_cores(), _default_threads(), "", version).device_id


def _default_threads() -> int:
    """Threads that torch will use for one operation: as the environment says, else one for each physical core."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if os.environ.get(name, "").isdigit():
            return max(1, int(os.environ[name]))
    try:
        allowed = os.sched_getaffinity(0)
        siblings = Path("/sys/devices/system/cpu")
        cores = {(siblings / f"cpu{i}/topology/thread_siblings_list").read_text() for i in allowed}
    except (AttributeError, OSError):
        return cpu_cores()
    return len(cores)


def cpu_name() -> str:
    """Model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        # A virtual machine may hide the name.
        if key.strip().lower() == "model name" and value.strip().lower() not in ("", "unknown"):
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def cpu_cores() -> int:
    """CPU cores that this process may use, which on a cluster are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_mb() -> int:
    try:
        return int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES")) >> 20
    except (AttributeError, OSError, ValueError):
        return 0
