"""The table of models that a ranker reads, joined from the manifest, embeddings and measured responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.thesis.ranking_data import ModelTable
from thesis_rec.truth.responses import ON_SUBTASK

Floats = NDArray[np.float32]


def model_table(
    embeddings: pd.DataFrame,
    manifest: pd.DataFrame,
    n_parameters: Mapping[str, float],
    responses: Mapping[str, NDArray[Any]] | None = None,
) -> ModelTable:
    """The models that are in both the manifest and the embeddings, in the manifest's order.

    Args:
        embeddings: ``model_id`` and the columns of the code.
        manifest: The model manifest.
        n_parameters: Number of weights by model; 0 where unknown.
        responses: ``responses`` (K, R), ``model_ids`` (K,) and ``names`` (R,), if measured; a model without them gets
            NaN.
    """
    row_of = {str(model): i for i, model in enumerate(embeddings["model_id"])}
    listed = manifest.drop_duplicates("model_id")
    listed = listed[listed["model_id"].astype(str).isin(row_of)]
    ids = listed["model_id"].astype(str).tolist()
    matrix = embeddings.drop(columns="model_id").to_numpy(dtype=np.float32)
    families = listed["family"].astype(str).tolist() if "family" in listed else [""] * len(ids)
    counts = np.array([float(n_parameters.get(model, 0.0)) for model in ids])
    table = ModelTable(ids, matrix[[row_of[model] for model in ids]], families, counts)
    return with_responses(table, responses)


def with_responses(models: ModelTable, responses: Mapping[str, NDArray[Any]] | None) -> ModelTable:
    """The models with what was measured of them on the reference bank; a model without keeps what it has, or gets NaN.

    Args:
        models: M models.
        responses: ``responses`` (K, R), ``model_ids`` (K,) and ``names`` (R,), or None.
    """
    if responses is None or not len(responses["responses"]):
        return models
    given = np.asarray(responses["responses"], dtype=np.float32)
    names = [str(name) for name in responses["names"]] if "names" in responses else []
    probes = [column for column, name in enumerate(names) if name.endswith("/linear_probe")]
    mixed = np.array([name.endswith(ON_SUBTASK) for name in names] or [False] * given.shape[1], dtype=bool)
    place = {str(model): i for i, model in enumerate(responses["model_ids"])}
    rows = [i for i, model in enumerate(models.model_ids) if model in place]
    found = given[[place[models.model_ids[i]] for i in rows]]

    def filled(table: NDArray[np.floating] | None, values: Floats) -> NDArray[np.floating] | None:
        if not values.shape[1]:
            return table
        fits = table is not None and table.shape[1] == values.shape[1]
        out = np.array(table) if fits else np.full((len(models), values.shape[1]), np.nan, dtype=np.float32)
        out[rows] = values
        return out

    return replace(
        models,
        responses=filled(models.responses, found[:, ~mixed]),
        reference=filled(models.reference, found[:, probes]),
        subtasks=filled(models.subtasks, found[:, mixed]),
    )


def add_models(
    models: ModelTable,
    manifest: pd.DataFrame,
    vectors: Mapping[str, Callable[[], Mapping[str, Any]]],
    embed: Callable[[Floats], Floats],
) -> tuple[ModelTable, list[str]]:
    """Embed manifest models that have a parameter vector but no embedding yet: no training is needed for them.

    Args:
        models: The models that have an embedding.
        manifest: The model manifest.
        vectors: Partitions of ``model_vectors``.
        embed: (K, 8192) vectors to (K, E) embeddings, the autoencoder's encoder half.

    Returns:
        All models, and the ids of the new ones.
    """
    known = set(models.model_ids)
    rows = manifest.drop_duplicates("model_id")
    rows = rows[[model in vectors and model not in known for model in rows["model_id"].astype(str)]]
    new = rows["model_id"].astype(str).tolist()
    if not new:
        return models, []
    read = [vectors[model]() for model in new]
    embedding = embed(np.stack([np.asarray(item["parameters"], dtype=np.float32) for item in read]))
    joined = ModelTable(
        [*models.model_ids, *new],
        np.concatenate([models.embedding, embedding.astype(np.float32)]),
        [*models.families, *(rows["family"].astype(str) if "family" in rows else [""] * len(new))],
        np.concatenate([models.n_parameters, [float(item["n_parameters"]) for item in read]]),
        _with_missing_rows(models.responses, len(new)),
        _with_missing_rows(models.reference, len(new)),
        _with_missing_rows(models.subtasks, len(new)),
    )
    return joined, new


def _with_missing_rows(table: NDArray[np.floating] | None, count: int) -> NDArray[np.floating] | None:
    """``table`` and ``count`` rows of NaN below it."""
    if table is None:
        return None
    return np.concatenate([table, np.full((count, table.shape[1]), np.nan, dtype=np.float32)])
