"""Nodes of the pipeline import_artefacts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_rec.base.errors import ConfigurationError, Failure, ItemError, check_failures, failures_frame
from thesis_rec.pipelines.import_artefacts.parameters import ImportArtefactsParameters
from thesis_rec.thesis import performance_imports, thesis_arrays, thesis_networks, thesis_tables


def import_records(parameters: ImportArtefactsParameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Performance records of every named file, and the files that couldn't be read.

    Raises:
        ConfigurationError: If no file or folder is named at all.
    """
    jobs: list[tuple[str, Callable[[], pd.DataFrame]]] = []
    performance, similarity = parameters.thesis_performance, parameters.thesis_similarity
    if performance:
        jobs.append((performance, partial(thesis_tables.import_thesis_performance, Path(performance))))
        if similarity:
            jobs.append((similarity, partial(_proxy, Path(performance), Path(similarity))))
    if parameters.transfergraph:
        jobs.append(
            (
                parameters.transfergraph,
                partial(performance_imports.import_transfergraph, Path(parameters.transfergraph)),
            )
        )
    jobs += [(name, partial(performance_imports.import_timm_results, Path(name))) for name in parameters.timm_results]
    jobs += [
        (name, partial(performance_imports.import_wide_csv, Path(name), parameters.unit))
        for name in parameters.wide_tables
    ]
    if not jobs and not parameters.arrays:
        raise ConfigurationError(
            "nothing to import: name a file or folder, e.g. --params=import_artefacts.transfergraph=records.csv"
        )
    tables, failures = [], []
    for name, job in jobs:
        try:
            tables.append(job())
        except ItemError as error:
            failures.append(Failure.of(name, error))
    empty = pd.DataFrame({column: pd.Series(dtype="string") for column in performance_imports.RECORD_COLUMNS})
    empty = empty.astype({"value": "float64", "seed": "int64", "n_train": "float64"})
    return pd.concat(tables, ignore_index=True) if tables else empty, failures_frame(failures, key="item")


def _proxy(performance: Path, similarity: Path) -> pd.DataFrame:
    return thesis_tables.proxy_performance(
        thesis_tables.import_thesis_performance(performance), thesis_tables.read_similarity(similarity)
    )


def import_feature_arrays(
    parameters: ImportArtefactsParameters,
) -> tuple[dict[str, Any], pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """Vectors, embeddings and token shards of the folder of NPZ files, and what couldn't be read."""
    nothing = pd.DataFrame({"model_id": pd.Series(dtype="string"), "e000": pd.Series(dtype="float32")})
    if not parameters.arrays:
        return {}, nothing, {}, failures_frame([], key="item")
    try:
        vectors, embeddings, shards = thesis_arrays.import_arrays(Path(parameters.arrays))
    except ItemError as error:
        return {}, nothing, {}, failures_frame([Failure.of(parameters.arrays, error)], key="item")
    return vectors, embeddings, shards, failures_frame([], key="item")


def import_networks(
    vectors: dict[str, Callable[[], Any]],
    embeddings: pd.DataFrame,
    tokens: dict[str, Callable[[], Any]],
    parameters: ImportArtefactsParameters,
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Trained networks of the thesis code, and what they say of the imported arrays.

    Returns:
        The autoencoder's checkpoint (empty without one); all embeddings, those that it makes of vectors included; the
        transformer's scores (none without one); and what couldn't be read.
    """
    failures: list[Failure] = []
    checkpoint: dict[str, Any] = {}
    scores = pd.DataFrame({name: pd.Series(dtype="string") for name in ("dataset_id", "model_id", "source")})
    scores = scores.assign(score=pd.Series(dtype="float64"), rank=pd.Series(dtype="int64"))
    if parameters.thesis_autoencoder:
        try:
            raw = {name: read() if callable(read) else read for name, read in vectors.items()}
            checkpoint = thesis_networks.import_autoencoder(
                Path(parameters.thesis_autoencoder), raw, parameters.thesis_activation, parameters.thesis_normalised
            )
            embeddings = thesis_networks.with_embedded(embeddings, raw, checkpoint)
        except ItemError as error:
            failures.append(Failure.of(parameters.thesis_autoencoder, error))
    if parameters.thesis_transformer:
        try:
            shards = {key: read() if callable(read) else read for key, read in tokens.items()}
            scores = thesis_networks.import_transformer(
                Path(parameters.thesis_transformer), embeddings, shards, parameters.thesis_heads
            )
        except ItemError as error:
            failures.append(Failure.of(parameters.thesis_transformer, error))
    return checkpoint or {"config": {}}, embeddings, scores, failures_frame(failures, key="item")


def check_imports(
    imported_records: pd.DataFrame,
    imported_embeddings: pd.DataFrame,
    record_failures: pd.DataFrame,
    array_failures: pd.DataFrame,
    network_failures: pd.DataFrame,
    parameters: ImportArtefactsParameters,
) -> pd.DataFrame:
    """The joined failures table.

    Raises:
        NothingSucceeded: If nothing could be imported, or anything failed where the run is strict.
    """
    failures = pd.concat([record_failures, array_failures, network_failures], ignore_index=True)
    arrays = int(bool(parameters.arrays) and array_failures.empty)
    succeeded = arrays + imported_records["source"].nunique() + len(imported_embeddings)
    check_failures(failures, succeeded, parameters.strict, "imports")
    return failures
