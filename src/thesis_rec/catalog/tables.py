"""Tables and JSON documents, written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from kedro_datasets._typing import JSONPreview, TablePreview

from thesis_rec.catalog.base import FileDataset


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
        """Write a document that any JSON parser reads, not only Python's (which also takes NaN)."""
        path.write_text(json.dumps(_plain(data), indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def preview(self) -> JSONPreview:
        """The document, for kedro-viz; of a long one the outline."""
        text = json.dumps(self.read(self._filepath))
        return JSONPreview(text) if len(text) <= 4000 else super().preview()


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
