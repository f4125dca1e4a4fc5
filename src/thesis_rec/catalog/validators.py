"""Validators of the catalog's entries: what holds of a table is said where its entry stands, in the catalog.

Kedro calls them at each load and save; raising stops the run before wrong data travel further. They check structure
(columns, types, ranges, unique keys). What is wrong with a single row of a manifest is not theirs: that becomes a row
of a failures table, and the rest of the run goes on.
"""

from dataclasses import field
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from thesis_rec.base.tables import VECTOR_LENGTH
from thesis_rec.catalog.files import as_json

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Numbers:
    """What the numbers of a column are: finite and within ``[low, high]``; ``missing`` allows NaN."""

    low: float = -np.inf
    high: float = np.inf
    missing: bool = False


@dataclass(frozen=True, config=_STRICT)
class Table:
    """What holds of a table.

    Attributes:
        columns: Those that it has, none of them twice.
        key: Those, as far as it has them, that no two of its rows share.
        filled: Those in which no row lacks a value.
        words: What a column's words are; one that ends in ``<...>`` stands for all that begin like it.
        numbers: What a column's numbers are, if it is there. Columns of a table without rows have no type, and it isn't
            for this check to say that there should be some.
        has_rows: Whether there must be some.
    """

    columns: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: dict[str, Numbers] = field(default_factory=dict)
    has_rows: bool = False

    def validate(self, data: Any) -> Any:
        """The table, if it is one and all of that holds of it.

        Raises:
            ValueError: If it isn't one, or something doesn't hold of it; says what.
        """
        _expect(data, pd.DataFrame, "a table")
        if missing := [name for name in self.columns if name not in data]:
            raise ValueError(f"missing columns: {', '.join(missing)}; there are: {', '.join(map(str, data.columns))}")
        if data.columns.has_duplicates:
            raise ValueError(f"columns that occur twice: {sorted(set(data.columns[data.columns.duplicated()]))}")
        if self.has_rows and data.empty:
            raise ValueError("the table has no rows")
        keys = [name for name in self.key if name in data]
        if keys and (twice := data.duplicated(keys)).any():
            example = data.loc[twice, keys].iloc[0].to_dict()
            raise ValueError(f"{int(twice.sum())} rows repeat another row's {', '.join(keys)}, e.g. {example}")
        for name in self.filled:
            empty = data[name].isna() | (data[name].astype(str).str.strip() == "")
            if empty.any():
                raise ValueError(f"column {name!r} is empty in {int(empty.sum())} rows")
        for name, allowed in self.words.items():
            values = data[name].astype(str)
            beginnings = tuple(word.partition("<")[0] for word in allowed if word.endswith(">"))
            good = values.isin(allowed) | values.str.startswith(beginnings)
            if not good.all():
                unknown = sorted(set(values[~good]))[:5]
                raise ValueError(f"column {name!r} has unknown values {unknown}; known: {', '.join(allowed)}")
        for name, numbers in self.numbers.items():
            if name in data and not data.empty:
                _check_numbers(data[name], numbers)
        return data


@dataclass(frozen=True, config=_STRICT)
class Splits(Table):
    """Which models, datasets and cells are known, and what each is used for."""

    def validate(self, data: Any) -> Any:
        """The table, if nothing unknown is trained on either."""
        super().validate(data)
        leaked = data[~data["known"].astype(bool) & (data["role"] == "train")]
        if len(leaked):
            raise ValueError(f"{len(leaked)} unknown items are used for training, e.g. {leaked['id'].iloc[0]!r}")
        return data


def _expect(data: Any, kind: type, what: str) -> None:
    if not isinstance(data, kind):
        raise ValueError(f"expected {what}, got {type(data).__name__}")


def _expect_keys(data: Any, *names: str) -> None:
    _expect(data, dict, f"an object with {', '.join(names)}")
    if missing := [name for name in names if name not in data]:
        raise ValueError(f"missing keys: {', '.join(missing)}; there are: {', '.join(map(str, data))}")


def _check_numbers(column: pd.Series, numbers: Numbers) -> None:
    name = column.name
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise ValueError(f"column {name!r} must be numeric, not {column.dtype}")
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    absent = np.isnan(values)
    if absent.any() and not numbers.missing:
        raise ValueError(f"column {name!r} has no value in {int(absent.sum())} rows")
    bad = ~absent & ~(np.isfinite(values) & (values >= numbers.low) & (values <= numbers.high))
    if bad.any():
        rows = f"{int(bad.sum())} rows don't, e.g. {values[bad][0]:g}"
        raise ValueError(f"column {name!r} must lie within [{numbers.low:g}, {numbers.high:g}]: {rows}")


def _array(payload: Any, name: str, ndim: int) -> np.ndarray:
    """The array ``name`` of named arrays, if it is there and has so many dimensions."""
    _expect_keys(payload, name)
    array = np.asarray(payload[name])
    if array.ndim != ndim:
        raise ValueError(f"{name!r} must have {ndim} dimensions, not shape {array.shape}")
    return array


def validate_model_vector(payload: Any) -> None:
    """One model: ``parameters`` float32 (8192,), finite, and not all zero."""
    vector = _array(payload, "parameters", 1)
    if vector.shape != (VECTOR_LENGTH,) or vector.dtype != np.float32:
        raise ValueError(f"'parameters' must be float32 ({VECTOR_LENGTH},), not {vector.dtype} {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError("'parameters' has values that aren't finite")
    if not vector.any():
        raise ValueError("'parameters' are all zero")


def validate_model_spectra(data: Any) -> None:
    """``spectra`` float (K, P), ``model_ids`` (K,) unique and ``names`` (P,); a number that a model lacks is NaN."""
    spectra = _array(data, "spectra", 2)
    shape = (len(_array(data, "model_ids", 1)), len(_array(data, "names", 1)))
    if spectra.shape != shape:
        raise ValueError(f"'spectra' are {spectra.shape} for {shape[0]} models and {shape[1]} names")
    if len(set(map(str, data["model_ids"]))) < shape[0]:
        raise ValueError("'model_ids' repeat a model")
    if np.isinf(spectra).any():
        raise ValueError("'spectra' have infinite values")


def validate_token_shard(payload: Any) -> None:
    """One shard: ``features`` float16/32 (batches, classes, dim), each of length 1, and what belongs to them."""
    features = _array(payload, "features", 3)
    if features.dtype not in (np.float16, np.float32):
        raise ValueError(f"'features' must be float16 or float32, not {features.dtype}")
    n_classes = features.shape[1]
    if min(features.shape) == 0:
        raise ValueError(f"'features' are empty: {features.shape}")
    lengths = np.linalg.norm(features.astype(np.float32), axis=-1)
    # float16 rounds each coordinate by 2^-11 of itself, which moves the length by no more than that.
    if not np.allclose(lengths, 1.0, atol=2e-3):
        raise ValueError(f"'features' aren't L2-normalised: lengths from {lengths.min():.4f} to {lengths.max():.4f}")
    for name in ("class_ids", "class_names"):
        if len(_array(payload, name, 1)) != n_classes:
            raise ValueError(f"{name!r} has {len(payload[name])} entries for {n_classes} classes")
    _expect_keys(payload, "n_images", "encoder_id")
    if int(payload["n_images"]) < 1 or not str(payload["encoder_id"]):
        raise ValueError("'n_images' must be positive and 'encoder_id' must name the encoder")


def validate_model_embeddings(data: Any) -> None:
    """``model_id`` and float32 columns of the code, finite, one row per model."""
    Table(columns=("model_id",), key=("model_id",), filled=("model_id",)).validate(data)
    columns = [name for name in data if name != "model_id"]
    if not columns:
        raise ValueError("no columns of embeddings")
    if wrong := [name for name in columns if data[name].dtype != np.float32]:
        raise ValueError(f"embedding columns must be float32; {wrong[0]!r} is {data[wrong[0]].dtype}")
    if not np.isfinite(data[columns].to_numpy()).all():
        raise ValueError("embeddings have values that aren't finite")


def validate_checkpoint(data: Any) -> None:
    """A non-empty dictionary by strings, whose tensors are finite."""
    if not isinstance(data, dict) or not data:
        raise ValueError("a checkpoint is a non-empty dictionary")
    if bad := [key for key in data if not isinstance(key, str)]:
        raise ValueError(f"a checkpoint's keys are strings, not {bad[0]!r}")
    # Whoever loads or saves a checkpoint has imported torch.
    from torch.utils._pytree import keystr, tree_leaves_with_path

    for path, leaf in tree_leaves_with_path(data):
        if hasattr(leaf, "isfinite") and not bool(leaf.isfinite().all()):
            raise ValueError(f"the checkpoint's tensor {keystr(path)} has values that aren't finite; train again")


def validate_evaluation_metrics(data: Any) -> None:
    """The document of the contract."""
    validate_json(data)
    _expect_keys(data, "quadrants", "paired", "noise_ceiling", "cost_seconds")


def validate_failure_record(payload: Any) -> None:
    """One item's outcome: ``error`` and ``hint``, both empty when it succeeded."""
    _expect_keys(payload, "error", "hint")


def validate_json(data: Any) -> None:
    """Anything that JSON can hold; numpy's numbers are allowed, because the project's JSON dataset writes them.

    Raises:
        ValueError: If it can't.
    """
    as_json(data)


def validate_dictionary(data: Any) -> None:
    """Anything by names, such as arrays or partitions; what is in each is checked when it is read and written."""
    _expect(data, dict, "a dictionary")


def validate_text(data: Any) -> None:
    """Non-empty text, such as an HTML report."""
    if not isinstance(data, str) or not data.strip():
        raise ValueError("expected non-empty text")


def validate_figure(data: Any) -> None:
    """A figure of Plotly or Matplotlib, its JSON form, or PNG bytes; a dictionary of several is checked one by one."""
    several = isinstance(data, dict) and not {"data", "layout"} & set(data)
    if several and not data:
        raise ValueError("no figures")
    for figure in data.values() if several else [data]:
        drawn = any(hasattr(figure, name) for name in ("to_plotly_json", "savefig", "size", "__call__"))
        if not drawn and not isinstance(figure, dict | bytes):
            raise ValueError(f"expected a figure, got {type(figure).__name__}")
