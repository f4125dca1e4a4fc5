"""Single files in four formats, each whole or absent; folders of them; and several that are read as one."""

import json
import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from kedro.utils import load_obj
from kedro_datasets._typing import JSONPreview, TablePreview
from pydantic_core import to_json

from thesis_rec.base.errors import explained, first_line
from thesis_rec.base.files import atomic_path, decode_id, encode_id, load_arrays
from thesis_rec.base.tables import read_csv


class FileDataset(AbstractDataset[Any, Any]):
    """One local file that is replaced as a whole, never changed in place.

    A run that is killed while it saves leaves the former file, so requeued jobs can trust what exists.

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


def table_preview(table: pd.DataFrame, nrows: int) -> TablePreview:
    """The first rows, for kedro-viz."""
    # Through JSON, because kedro-viz serialises strictly and knows neither numpy's numbers nor NaN.
    return TablePreview(json.loads(table.head(nrows).to_json(orient="split")))


class AtomicParquetDataset(FileDataset):
    """A pandas table as one Parquet file; its index isn't kept.

    Example:
        >>> table = AtomicParquetDataset(filepath="scores.parquet")  # doctest: +SKIP
        >>> table.save(pd.DataFrame({"model_id": ["a"], "value": [0.5]}))  # doctest: +SKIP
    """

    def read(self, path: Path, *names: str) -> pd.DataFrame:
        """Read a table."""
        return pd.read_parquet(path)

    def write(self, path: Path, data: pd.DataFrame) -> None:
        """Write a table."""
        data.to_parquet(path, index=False)

    def preview(self, nrows: int = 10) -> TablePreview:  # type: ignore[override]  # its type tells kedro-viz what it is
        """The first rows, for kedro-viz."""
        return table_preview(self.read(self._filepath), nrows)


class AtomicJSONDataset(FileDataset):
    """A JSON document; numpy's scalars and arrays are written as numbers and lists, NaN as null."""

    def read(self, path: Path, *names: str) -> Any:
        """Read a document."""
        return json.loads(path.read_bytes())

    def write(self, path: Path, data: Any) -> None:
        """Write a document."""
        path.write_bytes(as_json(data) + b"\n")

    def preview(self) -> JSONPreview:
        """The document, for kedro-viz; of a long one the outline."""
        text = json.dumps(self.read(self._filepath))
        return JSONPreview(text) if len(text) <= 4000 else super().preview()


def as_json(data: Any) -> bytes:
    """A document that any JSON parser reads, not only Python's (which also takes NaN): what isn't finite is null.

    Raises:
        ValueError: If JSON can't hold it.
    """
    return to_json(
        data, indent=2, inf_nan_mode="null", fallback=lambda value: None if value is pd.NA else value.tolist()
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


PathOrPaths = str | PathLike[str] | Sequence[str | PathLike[str]]


class ReadDataset(AbstractDataset[Any, Any]):
    """What others have made: it is read, never written."""

    def save(self, data: Any) -> None:
        """Refuse.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(f"{self} is read, never written.")


class JoinedFilesDataset(ReadDataset):
    """One file, or several of a kind that are joined when they are read: a zoo that builds upon another.

    CSV (cells as text) and Parquet tables are put one below the other; of JSON objects the lists under one key are put
    one behind the other.

    Args:
        filepath: Path, or list of paths.
        numbers: Columns of CSV tables that are numbers, where they are there.
        metadata: Ignored by Kedro; read by kedro-viz.

    Raises:
        DatasetError: If the files aren't of one of these kinds.
    """

    def __init__(
        self, *, filepath: PathOrPaths, numbers: Sequence[str] = (), metadata: dict[str, Any] | None = None
    ) -> None:
        self._paths = [*map(Path, [filepath] if isinstance(filepath, str | PathLike) else filepath)]
        self._numbers = numbers
        self.metadata = metadata
        self._kind = next(iter({path.suffix for path in self._paths}), "")
        if {path.suffix for path in self._paths} not in ({".csv"}, {".parquet"}, {".json"}):
            raise DatasetError(
                f"{', '.join(map(str, self._paths))}: give .csv, .parquet or .json files, all of one kind"
            )

    def load(self) -> Any:
        """Read and join the files.

        Raises:
            DatasetError: If one of them doesn't exist, a cell of CSV is no number where one should be, or JSON isn't an
                object of lists.
        """
        parts = [self._part(path) for path in self._paths]
        if self._kind == ".json":
            keys = dict.fromkeys(key for part in parts for key in part)
            return {key: [item for part in parts for item in part.get(key, ())] for key in keys}
        joined = pd.concat(parts, ignore_index=True)
        # A column that only one of the files has is empty for the rows of the others.
        texts = joined.columns.difference(self._numbers) if self._kind == ".csv" else ()
        return joined.fillna(dict.fromkeys(texts, "")) if len(texts) else joined

    def _part(self, path: Path) -> Any:
        if not path.is_file():
            raise DatasetError(f"{path} doesn't exist.")
        if self._kind == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or not all(isinstance(items, list) for items in content.values()):
                raise DatasetError(f"{path} is no object of lists.")
            return content
        if self._kind == ".parquet":
            return pd.read_parquet(path)
        table = read_csv(path, dtype="string", keep_default_na=False)
        for name in {*self._numbers} & {*table}:
            with explained(str(path), f"The column {name} isn't all numbers ({{reason}}).", "Write numbers there."):
                table[name] = pd.to_numeric(table[name].replace("", None))
        return table

    def preview(self, nrows: int = 10) -> TablePreview:
        """The first rows, for kedro-viz."""
        found = self.load()
        if self._kind == ".json":
            found = pd.DataFrame([(key, len(items)) for key, items in found.items()], columns=["key", "items"])
        return table_preview(found, nrows)

    def _exists(self) -> bool:
        return all(path.is_file() for path in self._paths)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": [str(path) for path in self._paths]}


class OverlaidDataset(ReadDataset):
    """What came with a zoo with one's own measurements laid over it, as far as either exists.

    Example:
        ::

            model_responses:
              type: thesis_rec.catalog.OverlaidDataset
              combine: thesis_rec.truth.responses.overlay_responses
              datasets:
                zoo:
                  type: thesis_rec.catalog.NPZDataset
                  filepath: data/01_raw/starter/model_responses.npz
                own:
                  type: thesis_rec.catalog.NPZDataset
                  filepath: data/03_primary/model_responses.npz

    Args:
        datasets: Named dataset configurations, the most trusted last. Named, because Kedro makes relative paths of
            mappings absolute and doesn't look into lists.
        combine: Dotted name of a function from the list of what exists, possibly empty, to what is loaded.
        metadata: Ignored by Kedro; read by kedro-viz.
    """

    def __init__(
        self, *, datasets: Mapping[str, dict[str, Any]], combine: str, metadata: dict[str, Any] | None = None
    ) -> None:
        self._datasets = {name: AbstractDataset.from_config(name, dict(entry)) for name, entry in datasets.items()}
        self._combine = combine
        self.metadata = metadata

    def load(self) -> Any:
        """Load what exists and combine it."""
        return load_obj(self._combine)([dataset.load() for dataset in self._datasets.values() if dataset.exists()])

    def _exists(self) -> bool:
        # Nothing at all is an answer too: the zoo has no such measurements.
        return True

    def _describe(self) -> dict[str, Any]:
        return {"datasets": {name: str(dataset) for name, dataset in self._datasets.items()}, "combine": self._combine}
