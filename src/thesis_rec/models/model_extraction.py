"""Vectors and spectra of many models: one at a time, each saved before the next is begun, none made twice."""

from __future__ import annotations

import logging
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import Failure, ItemError
from thesis_rec.base.files import readable, sha256_json
from thesis_rec.base.progress import track
from thesis_rec.base.tables import VECTOR_LENGTH
from thesis_rec.models.extractors import extractor_name, open_model
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.models.model_sources import files_signature, locate
from thesis_rec.models.plain_network import left_out
from thesis_rec.models.spectra import NAMES
from thesis_rec.models.weight_vector import vector_and_spectra, weights_hash

logger = logging.getLogger(__name__)

#: To be raised when the same weights give another vector or other spectra than before.
METHOD_VERSION = 2

_SHOWN = 10

#: How the row of a model begins in the failures table that was extracted, but not from all its values.
LEFT_OUT = "Not all of the file was read: "

_NUMBERS = ("n_parameters", "n_tensors", "bytes")

Vector = dict[str, Any]
Outcome = dict[str, Any]


def settings_hash(row: ManifestRow) -> str:
    """Hash of what a model's vector depends on besides its weights."""
    return sha256_json({"version": METHOD_VERSION, "length": VECTOR_LENGTH, "extractor": extractor_name(row)})


def extract_model(
    row: ManifestRow,
    root: Path,
    cache: Path | None = None,
    existing: Callable[[], Vector] | None = None,
    threads: int | None = None,
) -> tuple[Vector | None, Outcome]:
    """The vector of one model and what belongs to it, and what is recorded of the model.

    Args:
        row: The model.
        root: Folder that relative sources refer to.
        cache: Folder of hub downloads; None for the hub library's own.
        existing: Reads the partition of an earlier run.
        threads: Number of tensors that are worked on at a time; the result doesn't depend on it.

    Returns:
        ``parameters`` float32 (8192,), ``spectra`` float32 (P,), ``n_parameters``, ``n_tensors``, ``bytes`` of the
        weight files, ``sha256`` of the weights and ``settings``, a hash too; or None when ``existing`` is of the same
        weights and settings. And the outcome, as of :func:`extract_models`.

    Raises:
        ItemError: If the weights can't be read, or are all zero.
    """
    fingerprint = settings_hash(row)
    reader = open_model(row, root, cache)
    digest = weights_hash(reader, threads)
    numbers = {"n_parameters": reader.n_parameters, "n_tensors": len(reader.tensors), "bytes": reader.n_bytes}
    outcome: Outcome = {
        "error": "", "hint": "", "left_out": left_out(reader), "settings": fingerprint, "sha256": digest, **numbers,
    }  # fmt: skip
    if existing is not None and (before := _matching(existing, digest, fingerprint)):
        return None, outcome | {"spectra": _packed(before["spectra"])}
    vector, spectra = vector_and_spectra(reader, threads=threads)
    if not vector.any():
        raise ItemError(row.model_id, "All its values are zero.", "Was it saved before it was trained? Save it again.")
    outcome["spectra"] = _packed(spectra)
    counts = {name: np.int64(value) for name, value in numbers.items()}
    made = {"parameters": vector, "spectra": spectra, **counts, "sha256": np.str_(digest)}
    return {**made, "settings": np.str_(fingerprint)}, outcome


def extract_models(
    rows: Sequence[ManifestRow],
    root: Path,
    cache: Path | None,
    existing: Mapping[str, Callable[..., Vector]],
    outcomes: Mapping[str, Callable[[], Outcome]] | None = None,
    untouched: Callable[[str], bool] = lambda name: False,
    threads: int | None = None,
) -> Iterator[tuple[dict[str, Vector], dict[str, Outcome]]]:
    """Extract models one by one; a model that fails stops no other.

    A model whose files are those of its last outcome (:func:`~.model_sources.files_signature`) isn't read again.

    Args:
        rows: The models.
        root: Folder that relative sources refer to.
        cache: Folder of hub downloads; None for the hub library's own.
        existing: Vectors of earlier runs.
        outcomes: Outcomes of earlier runs.
        untouched: Whether a model's vector is older than its outcome, so that it is the one of which the outcome tells;
            any other is opened.
        threads: As of :func:`extract_model`.

    Yields:
        New vectors by model (none where the existing one is up to date), and outcomes by model: ``error`` and ``hint``,
        empty after a success, ``left_out`` in words, what tells that it is up to date (``files``, ``settings``,
        ``sha256``), ``spectra`` (float32 in base64), ``n_parameters``, ``n_tensors`` and ``bytes``. Nothing for a model
        that wasn't read again.
    """
    kept = failed = 0
    for row in track(rows, "model extraction"):
        name = row.model_id
        outcome: Outcome = {"error": "", "hint": ""}
        vectors: dict[str, Vector] = {}
        try:
            files = files_signature(locate(row, root, cache, verify=False))
            if outcomes and name in existing and name in outcomes:
                before = readable(outcomes[name]) or {}
                current = (before.get("files"), before.get("settings")) == (files, settings_hash(row))
                if (
                    current
                    and not before["error"]
                    and (untouched(name) or _matching(existing[name], before["sha256"], before["settings"]))
                ):
                    kept += 1
                    continue
            vector, outcome = extract_model(row, root, cache, existing.get(name), threads)
            outcome["files"] = files
        except Exception as error:
            failure = Failure.of(name, error, "This is unexpected: check the file, and report it if it is good.")
            # Without network a whole zoo fails alike; the table has them all.
            level = logging.WARNING if failed < _SHOWN else logging.DEBUG
            logger.log(level, "%s: %s %s", failure.item, failure.error, failure.hint)
            outcome = {"error": failure.error, "hint": failure.hint}
            failed += 1
        else:
            if vector is None:
                kept += 1
            else:
                vectors[name] = vector
        yield vectors, {name: outcome}
    logger.info("Vectors of %d models: %d made, %d kept, %d failed", len(rows), len(rows) - kept - failed, kept, failed)


def outcome_failures(outcomes: Iterable[tuple[str, Outcome]]) -> list[Failure]:
    """The outcomes that are failures, and the models of whose values only a part was used."""
    rows = []
    for name, outcome in outcomes:
        if outcome["error"]:
            rows.append(Failure(name, outcome["error"], outcome["hint"]))
        elif outcome.get("left_out"):
            rows.append(Failure(name, LEFT_OUT + outcome["left_out"], "Its vector is of what was read."))
    return rows


def real_failures(failures: pd.DataFrame) -> pd.DataFrame:
    """The rows of a failures table whose models have no vector, or an outdated one."""
    return failures[~failures["error"].str.startswith(LEFT_OUT)]


def extracted_tables(
    rows: Iterable[ManifestRow],
    vectors: Mapping[str, Callable[..., Vector]],
    outcomes: Mapping[str, Callable[[], Outcome]] | None = None,
) -> tuple[pd.DataFrame, dict[str, NDArray[Any]]]:
    """What is known of each extracted model besides its vector.

    Args:
        rows: The models.
        vectors: Vectors by model.
        outcomes: What became of each; a vector is opened only where they don't know of it.

    Returns:
        A table ``model_id, family, n_parameters, n_tensors, bytes, sha256``; and the spectra: ``spectra`` float32
        (K, P), ``model_ids`` (K,) and ``names`` (P,).
    """
    records, spectra = [], []
    for row in rows:
        name = row.model_id
        if name not in vectors:
            continue
        known = outcomes[name]() if outcomes and name in outcomes else {}
        if "spectra" in known:
            spectra.append(np.frombuffer(b64decode(known["spectra"]), dtype="<f4"))
        else:
            known = vectors[name](*_NUMBERS, "sha256", "spectra")
            spectra.append(known["spectra"])
        numbers = {field: int(known[field]) for field in _NUMBERS}
        records.append({"model_id": name, "family": row.family, **numbers, "sha256": str(known["sha256"])})
    metadata = pd.DataFrame(records, columns=["model_id", "family", *_NUMBERS, "sha256"]).astype(
        {"model_id": "string", "family": "string", "sha256": "string"} | dict.fromkeys(_NUMBERS, "int64")
    )
    table = np.stack(spectra) if spectra else np.zeros((0, len(NAMES)), np.float32)
    return metadata, {"spectra": table, "model_ids": metadata["model_id"].to_numpy(str), "names": np.array(NAMES)}


def _matching(existing: Callable[..., Vector], digest: str, fingerprint: str) -> Vector | None:
    """The existing vector's spectra and hashes, if it is of these weights and settings."""
    found = readable(existing, "sha256", "settings", "spectra")
    if found is None or "spectra" not in found:
        return None
    return found if (str(found.get("sha256")), str(found.get("settings"))) == (digest, fingerprint) else None


def _packed(spectra: NDArray[np.float32]) -> str:
    return b64encode(np.asarray(spectra, dtype="<f4").tobytes()).decode()
