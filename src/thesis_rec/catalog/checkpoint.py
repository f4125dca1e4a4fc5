"""Training checkpoints that are read without executing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thesis_rec.catalog.base import FileDataset


class CheckpointDataset(FileDataset):
    """A dictionary of tensors and plain values, written by ``torch.save``, read with ``weights_only=True``.

    The file lies at a fixed path; what training writes beside it (``runs/``) is left alone. What couldn't be read back
    is refused at saving, when it can still be repaired.
    """

    def read(self, path: Path, *names: str) -> dict[str, Any]:
        """Read a checkpoint, its tensors on the CPU."""
        import torch

        return torch.load(path, map_location="cpu", weights_only=True)

    def write(self, path: Path, data: dict[str, Any]) -> None:
        """Write a checkpoint and check that it can be read.

        Raises:
            TypeError: If ``data`` holds anything but tensors and plain values.
        """
        import pickle

        import torch

        torch.save(data, path)
        try:
            # Memory-mapped: the structure is read, not the tensors.
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            message = str(error).splitlines()[0]
            raise TypeError(f"the checkpoint holds more than tensors and plain values: {message}") from error
