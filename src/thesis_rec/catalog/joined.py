"""Several files, or several datasets, that are read as one."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from kedro.utils import load_obj
from kedro_datasets._typing import TablePreview

from thesis_rec.base.errors import explained
from thesis_rec.base.tables import read_csv
from thesis_rec.catalog.files import table_preview

PathOrPaths = str | PathLike[str] | Sequence[str | PathLike[str]]


class JoinedFilesDataset(AbstractDataset[Any, Any]):
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
            raise DatasetError(f"{self._names()}: give .csv, .parquet or .json files, all of one kind")

    def load(self) -> Any:
        """Read and join the files.

        Raises:
            DatasetError: If one of them doesn't exist, a cell of CSV is no number where one should be, or JSON isn't an
                object of lists.
        """
        if absent := [path for path in self._paths if not path.is_file()]:
            raise DatasetError(f"{absent[0]} doesn't exist.")
        if self._kind == ".json":
            return self._objects()
        read: Any = pd.read_parquet
        if self._kind == ".csv":
            read = partial(read_csv, dtype="string", keep_default_na=False)
        tables = [read(path) for path in self._paths]
        for path, table in zip(self._paths, tables, strict=True):
            for name in {*self._numbers} & {*table} if self._kind == ".csv" else ():
                with explained(str(path), f"The column {name} isn't all numbers ({{reason}}).", "Write numbers there."):
                    table[name] = pd.to_numeric(table[name].replace("", None))
        if len(tables) == 1:
            return tables[0]
        joined = pd.concat(tables, ignore_index=True)
        # A column that only one of the files has is empty for the rows of the others.
        texts = joined.columns.difference(self._numbers)
        return joined.fillna(dict.fromkeys(texts, "")) if self._kind == ".csv" else joined

    def save(self, data: Any) -> None:
        """Refuse: these files are what others have made.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(f"{self._names()} is read, never written.")

    def preview(self, nrows: int = 10) -> TablePreview:
        """The first rows, for kedro-viz."""
        found = self.load()
        if self._kind == ".json":
            found = pd.DataFrame([(key, len(items)) for key, items in found.items()], columns=["key", "items"])
        return table_preview(found, nrows)

    def _objects(self) -> dict[str, list[Any]]:
        joined: dict[str, list[Any]] = {}
        for path in self._paths:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or not all(isinstance(items, list) for items in content.values()):
                raise DatasetError(f"{path} is no object of lists.")
            for key, items in content.items():
                joined.setdefault(key, []).extend(items)
        return joined

    def _names(self) -> str:
        return ", ".join(map(str, self._paths))

    def _exists(self) -> bool:
        return all(path.is_file() for path in self._paths)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": [str(path) for path in self._paths]}


class OverlaidDataset(AbstractDataset[Any, Any]):
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

    def save(self, data: Any) -> None:
        """Refuse: its parts are written under their own names.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(f"{', '.join(self._datasets)}: this is read, never written.")

    def _exists(self) -> bool:
        # Nothing at all is an answer too: the zoo has no such measurements.
        return True

    def _describe(self) -> dict[str, Any]:
        return {
            "datasets": {name: dataset._describe() for name, dataset in self._datasets.items()},
            "combine": self._combine,
        }
