"""What all datasets of this room share: one local path, whole or absent."""

from __future__ import annotations

from abc import abstractmethod
from os import PathLike
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from thesis_rec.base.errors import first_line
from thesis_rec.base.files import atomic_path


class FileDataset(AbstractDataset[Any, Any]):
    """One local file that is replaced as a whole, never changed in place.

    A run that is killed while it saves leaves the former file, so ``--only-missing-outputs`` and requeued jobs can
    trust what exists.

    Args:
        filepath: Path of the file; its folder is made when needed.
        load_args: Keyword arguments of the reader.
        save_args: Keyword arguments of the writer.
        metadata: Ignored by Kedro; read by kedro-viz.
    """

    def __init__(
        self,
        *,
        filepath: str | PathLike[str],
        load_args: dict[str, Any] | None = None,
        save_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = Path(filepath)
        self._load_args = dict(load_args or {})
        self._save_args = dict(save_args or {})
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

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "load_args": self._load_args, "save_args": self._save_args}

    def _exists(self) -> bool:
        return self._filepath.is_file()
