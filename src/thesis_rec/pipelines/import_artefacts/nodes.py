"""Nodes of the pipeline import_artefacts."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
from pydantic import Field, model_validator

from thesis_rec.base.errors import ConfigurationError, Failure, ItemError, check_failures, failures_frame
from thesis_rec.base.settings import Paths, Settings
from thesis_rec.thesis import performance_imports, thesis_artefacts

Arrays = dict[str, dict[str, Any]]


class ImportArtefactsParameters(Settings):
    """What ``conf/base/parameters/import_artefacts.yml`` holds; each knob is explained there."""

    arrays: Paths = ()
    thesis_performance: Paths = ()
    thesis_similarity: Paths = ()
    thesis_autoencoder: str | None = None
    thesis_activation: Literal["gelu", "relu", "leaky_relu"] = "relu"
    thesis_normalised: bool = True
    thesis_transformer: str | None = None
    thesis_heads: int = Field(default=8, ge=1)
    transfergraph: Paths = ()
    timm_results: Paths = ()
    wide_tables: Paths = ()
    unit: Literal["auto", "fraction", "percent"] = "auto"
    strict: bool = False

    @model_validator(mode="after")
    def _similarities_belong_to_performance(self) -> Self:
        given, needed = len(self.thesis_similarity), len(self.thesis_performance)
        if given not in (0, needed):
            raise ValueError(f"thesis_similarity names {given} files, thesis_performance {needed}: give one for each")
        return self

    @property
    def named(self) -> list[str]:
        """The files and folders to import."""
        files = self.thesis_performance + self.thesis_similarity + self.transfergraph + self.timm_results
        networks = filter(None, (self.thesis_autoencoder, self.thesis_transformer))
        return [*files, *self.wide_tables, *self.arrays, *networks]


def import_artefacts(
    parameters: ImportArtefactsParameters,
) -> tuple[pd.DataFrame, Arrays, pd.DataFrame, Arrays, dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """All that is named; what can't be imported becomes a row of the failures, and the rest goes on.

    Returns:
        Performance records; vectors; embeddings, those that an imported autoencoder makes of vectors included; token
        shards; the autoencoder's checkpoint (without network where none was named); the transformer's scores; failures.

    Raises:
        ConfigurationError: If nothing is named at all.
    """
    if not parameters.named:
        example = "--params=import_artefacts.transfergraph=records.csv"
        raise ConfigurationError(f"nothing to import: name a file or folder, e.g. {example}")
    failures: list[Failure] = []
    records = _records(parameters, failures)
    vectors, embeddings, shards = _arrays(parameters, failures)
    checkpoint: dict[str, Any] = {"config": {}}
    scores = pd.DataFrame({name: pd.Series(dtype="string") for name in ("dataset_id", "model_id", "source")})
    scores = scores.assign(score=pd.Series(dtype="float64"), rank=pd.Series(dtype="int64"))
    if file := parameters.thesis_autoencoder:
        with _noted(failures, file):
            settings = parameters.thesis_activation, parameters.thesis_normalised
            checkpoint = thesis_artefacts.import_autoencoder(Path(file), vectors, *settings)
            embeddings = thesis_artefacts.with_embedded(embeddings, vectors, checkpoint)
    if file := parameters.thesis_transformer:
        with _noted(failures, file):
            scores = thesis_artefacts.import_transformer(Path(file), embeddings, shards, parameters.thesis_heads)
    return records, vectors, embeddings, shards, checkpoint, scores, failures_frame(failures, key="item")


def check_imports(import_failures: pd.DataFrame, parameters: ImportArtefactsParameters) -> None:
    """Stop if nothing could be imported, or anything failed and ``strict`` is set.

    Raises:
        NothingSucceeded: With the first failures.
    """
    check_failures(import_failures, len(parameters.named) - len(import_failures), parameters.strict, "imports")


@contextmanager
def _noted(failures: list[Failure], item: str) -> Iterator[None]:
    try:
        yield
    except ItemError as error:
        failures.append(Failure.of(item, error))


def _records(parameters: ImportArtefactsParameters, failures: list[Failure]) -> pd.DataFrame:
    """Performance records of every named file."""
    read_thesis = partial(performance_imports.import_thesis_performance, unit=parameters.unit)
    readers = (
        (read_thesis, parameters.thesis_performance),
        (performance_imports.import_transfergraph, parameters.transfergraph),
        (performance_imports.import_timm_results, parameters.timm_results),
        (partial(performance_imports.import_wide_csv, unit=parameters.unit), parameters.wide_tables),
    )
    empty = pd.DataFrame({column: pd.Series(dtype="string") for column in performance_imports.RECORD_COLUMNS})
    tables = [empty.astype({"value": "float64", "seed": "int64", "n_train": "float64"})]
    for read, names in readers:
        for name in names:
            with _noted(failures, name):
                tables.append(read(Path(name)))
    for name, performance in zip(parameters.thesis_similarity, parameters.thesis_performance, strict=False):
        with _noted(failures, name):
            similarity = performance_imports.read_similarity(Path(name))
            tables.append(performance_imports.proxy_performance(read_thesis(Path(performance)), similarity))
    return pd.concat(tables, ignore_index=True)


def _arrays(parameters: ImportArtefactsParameters, failures: list[Failure]) -> tuple[Arrays, pd.DataFrame, Arrays]:
    """Vectors, embeddings and token shards of the folders of NPZ files.

    Where two folders know the same model or dataset, the first counts.
    """
    vectors, shards = Arrays(), Arrays()
    found = pd.DataFrame({"model_id": pd.Series(dtype="string"), "e000": pd.Series(dtype="float32")})
    for folder in parameters.arrays:
        with _noted(failures, folder):
            more, embeddings, tokens = thesis_artefacts.import_arrays(Path(folder))
            if len(found) and len(embeddings) and set(embeddings) != set(found):
                text = f"its embeddings have {embeddings.shape[1] - 1} numbers, earlier ones {found.shape[1] - 1}."
                raise ItemError(folder, text, "Import embeddings of different spaces into folders of their own.")
            known = {key.rsplit("/", 1)[0] for key in shards}
            shards |= {key: shard for key, shard in tokens.items() if key.rsplit("/", 1)[0] not in known}
            vectors = more | vectors
            if len(embeddings):
                found = pd.concat([found, embeddings]) if len(found) else embeddings
    return vectors, found.drop_duplicates("model_id", ignore_index=True), shards
