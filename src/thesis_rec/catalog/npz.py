"""NumPy archives: named arrays in one file, without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from thesis_rec.base.files import load_arrays
from thesis_rec.catalog.base import FileDataset


class NPZDataset(FileDataset):
    """A dictionary of arrays as one NPZ file.

    Strings and numbers are stored as arrays without a dimension and come back as such (``str(payload["x"])``). Arrays
    of objects are refused: they would need pickle, which can execute code when it is read.

    Args:
        filepath: Path of the file.
        metadata: Read by kedro-viz.
    """

    def read(self, path: Path, *names: str) -> dict[str, np.ndarray]:
        """Read the arrays that have these names, all without any; pickled objects are refused."""
        return load_arrays(path, *names)

    def write(self, path: Path, data: dict[str, Any]) -> None:
        """Write all arrays; Python objects are refused."""
        with open(path, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **data)
