"""Validators of the catalog's entries: one small function per data contract.

Kedro calls them at each load and save; raising stops the run before a wrong table travels further. They check
structure (columns, types, ranges, unique keys). What is wrong with a single row of a manifest is not theirs: that
becomes a row of a failures table, and the rest of the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from thesis_rec.base.tables import VECTOR_LENGTH
from thesis_rec.knowledge.quadrants import QUADRANTS
from thesis_rec.truth.performance_records import RECORD_COLUMNS, SCORE_COLUMNS

PROTOCOLS = ("linear_probe", "fine_tune", "proxy")
SPLIT_KINDS = ("model", "dataset", "cell")
ROLES = ("train", "validation", "test")

MODEL_MANIFEST_COLUMNS = (
    "model_id", "loader", "source", "revision", "family", "pretraining", "licence", "extractor",
)  # fmt: skip
DATASET_MANIFEST_COLUMNS = (
    "dataset_id", "loader", "source", "image_column", "label_column", "splits", "domain", "group", "parent",
    "class_subset",
)  # fmt: skip
HARDWARE_COLUMNS = (
    "model_id", "device", "precision", "batch_size", "latency_ms_p50", "latency_ms_p95", "throughput",
    "peak_memory_mb", "n_parameters", "macs", "source",
)  # fmt: skip


# --- what the validators are built of -------------------------------------------------------------------------------


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


# --- 01_raw ------------------------------------------------------------------------------------------------------


def validate_model_manifest(data: Any) -> None:
    """One row per candidate model, with all columns of the contract."""
    if check_table(data, MODEL_MANIFEST_COLUMNS).empty:
        raise ValueError("the model manifest has no rows")


def validate_dataset_manifest(data: Any) -> None:
    """One row per dataset or sub-task, with all columns of the contract."""
    if check_table(data, DATASET_MANIFEST_COLUMNS).empty:
        raise ValueError("the dataset manifest has no rows")


def validate_performance_records(data: Any) -> None:
    """Measured values, fractions 0..1, one row per repeat."""
    key = ("model_id", "dataset_id", "protocol", "metric", "seed", "source")
    table = check_table(data, RECORD_COLUMNS, key)
    check_filled(table, "model_id", "dataset_id", "metric")
    check_one_of(table, "protocol", PROTOCOLS, "imported:")
    check_numbers(table, "value", low=0.0, high=1.0)
    check_numbers(table, "seed")
    check_numbers(table, "n_train", low=0, missing=True)


# --- 02_intermediate, 04_feature ---------------------------------------------------------------------------------


def validate_model_vector(payload: Any) -> None:
    """One model: ``parameters`` float32 (8192,), finite, and not all zero."""
    vector = named_array(payload, "parameters", 1)
    if vector.shape != (VECTOR_LENGTH,) or vector.dtype != np.float32:
        raise ValueError(f"'parameters' must be float32 ({VECTOR_LENGTH},), not {vector.dtype} {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError("'parameters' has values that aren't finite")
    if not vector.any():
        raise ValueError("'parameters' are all zero")


def validate_model_vectors(data: Any) -> None:
    """Partitions of model vectors."""
    check_partitions(data, validate_model_vector)


def validate_model_spectra(data: Any) -> None:
    """``spectra`` float (K, P), ``model_ids`` (K,) unique and ``names`` (P,); a number that a model lacks is NaN."""
    spectra = named_array(data, "spectra", 2)
    shape = (len(named_array(data, "model_ids", 1)), len(named_array(data, "names", 1)))
    if spectra.shape != shape:
        raise ValueError(f"'spectra' are {spectra.shape} for {shape[0]} models and {shape[1]} names")
    if len(set(map(str, data["model_ids"]))) < shape[0]:
        raise ValueError("'model_ids' repeat a model")
    if np.isinf(spectra).any():
        raise ValueError("'spectra' have infinite values")


def validate_token_shard(payload: Any) -> None:
    """One shard: ``features`` float16/32 (batches, classes, dim), each of length 1, and what belongs to them."""
    features = named_array(payload, "features", 3)
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
        if len(named_array(payload, name, 1)) != n_classes:
            raise ValueError(f"{name!r} has {len(payload[name])} entries for {n_classes} classes")
    for name in ("n_images", "encoder_id"):
        named_array(payload, name)
    if int(payload["n_images"]) < 1 or not str(payload["encoder_id"]):
        raise ValueError("'n_images' must be positive and 'encoder_id' must name the encoder")


def validate_dataset_tokens(data: Any) -> None:
    """Partitions of token shards."""
    check_partitions(data, validate_token_shard)


def validate_model_embeddings(data: Any) -> None:
    """``model_id`` and float32 columns of the code, finite, one row per model."""
    table = check_table(data, ("model_id",), ("model_id",))
    check_filled(table, "model_id")
    columns = [name for name in table if name != "model_id"]
    if not columns:
        raise ValueError("no columns of embeddings")
    wrong = [name for name in columns if table[name].dtype != np.float32]
    if wrong:
        raise ValueError(f"embedding columns must be float32; {wrong[0]!r} is {table[wrong[0]].dtype}")
    if not np.isfinite(table[columns].to_numpy()).all():
        raise ValueError("embeddings have values that aren't finite")


# --- 03_primary, 05_model_input ----------------------------------------------------------------------------------


def validate_performance(data: Any) -> None:
    """One value per model, dataset and protocol."""
    key = ("model_id", "dataset_id", "protocol")
    table = check_table(data, (*key, "value"), key)
    check_filled(table, "model_id", "dataset_id")
    check_one_of(table, "protocol", PROTOCOLS, "imported:")
    check_numbers(table, "value", low=0.0, high=1.0)
    if "std" in table:
        check_numbers(table, "std", low=0.0, missing=True)


def validate_transferability_scores(data: Any) -> None:
    """Scores with their cost; a score that isn't defined for a model is NaN."""
    key = ("model_id", "dataset_id", "method", "source")
    table = check_table(data, SCORE_COLUMNS, key)
    check_filled(table, "model_id", "dataset_id", "method")
    check_numbers(table, "value", missing=True)
    check_numbers(table, "seconds", low=0.0, missing=True)


def validate_splits(data: Any) -> None:
    """Which models, datasets and cells are known, and what each is used for."""
    key = ("kind", "id", "id2", "fold", "seed")
    table = check_table(data, (*key, "known", "role"), key)
    check_filled(table, "id")
    check_one_of(table, "kind", SPLIT_KINDS)
    check_one_of(table, "role", ROLES)
    if not table["known"].isin([True, False]).all():
        raise ValueError("column 'known' must be true or false")
    leaked = table[~table["known"].astype(bool) & (table["role"] == "train")]
    if len(leaked):
        raise ValueError(f"{len(leaked)} unknown items are used for training, e.g. {leaked['id'].iloc[0]!r}")


def validate_hardware_profiles(data: Any) -> None:
    """Measured or published cost of models on devices."""
    key = ("model_id", "device", "precision", "batch_size", "source")
    table = check_table(data, HARDWARE_COLUMNS, key)
    check_filled(table, "model_id", "device", "precision")
    check_numbers(table, "batch_size", low=1)
    measured = ("latency_ms_p50", "latency_ms_p95", "throughput", "peak_memory_mb", "n_parameters", "macs")
    check_numbers(table, *measured, low=0.0, missing=True)


# --- 06_models ---------------------------------------------------------------------------------------------------


def validate_checkpoint(data: Any) -> None:
    """A non-empty dictionary by strings, whose tensors are finite."""
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


# --- 07_model_output, 08_reporting -------------------------------------------------------------------------------


def validate_rankings(data: Any) -> None:
    """Every method's ranking of the models of each dataset."""
    columns = ("dataset_id", "model_id", "quadrant", "score", "rank", "predicted_value", "predicted_std", "method")
    key = ("dataset_id", "model_id", "quadrant", "method", "seed")
    table = check_table(data, (*columns, "seed"), key)
    check_filled(table, "dataset_id", "model_id", "method")
    check_one_of(table, "quadrant", QUADRANTS)
    check_numbers(table, "score", missing=True)
    check_numbers(table, "rank", low=1)
    check_numbers(table, "predicted_value", "predicted_std", missing=True)


def validate_evaluation_metrics(data: Any) -> None:
    """The document of the contract; every mean lies between its bounds."""
    validate_json(data)
    if not isinstance(data, dict):
        raise ValueError(f"expected an object, got {type(data).__name__}")
    missing = [name for name in ("quadrants", "paired", "noise_ceiling", "cost_seconds") if name not in data]
    if missing:
        raise ValueError(f"missing keys: {', '.join(missing)}")
    for quadrant, methods in data["quadrants"].items():
        for method, metrics in methods.items():
            for metric, value in metrics.items():
                bounds = [value.get(name) for name in ("low", "mean", "high")]
                if None not in bounds and not bounds[0] - 1e-9 <= bounds[1] <= bounds[2] + 1e-9:
                    raise ValueError(f"{quadrant}/{method}/{metric}: the mean lies outside its interval: {value}")


def validate_recommendation(data: Any) -> None:
    """The ranked models of one request."""
    table = check_table(data, ("model_id",), ("model_id",))
    check_filled(table, "model_id")
    for name in ("rank", "predicted_value", "predicted_std"):
        if name in table:
            check_numbers(table, name, missing=True)


def validate_failures(data: Any) -> None:
    """What failed, ``error`` and ``hint``; empty when nothing did."""
    table = check_table(data)
    key = next((name for name in ("model_id", "dataset_id", "item") if name in table), "model_id")
    check_filled(check_table(table, (key, "error", "hint")), key, "error")


def validate_failure_record(payload: Any) -> None:
    """One item's outcome: ``error`` and ``hint``, both empty when it succeeded."""
    if not isinstance(payload, dict) or not {"error", "hint"} <= set(payload):
        raise ValueError("an outcome has the keys 'error' and 'hint'")


# --- anything else -----------------------------------------------------------------------------------------------


def validate_table(data: Any) -> None:
    """Any table whose columns are named once."""
    check_table(data)


def validate_json(data: Any) -> None:
    """Anything that JSON can hold.

    Raises:
        ValueError: If it can't; numpy's numbers are allowed, because the project's JSON dataset writes them.
    """
    import json

    try:
        json.dumps(data, default=lambda value: value.tolist())
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a JSON document: {error}") from error


def validate_arrays(data: Any) -> None:
    """Named arrays without Python objects."""
    if not isinstance(data, dict):
        raise ValueError(f"expected named arrays, got {type(data).__name__}")
    for name, value in data.items():
        if np.asarray(value).dtype.hasobject:
            raise ValueError(f"{name!r} holds Python objects")


def validate_partitions(data: Any) -> None:
    """Any dictionary of partitions."""
    check_partitions(data, lambda payload: None)


def validate_text(data: Any) -> None:
    """Non-empty text, such as an HTML report."""
    if not isinstance(data, str) or not data.strip():
        raise ValueError("expected non-empty text")


def validate_figure(data: Any) -> None:
    """A figure of Plotly or Matplotlib, its JSON form, or PNG bytes; a dictionary of several is checked one by one."""
    if isinstance(data, dict) and not {"data", "layout"} & set(data):
        if not data:
            raise ValueError("no figures")
        for figure in data.values():
            if not callable(figure):
                validate_figure(figure)
        return
    if isinstance(data, dict | bytes) or any(hasattr(data, name) for name in ("to_plotly_json", "savefig", "size")):
        return
    raise ValueError(f"expected a figure, got {type(data).__name__}")
