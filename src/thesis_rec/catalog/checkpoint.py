"""Training checkpoints that are read without executing anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kedro_datasets._typing import JSONPreview

from thesis_rec.catalog.base import FileDataset


class CheckpointDataset(FileDataset):
    """A dictionary of tensors and plain values, written by ``torch.save``, read with ``weights_only=True``.

    The file lies at a fixed path; what training writes beside it (``runs/``) is left alone. What couldn't be read back
    is refused at saving, when it can still be repaired.
    """

    def read(self, path: Path, *names: str) -> dict[str, Any]:
        """Read a checkpoint, its tensors on the CPU."""
        import torch

        arguments = {"map_location": "cpu", **self._load_args}
        return torch.load(path, **{**arguments, "weights_only": True})

    def write(self, path: Path, data: dict[str, Any]) -> None:
        """Write a checkpoint and check that it can be read.

        Raises:
            TypeError: If ``data`` isn't a dictionary or holds anything but tensors and plain values.
        """
        import pickle

        import torch

        if not isinstance(data, dict):
            raise TypeError(f"a checkpoint is a dictionary, not {type(data).__name__}; give a module's state_dict()")
        torch.save(data, path, **self._save_args)
        try:
            # Memory-mapped: the structure is read, not the tensors.
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            message = str(error).splitlines()[0]
            raise TypeError(f"the checkpoint holds more than tensors and plain values: {message}") from error

    def preview(self) -> JSONPreview:
        """Keys with their types and shapes, for kedro-viz."""
        return JSONPreview(json.dumps(_outline(self.read(self._filepath))))


def _outline(value: Any, depth: int = 2) -> Any:
    if isinstance(value, dict):
        if depth == 0:
            return f"{len(value)} keys"
        return {str(key): _outline(item, depth - 1) for key, item in value.items()}
    if hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, list | tuple):
        return f"{len(value)} items"
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
