"""What the validators are built of: checks of tables, columns, partitions, arrays and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd


def check_table(data: Any, columns: Iterable[str] = (), key: Iterable[str] = ()) -> pd.DataFrame:
    """``data``, if it is a table with ``columns``, in which no two rows share ``key``.

    Raises:
        ValueError: If it isn't, or a column occurs twice.
    """
    if not isinstance(data, pd.DataFrame):
        raise ValueError(f"expected a table, got {type(data).__name__}")
    missing = [name for name in columns if name not in data]
    if missing:
        raise ValueError(f"missing columns: {', '.join(missing)}; there are: {', '.join(map(str, data.columns))}")
    if data.columns.has_duplicates:
        raise ValueError(f"columns that occur twice: {sorted(set(data.columns[data.columns.duplicated()]))}")
    keys = [name for name in key if name in data]
    if keys and (twice := data.duplicated(keys)).any():
        example = data.loc[twice, keys].iloc[0].to_dict()
        raise ValueError(f"{int(twice.sum())} rows repeat another row's {', '.join(keys)}, e.g. {example}")
    return data


def check_filled(data: pd.DataFrame, *columns: str) -> None:
    """Check that no row lacks a value in ``columns``.

    Raises:
        ValueError: If one does.
    """
    for name in columns:
        empty = data[name].isna() | (data[name].astype(str).str.strip() == "")
        if empty.any():
            raise ValueError(f"column {name!r} is empty in {int(empty.sum())} rows")


def check_numbers(
    data: pd.DataFrame,
    *columns: str,
    low: float = -np.inf,
    high: float = np.inf,
    missing: bool = False,
) -> None:
    """Check numeric columns: finite and within ``[low, high]``; ``missing`` allows NaN.

    Columns of a table without rows have no type, and it isn't for this check to say that there should be some.

    Raises:
        ValueError: If a column isn't numeric, or a value isn't so.
    """
    if data.empty:
        return
    for name in columns:
        if not pd.api.types.is_numeric_dtype(data[name]) or pd.api.types.is_bool_dtype(data[name]):
            raise ValueError(f"column {name!r} must be numeric, not {data[name].dtype}")
        values = data[name].to_numpy(dtype=np.float64, na_value=np.nan)
        absent = np.isnan(values)
        if absent.any() and not missing:
            raise ValueError(f"column {name!r} has no value in {int(absent.sum())} rows")
        bad = ~absent & ~(np.isfinite(values) & (values >= low) & (values <= high))
        if bad.any():
            raise ValueError(
                f"column {name!r} must lie within [{low:g}, {high:g}]: {int(bad.sum())} rows don't, "
                f"e.g. {values[bad][0]:g}"
            )


def check_one_of(data: pd.DataFrame, column: str, allowed: Iterable[str], prefix: str | None = None) -> None:
    """Check that a column holds ``allowed`` words, or ones that begin with ``prefix``.

    Raises:
        ValueError: If it holds others.
    """
    values = data[column].astype(str)
    good = values.isin(list(allowed))
    if prefix is not None:
        good |= values.str.startswith(prefix)
    if not good.all():
        known = ", ".join(allowed) + (f", {prefix}<source>" if prefix else "")
        raise ValueError(f"column {column!r} has unknown values {sorted(set(values[~good]))[:5]}; known: {known}")


def check_partitions(data: Any, check: Callable[[Any], None]) -> None:
    """Check the partitions of a dictionary; those that aren't read yet are checked when they are.

    Raises:
        ValueError: If it is no dictionary by non-empty strings, or ``check`` refuses a partition.
    """
    if not isinstance(data, dict):
        raise ValueError(f"expected a dictionary of partitions, got {type(data).__name__}")
    for key, payload in data.items():
        if not isinstance(key, str) or not key:
            raise ValueError(f"partition keys are non-empty strings, not {key!r}")
        if callable(payload):
            continue
        try:
            check(payload)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error


def named_array(payload: Any, name: str, ndim: int | None = None) -> np.ndarray:
    """The array ``name`` of named arrays.

    Raises:
        ValueError: If there is none, or it hasn't ``ndim`` dimensions.
    """
    if not isinstance(payload, dict):
        raise ValueError(f"expected named arrays, got {type(payload).__name__}")
    if name not in payload:
        raise ValueError(f"no array {name!r}; there are: {', '.join(payload)}")
    array = np.asarray(payload[name])
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name!r} must have {ndim} dimensions, not shape {array.shape}")
    return array


def check_checkpoint(data: Any) -> None:
    """Check that a checkpoint is a non-empty dictionary by strings, and its tensors are finite.

    Raises:
        ValueError: If it isn't.
    """
    if not isinstance(data, dict) or not data:
        raise ValueError("a checkpoint is a non-empty dictionary")
    bad = [key for key in data if not isinstance(key, str)]
    if bad:
        raise ValueError(f"a checkpoint's keys are strings, not {bad[0]!r}")
    _finite_tensors(data, "")


def _finite_tensors(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _finite_tensors(item, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _finite_tensors(item, f"{path}/{index}")
    elif hasattr(value, "isfinite") and not bool(value.isfinite().all()):
        raise ValueError(f"the checkpoint's tensor {path} has values that aren't finite; train again")
