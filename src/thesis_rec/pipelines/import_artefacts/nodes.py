"""Nodes of the pipeline import_artefacts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_rec.base.errors import ConfigurationError, Failure, ItemError, check_failures, failures_frame
from thesis_rec.pipelines.import_artefacts.parameters import ImportArtefactsParameters
from thesis_rec.thesis import performance_imports, thesis_artefacts


@contextmanager
def _noted(failures: list[Failure], item: str) -> Iterator[None]:
    """What can't be imported becomes a row of the failures; the rest goes on."""
    try:
        yield
    except ItemError as error:
        failures.append(Failure.of(item, error))


def import_records(parameters: ImportArtefactsParameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Performance records of every named file, and the files that couldn't be read.

    Raises:
        ConfigurationError: If no file or folder is named at all.
    """
    read_wide = partial(performance_imports.import_wide_csv, unit=parameters.unit)
    read_thesis = partial(performance_imports.import_thesis_performance, unit=parameters.unit)
    readers: list[tuple[tuple[str, ...], Callable[[Path], pd.DataFrame]]] = [
        (parameters.thesis_performance, read_thesis),
        (parameters.transfergraph, performance_imports.import_transfergraph),
        (parameters.timm_results, performance_imports.import_timm_results),
        (parameters.wide_tables, read_wide),
    ]
    jobs = [(name, partial(read, Path(name))) for names, read in readers for name in names]
    similar = zip(parameters.thesis_performance, parameters.thesis_similarity, strict=False)
    jobs += [(similarity, partial(_proxy, read_thesis, Path(name), Path(similarity))) for name, similarity in similar]
    if not jobs and not parameters.arrays:
        example = "--params=import_artefacts.transfergraph=records.csv"
        raise ConfigurationError(f"nothing to import: name a file or folder, e.g. {example}")
    tables: list[pd.DataFrame] = []
    failures: list[Failure] = []
    for name, job in jobs:
        with _noted(failures, name):
            tables.append(job())
    empty = pd.DataFrame({column: pd.Series(dtype="string") for column in performance_imports.RECORD_COLUMNS})
    empty = empty.astype({"value": "float64", "seed": "int64", "n_train": "float64"})
    return pd.concat(tables, ignore_index=True) if tables else empty, failures_frame(failures, key="item")


def _proxy(read: Callable[[Path], pd.DataFrame], performance: Path, similarity: Path) -> pd.DataFrame:
    return performance_imports.proxy_performance(read(performance), performance_imports.read_similarity(similarity))


def import_feature_arrays(
    parameters: ImportArtefactsParameters,
) -> tuple[dict[str, Any], pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """Vectors, embeddings and token shards of the folders of NPZ files, and what couldn't be read.

    Where two folders know the same model or dataset, the first counts.
    """
    nothing = pd.DataFrame({"model_id": pd.Series(dtype="string"), "e000": pd.Series(dtype="float32")})
    vectors: dict[str, Any] = {}
    shards: dict[str, Any] = {}
    tables: list[pd.DataFrame] = []
    failures: list[Failure] = []
    for folder in parameters.arrays:
        with _noted(failures, folder):
            more, embeddings, tokens = thesis_artefacts.import_arrays(Path(folder))
            if tables and len(embeddings) and set(embeddings) != set(tables[0]):
                text = f"its embeddings have {embeddings.shape[1] - 1} numbers, earlier ones {tables[0].shape[1] - 1}."
                raise ItemError(folder, text, "Import embeddings of different spaces into folders of their own.")
            known = {key.rsplit("/", 1)[0] for key in shards}
            shards |= {key: shard for key, shard in tokens.items() if key.rsplit("/", 1)[0] not in known}
            vectors = {**more, **vectors}
            tables += [embeddings] if len(embeddings) else []
    found = pd.concat(tables, ignore_index=True).drop_duplicates("model_id", ignore_index=True) if tables else nothing
    return vectors, found, shards, failures_frame(failures, key="item")


def import_networks(
    imported_vectors: dict[str, Callable[[], Any]],
    array_embeddings: pd.DataFrame,
    imported_tokens: dict[str, Callable[[], Any]],
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
        with _noted(failures, parameters.thesis_autoencoder):
            raw = {name: read() if callable(read) else read for name, read in imported_vectors.items()}
            file, activation = Path(parameters.thesis_autoencoder), parameters.thesis_activation
            checkpoint = thesis_artefacts.import_autoencoder(file, raw, activation, parameters.thesis_normalised)
            array_embeddings = thesis_artefacts.with_embedded(array_embeddings, raw, checkpoint)
    if parameters.thesis_transformer:
        with _noted(failures, parameters.thesis_transformer):
            shards = {key: read() if callable(read) else read for key, read in imported_tokens.items()}
            file = Path(parameters.thesis_transformer)
            scores = thesis_artefacts.import_transformer(file, array_embeddings, shards, parameters.thesis_heads)
    return checkpoint or {"config": {}}, array_embeddings, scores, failures_frame(failures, key="item")


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
    arrays = len(parameters.arrays) - len(array_failures)
    succeeded = arrays + imported_records["source"].nunique() + len(imported_embeddings)
    check_failures(failures, succeeded, parameters.strict, "imports")
    return failures
