"""What all datasets of this room share: one local path, whole or absent."""

from __future__ import annotations

import json
from abc import abstractmethod
from os import PathLike
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import JSONPreview

from thesis_rec.base.errors import first_line
from thesis_rec.base.files import atomic_path


class FileDataset(AbstractDataset[Any, Any]):
    """One local file that is replaced as a whole, never changed in place.

    A run that is killed while it saves leaves the former file, so ``--only-missing-outputs`` and requeued jobs can
    trust what exists.

    Args:
        filepath: Path of the file; its folder is made when needed.
        metadata: Ignored by Kedro; read by kedro-viz.
    """

    def __init__(self, *, filepath: str | PathLike[str], metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    @abstractmethod
    def read(self, path: Path, *names: str) -> Any:
        """Read ``path``; NPZ files by arrays."""

    @abstractmethod
    def write(self, path: Path, data: Any) -> None:
        """Write ``data`` to ``path``, which is a temporary file."""

    def load(self) -> Any:
        """Read the file.

        Raises:
            DatasetError: If there is none, or it is damaged; only that has a cause.
        """
        if not self._filepath.is_file():
            raise DatasetError(f"{self._filepath} doesn't exist: run the pipeline that makes it first.")
        return self.read_file(self._filepath)

    def read_file(self, path: Path, *names: str) -> Any:
        """Read ``path``, of NPZ files only the arrays that have these names, if there are any names.

        Raises:
            DatasetError: If it is damaged; whatever is wrong with it, the remedy is the same.
        """
        try:
            return self.read(path, *names)
        except Exception as error:
            reason = first_line(error).removesuffix(".")
            raise DatasetError(f"{path} is damaged ({reason}): restore it, or delete it and run again.") from error

    def save(self, data: Any) -> None:
        """Write the file beside its place, then move it there."""
        with atomic_path(self._filepath) as temporary:
            self.write(temporary, data)

    def preview(self) -> JSONPreview:
        """The outline of the content, for kedro-viz."""
        return JSONPreview(json.dumps(outline(self.read(self._filepath))))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def _exists(self) -> bool:
        return self._filepath.is_file()


def outline(value: Any, depth: int = 2) -> Any:
    """What nested values are, in JSON's own types: keys and items counted below ``depth``, arrays by type and shape."""
    if isinstance(value, dict):
        if depth == 0:
            return f"{len(value)} keys: {', '.join(map(str, list(value)[:5]))}"
        return {str(key): outline(item, depth - 1) for key, item in value.items()}
    if hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, list | tuple):
        return f"{len(value)} items"
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
