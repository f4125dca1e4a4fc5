"""Which torch device a setting names."""

from __future__ import annotations


def torch_device(name: str) -> str:
    """The torch device that a setting names: ``auto`` is a GPU where there is one, else the processor."""
    if name != "auto":
        return name
    # Torch takes seconds to import: only who asks for what is there waits for it.
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
