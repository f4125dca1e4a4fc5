"""Tables and JSON documents, written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from kedro_datasets._typing import JSONPreview, TablePreview

from thesis_rec.catalog.base import FileDataset


class AtomicParquetDataset(FileDataset):
    """A pandas table as one Parquet file.

    Example:
        >>> table = AtomicParquetDataset(filepath="scores.parquet")  # doctest: +SKIP
        >>> table.save(pd.DataFrame({"model_id": ["a"], "value": [0.5]}))  # doctest: +SKIP
    """

    def read(self, path: Path, *names: str) -> pd.DataFrame:
        """Read a table."""
        return pd.read_parquet(path, **self._load_args)

    def write(self, path: Path, data: pd.DataFrame) -> None:
        """Write a table; the index isn't kept unless ``save_args`` ask for it."""
        data.to_parquet(path, **{"index": False, **self._save_args})

    def preview(self, nrows: int = 10) -> TablePreview:
        """The first rows, for kedro-viz."""
        import pyarrow.parquet as pq

        file = pq.ParquetFile(self._filepath)
        batch = next(file.iter_batches(batch_size=nrows), None)
        frame = file.schema_arrow.empty_table().to_pandas() if batch is None else batch.to_pandas()
        return _table_preview(frame)


class AtomicCSVDataset(FileDataset):
    """A pandas table as one CSV file."""

    def read(self, path: Path, *names: str) -> pd.DataFrame:
        """Read a table."""
        return pd.read_csv(path, **self._load_args)

    def write(self, path: Path, data: pd.DataFrame) -> None:
        """Write a table; the index isn't kept unless ``save_args`` ask for it."""
        data.to_csv(path, **{"index": False, "lineterminator": "\n", **self._save_args})

    def preview(self, nrows: int = 10) -> TablePreview:
        """The first rows, for kedro-viz."""
        return _table_preview(pd.read_csv(self._filepath, **{**self._load_args, "nrows": nrows}))


class AtomicJSONDataset(FileDataset):
    """A JSON document; numpy's scalars and arrays are written as numbers and lists, NaN as null."""

    def read(self, path: Path, *names: str) -> Any:
        """Read a document."""
        return json.loads(path.read_bytes(), **self._load_args)

    def write(self, path: Path, data: Any) -> None:
        """Write a document that any JSON parser reads, not only Python's (which also takes NaN)."""
        arguments = {"indent": 2, "allow_nan": False, **self._save_args}
        path.write_text(json.dumps(_plain(data), **arguments) + "\n", encoding="utf-8")

    def preview(self, characters: int = 4000) -> JSONPreview:
        """The document, for kedro-viz; a long one is shown as its top-level keys only."""
        document = self.read(self._filepath)
        text = json.dumps(document)
        if len(text) > characters and isinstance(document, dict):
            text = json.dumps({key: _summary(value) for key, value in document.items()})
        return JSONPreview(text)


def _table_preview(frame: pd.DataFrame) -> TablePreview:
    # Through JSON, because kedro-viz serialises strictly and knows neither numpy's numbers nor NaN.
    return TablePreview(json.loads(frame.to_json(orient="split")))


def _summary(value: Any) -> Any:
    if isinstance(value, dict):
        return f"{len(value)} keys: " + ", ".join(map(str, list(value)[:5]))
    return f"{len(value)} items" if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """``value`` in JSON's own types."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist") and not isinstance(value, str | bytes):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is pd.NA or value is pd.NaT:
        return None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
