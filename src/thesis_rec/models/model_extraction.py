"""Vectors and spectra of many models: one at a time, each saved before the next is begun, none made twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import Failure
from thesis_rec.base.files import sha256_json
from thesis_rec.base.progress import track
from thesis_rec.models.extractors import extractor_name, open_model
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.models.spectra import NAMES
from thesis_rec.models.weight_vector import VECTOR_LENGTH, vector_and_spectra
from thesis_rec.models.weights_hashing import weights_hash

logger = logging.getLogger(__name__)

#: To be raised when the same weights give another vector or other spectra than before.
METHOD_VERSION = 2

_SHOWN = 10

Vector = dict[str, Any]
Outcome = dict[str, str]


@dataclass(frozen=True)
class ExtractionSettings:
    """What a vector depends on besides the weights.

    Attributes:
        length: Length of the vector.
        threads: Number of tensors that are worked on at a time; the result doesn't depend on it.
    """

    length: int = VECTOR_LENGTH
    threads: int | None = None

    def fingerprint(self, row: ManifestRow) -> str:
        """Hash of the settings as they apply to one model."""
        return sha256_json({"version": METHOD_VERSION, "length": self.length, "extractor": extractor_name(row)})


def extract_model(
    row: ManifestRow,
    root: Path,
    cache: Path | None = None,
    settings: ExtractionSettings | None = None,
    existing: Callable[[], Vector] | None = None,
) -> Vector | None:
    """The vector of one model and what belongs to it, or None when ``existing`` is of the same weights and settings.

    Args:
        row: The model.
        root: Folder that relative sources refer to.
        cache: Folder of hub downloads; None for the hub library's own.
        settings: How it is made.
        existing: Reads the partition of an earlier run.

    Returns:
        ``parameters`` float32 (length,), ``spectra`` float32 (P,), ``n_parameters``, ``n_tensors``, ``bytes`` of the
        weight files, ``sha256`` of the weights and ``settings``, a hash too.

    Raises:
        ItemError: If the weights can't be read.
    """
    settings = settings or ExtractionSettings()
    fingerprint = settings.fingerprint(row)
    reader = open_model(row, root, cache)
    digest = weights_hash(reader, settings.threads)
    if existing is not None and _matches(existing, digest, fingerprint):
        return None
    vector, spectra = vector_and_spectra(reader, settings.length, settings.threads)
    return {
        "parameters": vector,
        "spectra": spectra,
        "n_parameters": np.int64(reader.n_parameters),
        "n_tensors": np.int64(len(reader.tensors)),
        "bytes": np.int64(reader.n_bytes),
        "sha256": np.str_(digest),
        "settings": np.str_(fingerprint),
    }


def extract_models(
    rows: Sequence[ManifestRow],
    root: Path,
    cache: Path | None,
    settings: ExtractionSettings,
    existing: Mapping[str, Callable[[], Vector]],
) -> Iterator[tuple[dict[str, Vector], dict[str, Outcome]]]:
    """Extract models one by one; a model that fails stops no other.

    Yields:
        New vectors by model (none where the existing one is up to date), and outcomes by model: ``error`` and ``hint``,
        empty after a success.
    """
    kept = failed = 0
    for row in track(rows, "model extraction"):
        outcome: Outcome = {"error": "", "hint": ""}
        vectors: dict[str, Vector] = {}
        try:
            vector = extract_model(row, root, cache, settings, existing.get(row.model_id))
        except Exception as error:
            failure = Failure.of(
                row.model_id, error, "This is unexpected: check the file, and report it if it is good."
            )
            # Without network a whole zoo fails alike; the table has them all.
            level = logging.WARNING if failed < _SHOWN else logging.DEBUG
            logger.log(level, "%s: %s %s", failure.item, failure.error, failure.hint)
            outcome = {"error": failure.error, "hint": failure.hint}
            failed += 1
        else:
            if vector is None:
                kept += 1
            else:
                vectors[row.model_id] = vector
        yield vectors, {row.model_id: outcome}
    logger.info("Vectors of %d models: %d made, %d kept, %d failed", len(rows), len(rows) - kept - failed, kept, failed)


def outcome_failures(outcomes: Iterable[tuple[str, Outcome]]) -> list[Failure]:
    """The outcomes that are failures."""
    return [Failure(name, outcome["error"], outcome["hint"]) for name, outcome in outcomes if outcome["error"]]


def metadata_table(rows: Iterable[ManifestRow], vectors: Mapping[str, Callable[[], Vector]]) -> pd.DataFrame:
    """One row per extracted model: ``model_id, family, n_parameters, n_tensors, bytes, sha256``."""
    records = []
    for row in rows:
        if row.model_id not in vectors:
            continue
        vector = vectors[row.model_id]()
        numbers = {name: int(vector[name]) for name in ("n_parameters", "n_tensors", "bytes")}
        records.append({"model_id": row.model_id, "family": row.family, **numbers, "sha256": str(vector["sha256"])})
    columns = ["model_id", "family", "n_parameters", "n_tensors", "bytes", "sha256"]
    return pd.DataFrame(records, columns=columns).astype(
        {"model_id": "string", "family": "string", "sha256": "string"}
        | dict.fromkeys(("n_parameters", "n_tensors", "bytes"), "int64")
    )


def spectra_table(rows: Iterable[ManifestRow], vectors: Mapping[str, Callable[[], Vector]]) -> dict[str, NDArray[Any]]:
    """The spectra of the extracted models: ``spectra`` float32 (K, P), ``model_ids`` (K,) and ``names`` (P,)."""
    ids = [row.model_id for row in rows if row.model_id in vectors]
    spectra = [vectors[model]()["spectra"] for model in ids]
    table = np.stack(spectra) if spectra else np.zeros((0, len(NAMES)), np.float32)
    return {"spectra": table, "model_ids": np.array(ids, dtype=str), "names": np.array(NAMES)}


def _matches(existing: Callable[[], Vector], digest: str, fingerprint: str) -> bool:
    try:
        vector = existing()
    except Exception as error:
        # Whatever is wrong with an old partition, the remedy is to make it again.
        logger.info("An existing vector can't be read (%s) and is made again", error)
        return False
    return str(vector.get("sha256")) == digest and str(vector.get("settings")) == fingerprint
