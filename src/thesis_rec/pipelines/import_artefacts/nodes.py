"""Nodes of the pipeline import_artefacts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_rec.errors import ConfigurationError, Failure, ItemError, check_failures, failures_frame
from thesis_rec.pipelines.import_artefacts.parameters import ImportArtefactsParameters
from thesis_rec.ranking import imports


def import_records(parameters: ImportArtefactsParameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Performance records of every named file, and the files that couldn't be read.

    Raises:
        ConfigurationError: If no file or folder is named at all.
    """
    jobs: list[tuple[str, Callable[[], pd.DataFrame]]] = []
    performance, similarity = parameters.thesis_performance, parameters.thesis_similarity
    if performance:
        jobs.append((performance, partial(imports.import_thesis_performance, Path(performance))))
        if similarity:
            jobs.append((similarity, partial(_proxy, Path(performance), Path(similarity))))
    if parameters.transfergraph:
        jobs.append((parameters.transfergraph, partial(imports.import_transfergraph, Path(parameters.transfergraph))))
    jobs += [(name, partial(imports.import_timm_results, Path(name))) for name in parameters.timm_results]
    jobs += [(name, partial(imports.import_wide_csv, Path(name), parameters.unit)) for name in parameters.wide_tables]
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
    empty = pd.DataFrame({column: pd.Series(dtype="string") for column in imports.RECORD_COLUMNS})
    empty = empty.astype({"value": "float64", "seed": "int64", "n_train": "float64"})
    return pd.concat(tables, ignore_index=True) if tables else empty, failures_frame(failures, key="item")


def _proxy(performance: Path, similarity: Path) -> pd.DataFrame:
    return imports.proxy_performance(
        imports.import_thesis_performance(performance), imports.read_similarity(similarity)
    )


def import_feature_arrays(
    parameters: ImportArtefactsParameters,
) -> tuple[dict[str, Any], pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """Vectors, embeddings and token shards of the folder of NPZ files, and what couldn't be read."""
    nothing = pd.DataFrame({"model_id": pd.Series(dtype="string"), "e000": pd.Series(dtype="float32")})
    if not parameters.arrays:
        return {}, nothing, {}, failures_frame([], key="item")
    try:
        vectors, embeddings, shards = imports.import_arrays(Path(parameters.arrays))
    except ItemError as error:
        return {}, nothing, {}, failures_frame([Failure.of(parameters.arrays, error)], key="item")
    return vectors, embeddings, shards, failures_frame([], key="item")


def check_imports(
    imported_records: pd.DataFrame,
    imported_embeddings: pd.DataFrame,
    record_failures: pd.DataFrame,
    array_failures: pd.DataFrame,
    parameters: ImportArtefactsParameters,
) -> pd.DataFrame:
    """The joined failures table.

    Raises:
        NothingSucceeded: If nothing could be imported, or anything failed where the run is strict.
    """
    failures = pd.concat([record_failures, array_failures], ignore_index=True)
    arrays = int(bool(parameters.arrays) and array_failures.empty)
    succeeded = arrays + imported_records["source"].nunique() + len(imported_embeddings)
    check_failures(failures, succeeded, parameters.strict, "imports")
    return failures
