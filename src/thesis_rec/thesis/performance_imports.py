"""Published tables of performance, brought into the project's own form.

Each importer gives rows of ``performance_records`` with the source they are from and a protocol ``imported:<source>``,
so that they are never mixed with what was measured here. Files of the earlier thesis code are read by
the modules :mod:`~thesis_rec.thesis.thesis_tables`, :mod:`~thesis_rec.thesis.thesis_arrays` and
:mod:`~thesis_rec.thesis.thesis_networks`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from thesis_rec.base.errors import ItemError
from thesis_rec.truth.performance_records import RECORD_COLUMNS


def records_frame(rows: Iterable[tuple[str, str, float]], protocol: str, metric: str, source: str) -> pd.DataFrame:
    """Rows of (model, dataset, fraction) as performance records.

    Raises:
        ItemError: If there are none, or a value is no fraction.
    """
    table = pd.DataFrame(rows, columns=["model_id", "dataset_id", "value"])
    if table.empty:
        raise ItemError(source, "holds no performance.", "Check that the file is the one meant and isn't empty.")
    value = pd.to_numeric(table["value"], errors="coerce").astype("float64")
    bad = ~value.between(0.0, 1.0)
    if bad.any():
        first = table.loc[bad].iloc[0].to_dict()
        raise ItemError(source, f"has values outside 0..1, e.g. {first}.", "Name the unit: fraction or percent.")
    table["value"] = value
    return table.assign(protocol=protocol, metric=metric, seed=0, n_train=np.nan, source=source)[RECORD_COLUMNS].astype(
        {"model_id": "string", "dataset_id": "string", "protocol": "string", "metric": "string", "source": "string"}
    )


def scale_of(values: Iterable[float], unit: str = "auto") -> float:
    """What a value of 1 means: 1 for fractions, 100 for percent.

    Args:
        values: Accuracies.
        unit: ``fraction``, ``percent``, or ``auto``: percent if any value is above 1.5.

    Raises:
        ValueError: If the unit is unknown.
    """
    if unit not in ("auto", "fraction", "percent"):
        raise ValueError(f"unknown unit {unit!r}; choose fraction, percent or auto")
    if unit == "auto":
        finite = [v for v in values if np.isfinite(v)]
        return 100.0 if finite and max(finite) > 1.5 else 1.0
    return 100.0 if unit == "percent" else 1.0


def import_wide_csv(path: Path, unit: str = "auto", source: str = "") -> pd.DataFrame:
    """A table of models (rows, the first column their ids) by datasets (the other columns).

    Args:
        path: CSV file.
        unit: See :func:`scale_of`.
        source: Name for the records, by default the file's.
    """
    table = _csv(path)
    name = source or path.stem
    if table.shape[1] < 2:
        raise ItemError(str(path), "has fewer than two columns.", "Give models as rows and datasets as columns.")
    ids = table.iloc[:, 0].astype(str)
    if ids.duplicated().any():
        raise ItemError(str(path), f"names {ids[ids.duplicated()].iloc[0]!r} twice.", "Keep one row per model.")
    numbers = table.iloc[:, 1:].apply(pd.to_numeric, errors="coerce")
    scale = scale_of(numbers.to_numpy(dtype=float).ravel(), unit)
    rows = [
        (model, str(dataset), float(value) / scale)
        for model, line in zip(ids, numbers.to_numpy(dtype=float), strict=True)
        for dataset, value in zip(numbers.columns, line, strict=True)
        if np.isfinite(value)
    ]
    return records_frame(rows, f"imported:{name}", "accuracy", name)


def import_transfergraph(path: Path) -> pd.DataFrame:
    """TransferGraph's records: ``records.csv`` of the repository, or a long table ``model_id, dataset_id, value``."""
    table = _csv(path)
    # The repository's own names first, then this project's.
    columns = {
        "model_id": _first(table, ("model", "model_id", "model_identifier")),
        "dataset_id": _first(table, ("finetuned_dataset", "dataset_id", "dataset")),
        "value": _first(table, ("eval_accuracy", "test_accuracy", "value", "accuracy")),
    }
    if missing := [name for name, found in columns.items() if found is None]:
        raise ItemError(
            str(path), f"has no column for {', '.join(missing)}.", f"Its columns: {', '.join(table.columns)}."
        )
    chosen = pd.DataFrame({name: table[found] for name, found in columns.items()})
    chosen["value"] = pd.to_numeric(chosen["value"], errors="coerce")
    # The last of several runs of a cell is the one that its authors kept.
    chosen = chosen.dropna().drop_duplicates(["model_id", "dataset_id"], keep="last")
    rows = list(chosen.astype({"model_id": str, "dataset_id": str}).itertuples(index=False, name=None))
    return records_frame(rows, "imported:transfergraph", "accuracy", "transfergraph")


def import_timm_results(path: Path, dataset_id: str | None = None) -> pd.DataFrame:
    """A results file of timm (``results-imagenet.csv`` and so on): ``model, top1, ...`` in percent.

    Args:
        path: CSV file.
        dataset_id: What the models were tested on, by default what the file's name says.
    """
    table = _csv(path)
    if not {"model", "top1"} <= set(table.columns):
        raise ItemError(str(path), "has no columns 'model' and 'top1'.", "Take a results-*.csv file of timm.")
    dataset = dataset_id or path.stem.removeprefix("results-")
    table = table.drop_duplicates("model").dropna(subset=["top1"])
    rows = [(str(m), dataset, float(v) / 100.0) for m, v in zip(table["model"], table["top1"], strict=True)]
    return records_frame(rows, "imported:timm", "top1", "timm")


def _csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ItemError(str(path), f"can't be read as CSV ({error}).", "Check the path and the file.") from error


def _first(table: pd.DataFrame, names: Iterable[str]) -> str | None:
    return next((name for name in names if name in table.columns), None)
