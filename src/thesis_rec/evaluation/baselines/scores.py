"""Transferability scores, read from the table in which they were measured, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from thesis_rec.evaluation.baselines.base import Floats


def score_matrix(
    scores: pd.DataFrame, method: str, model_ids: Sequence[str], dataset_ids: Sequence[str], column: str = "value"
) -> Floats:
    """(M, N) figures of one method, NaN where none was measured.

    Args:
        scores: Table of transferability scores: ``model_id, dataset_id, method, value, seconds``.
        method: Which one.
        model_ids: M models.
        dataset_ids: N datasets.
        column: ``value``, or ``seconds`` for the cost.
    """
    rows = scores[scores["method"] == method]
    model = pd.Index(model_ids).get_indexer(pd.Index(rows["model_id"].astype(str)))
    dataset = pd.Index(dataset_ids).get_indexer(pd.Index(rows["dataset_id"].astype(str)))
    keep = (model >= 0) & (dataset >= 0)
    matrix = np.full((len(model_ids), len(dataset_ids)), np.nan)
    matrix[model[keep], dataset[keep]] = rows[column].to_numpy(dtype=np.float64, na_value=np.nan)[keep]
    return matrix


def seconds_per_dataset(
    scores: pd.DataFrame, method: str, model_ids: Sequence[str], dataset_ids: Sequence[str]
) -> float:
    """Mean over datasets of the seconds that scoring all candidates took; NaN where no cost was recorded."""
    seconds = score_matrix(scores, method, model_ids, dataset_ids, "seconds")
    present = np.isfinite(seconds)
    measured = present.any(axis=0)
    if not measured.any():
        return float("nan")
    return float(np.where(present, seconds, 0.0).sum(axis=0)[measured].mean())
