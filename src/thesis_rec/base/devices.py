"""Which torch device a setting names, and how many processors there are."""

from __future__ import annotations

import os
from pathlib import Path

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
        raise ConfigurationError(
            f"The device {name!r} can't be used: {first_line(error)}. Take auto, or cpu."
        ) from error
    return name


def processors() -> int:
    """Processors that this process may use, which on a cluster are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_mb(kind: str) -> float | None:
    """MiB of memory that a process may use on this machine's processor or GPU (``cuda``); None where nobody tells."""
    if kind == "cuda":
        import torch

        return float(torch.cuda.get_device_properties(0).total_memory) / 2**20
    try:
        size = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return None
    limit = _CGROUP.read_text(encoding="ascii").strip() if _CGROUP.is_file() else ""
    return min(size, float(limit) if limit.isdigit() else size) / 2**20
