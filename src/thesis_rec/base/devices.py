"""Which torch device a setting names, and how many processors there are."""

from __future__ import annotations

import os


def torch_device(name: str) -> str:
    """The torch device that a setting names: ``auto`` is a GPU where there is one, else the processor."""
    if name != "auto":
        return name
    # Torch takes seconds to import: only who asks for what is there waits for it.
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def processors() -> int:
    """Processors that this process may use, which on a cluster are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
