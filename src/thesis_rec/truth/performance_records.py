"""Measured performance: from raw records to one value per model, dataset and protocol."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import pandas as pd

logger = logging.getLogger(__name__)

KEY = ["model_id", "dataset_id", "protocol"]
#: Columns of ``performance_records``.
RECORD_COLUMNS = ["model_id", "dataset_id", "protocol", "metric", "value", "seed", "n_train", "source"]
#: What tells two measurements of one cell apart, beside :data:`RECORD_COLUMNS`: hashes of the model's weights and of
#: the dataset's images and labels, versions of the libraries, seconds of the cell, and how many test images judged it.
#: Records from before these were written, and published ones, lack them.
PROVENANCE_COLUMNS = ["model_revision", "dataset_revision", "versions", "seconds", "n_test"]
#: Columns of ``transferability_scores``.
SCORE_COLUMNS = ["model_id", "dataset_id", "method", "value", "seconds", "source"]
#: Columns of ``performance``.
COLUMNS = [*KEY, "value", "std", "n_repeats", "n_train", "metric", "source"]


def clean_performance(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Join tables of records and average their repeats.

    Where two tables measured the same cell by the same protocol, the earlier table counts: one's own measurements come
    before published ones. Of several metrics, sources or revisions of one cell the first by name is taken, never a
    mixture.

    Args:
        tables: Records as the contract describes them, the most trusted first.

    Returns:
        One row per ``model_id, dataset_id, protocol``, sorted: ``value`` (mean over repeats), ``std`` between repeats
        (NaN for a single one), ``n_repeats``, ``n_train``, ``metric``, ``source``. A repeat with seed -1 is a mean
        already.
    """
    joined = [table.assign(_order=place) for place, table in enumerate(tables) if len(table)]
    if not joined:
        types = dict.fromkeys(("value", "std", "n_train"), "float64") | {"n_repeats": "int64"}
        return pd.DataFrame(columns=COLUMNS).astype(types)
    records = pd.concat(joined, ignore_index=True)
    revisions = ["model_revision", "dataset_revision"]
    records = records.reindex(columns=[*dict.fromkeys([*records, *revisions])])
    text = [*KEY, "metric", "source", *revisions]
    records[text] = records[text].astype("string")
    records[revisions] = records[revisions].fillna("")
    valid = records["value"].between(0.0, 1.0)
    if not valid.all():
        logger.warning("%d records without a fraction as their value are left out", int((~valid).sum()))
        records = records[valid]
    groups = ["_order", "metric", "source", *revisions]
    first = records[[*KEY, *groups]].drop_duplicates().sort_values([*KEY, *groups]).drop_duplicates(KEY)
    records = records.merge(first, on=[*KEY, *groups])
    grouped = records.groupby([*KEY, "metric", "source"], sort=True)
    cleaned = grouped.agg(
        value=("value", "mean"), std=("value", "std"), n_repeats=("value", "size"), n_train=("n_train", "mean")
    ).reset_index()
    return cleaned[COLUMNS].astype({"value": "float64", "std": "float64", "n_train": "float64"})


def records_of_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Published cells as records: each a mean already, of unknown numbers of training images.

    Args:
        cells: ``model_id, dataset_id, protocol, metric, value, source``.
    """
    return cells.assign(seed=-1, n_train=float("nan"))[RECORD_COLUMNS]


def overlay_scores(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join tables of transferability scores.

    Args:
        tables: Scores as the contract describes them, the most trusted last.

    Returns:
        One row per ``model_id, dataset_id, method``, from the last table that has it; empty without tables.
    """
    if not tables:
        types = {"value": "float64", "seconds": "float64"}
        return pd.DataFrame(columns=SCORE_COLUMNS).astype(types)
    joined = pd.concat(tables, ignore_index=True)
    return joined.drop_duplicates(["model_id", "dataset_id", "method"], keep="last", ignore_index=True)
