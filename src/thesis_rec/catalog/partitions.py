"""A folder with one file per key, saved and resumed one by one."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from glob import glob
from os import PathLike
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro.utils import load_obj
from kedro_datasets._typing import JSONPreview

from thesis_rec.base.files import atomic_path, decode_id, encode_id
from thesis_rec.catalog.files import (
    AtomicJSONDataset,
    AtomicParquetDataset,
    FileDataset,
    NPZDataset,
    outline,
)

_FORMATS: dict[str, type[FileDataset]] = {
    "npz": NPZDataset,
    "parquet": AtomicParquetDataset,
    "json": AtomicJSONDataset,
}


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition, read when it is called."""

    dataset: "KeyedPartitionDataset"
    key: str

    def __call__(self, *names: str) -> Any:
        """All of it, or the arrays of an NPZ file that have these names."""
        return self.dataset.read(self.key, *names)

    def changed(self) -> int:
        """When its file was last written, moved here or touched, in nanoseconds; nothing sets that back."""
        return os.stat(self.dataset.file(self.key)).st_ctime_ns


Partitions = dict[str, Partition]


class KeyedPartitionDataset(AbstractDataset[dict[str, Any], Partitions]):
    """One file per key below a folder; keys are any strings, percent-encoded into file names.

    Loading gives ``{key: Partition}``, and ``{}`` for an absent folder. Saving writes each partition atomically and
    keeps the others, so a generator node can save as it goes and a killed run loses one item at most. A value that is
    callable is called when its turn comes.

    Args:
        path: Folder of the partitions.
        format: ``npz`` (dictionary of arrays), ``parquet`` (table) or ``json``.
        depth: Number of levels of a key. With 1 (the default) a key is one file, slashes included (``timm/resnet18`` is
            ``timm%2Fresnet18.npz``). With 3 the last two slashes are folders: ``org/data/train/00000`` is
            ``org%2Fdata/train/00000.npz``.
        optional: Whether a run can begin without any partition: they are what earlier runs left, if there were some.
        partition_validator: Dotted path of a function that gets each partition when it is saved and when it is loaded,
            and raises when something is wrong with it.
        metadata: Read by kedro-viz.

    Raises:
        DatasetError: If the format is unknown.
    """

    def __init__(
        self,
        *,
        path: str | PathLike[str],
        format: str = "npz",
        depth: int = 1,
        optional: bool = False,
        partition_validator: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if format not in _FORMATS:
            raise DatasetError(f"unknown partition format {format!r}; choose one of {', '.join(_FORMATS)}")
        self._path = Path(path)
        self._format = format
        self._depth = depth
        self._optional = optional
        self._partition_validator = partition_validator
        # How one file is read and written.
        self._one: Any = _FORMATS[format](filepath=path)
        self.metadata = metadata

    def load(self) -> Partitions:
        """All partitions by key, in the order of their keys; none is read before it is called."""
        return {key: Partition(self, key) for key in sorted(self._keys())}

    def save(self, data: dict[str, Any]) -> None:
        """Write the partitions of ``data``; other partitions stay.

        Raises:
            DatasetError: If the validator refuses a partition; those before it are written.
        """
        self._path.mkdir(parents=True, exist_ok=True)
        for key, value in data.items():
            payload = value() if callable(value) else value
            self._validate(key, payload)
            with atomic_path(self.file(key)) as temporary:
                self._one.write(temporary, payload)

    def read(self, key: str, *names: str) -> Any:
        """Read a partition, or some arrays of it."""
        payload = self._one.read_file(self.file(key), *names)
        if not names:
            self._validate(key, payload)
        return payload

    def _validate(self, key: str, payload: Any) -> None:
        if self._partition_validator is None:
            return
        try:
            load_obj(self._partition_validator)(payload)
        except (ValueError, TypeError) as error:
            raise DatasetError(f"partition {key!r} of {self._path}: {error}") from error

    def file(self, key: str) -> Path:
        """Where a partition lies."""
        parts = key.rsplit("/", self._depth - 1)
        if len(parts) != self._depth or not all(parts):
            raise DatasetError(f"partition key {key!r} hasn't the {self._depth} levels that {self._path} is made of")
        *folders, name = map(encode_id, parts)
        return Path(os.path.join(self._path, *folders, f"{name}.{self._format}"))

    def _keys(self) -> Iterable[str]:
        pattern = "/".join(["*"] * (self._depth - 1) + [f"*.{self._format}"])
        # Names that begin with a dot are files being written; the pattern passes over them.
        for file in glob(pattern, root_dir=self._path):
            yield "/".join(map(decode_id, file.removesuffix(f".{self._format}").split(os.sep)))

    def _exists(self) -> bool:
        # Whether those of all items are there is for the steps to say that join them.
        return self._optional or any(True for _ in self._keys())

    def preview(self) -> JSONPreview:
        """How many partitions there are and what the first one holds, for kedro-viz."""
        keys = sorted(self._keys())
        shown: dict[str, Any] = {"partitions": len(keys), "first keys": keys[:5]}
        if keys and self._format == "npz":
            shown["content"] = outline(self._one.read(self.file(keys[0])))
        return JSONPreview(json.dumps(shown))

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path), "format": self._format, "depth": self._depth}
