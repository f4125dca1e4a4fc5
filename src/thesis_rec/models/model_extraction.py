"""A checkpoint as one vector, with its spectra and its hash; and those of many models.

A vector has centroids of the tensors' values, last layers first. Models are read one at a time, each saved before the
next is begun, none made twice.

How the weights of a model are found is told by one function per kind of source, looked up by the manifest's
``extractor``. To add a kind, write a function of a row, the zoo's root folder and the folder of hub downloads that
returns a :class:`~thesis_rec.models.checkpoint_reader.StateReader`, and enter it in :data:`EXTRACTORS` under the value
that the manifest will name::

    def my_kind(row: ManifestRow, root: Path, cache: Path | None) -> StateReader:
        return open_network(locate(row, root, cache), row.model_id).select(lambda name: "extra" not in name)

Nothing else is needed: readers stream, so memory stays bounded by the largest tensor.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.devices import processors
from thesis_rec.base.errors import ItemError, explained, listed
from thesis_rec.base.files import readable, sha256_json
from thesis_rec.base.resuming import Outcome, Stored, work_on
from thesis_rec.base.tables import VECTOR_LENGTH
from thesis_rec.models.checkpoint_reader import StateReader, TensorInfo, left_out, open_network
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.models.model_sources import files_signature, locate
from thesis_rec.models.spectra import NAMES, Floats, describe, tensor_numbers
from thesis_rec.models.weight_files import find_weights

Extractor = Callable[[ManifestRow, Path, Path | None], StateReader]

#: What an empty ``extractor`` column means, by loader; ``huggingface`` for any other.
USUAL = {"timm": "timm", "open_clip": "open_clip", "detector_pack": "detector_pack", "local": "state_dict"}


def extractor_name(row: ManifestRow) -> str:
    """The extractor that a row names, or its loader's usual one."""
    return row.extractor or USUAL.get(row.loader, "huggingface")


def open_model(row: ManifestRow, root: Path, cache: Path | None = None) -> StateReader:
    """Reader of a model's weights.

    Args:
        row: The model.
        root: Folder that relative sources refer to.
        cache: Folder of hub downloads; None for the hub library's own.

    Raises:
        ItemError: If the extractor is unknown, or the weights are absent, damaged, unsafe or can't be downloaded.
    """
    name = extractor_name(row)
    if name not in EXTRACTORS:
        known = ", ".join(sorted(EXTRACTORS))
        raise ItemError(row.model_id, f"The extractor {name!r} is unknown.", f"Choose one of {known}.")
    return EXTRACTORS[name](row, root, cache)


def huggingface(row: ManifestRow, root: Path, cache: Path | None) -> StateReader:
    """All tensors of a model: one safetensors or PyTorch file, or shards with an index, as in the layout of the hub.

    Of several formats in a folder that counts which the row's loader builds the network from.

    A state dict may be bare or lie within a training checkpoint, and a file may hold several networks, as the ``.pt``
    packs of out-of-distribution detectors do; the manifest's column ``member`` says which one is meant.

    Raises:
        ItemError: If the file has several networks and ``member`` names none of them.
    """
    return open_network(locate(row, root, cache), row.model_id, prefer=row.loader, member=row.member)


def siglip(row: ManifestRow, root: Path, cache: Path | None) -> StateReader:
    """The image half of a SigLIP or CLIP model of transformers; the text half says nothing about images."""
    reader = huggingface(row, root, cache)
    return reader.select(lambda name: not name.startswith(("text_model.", "text_projection", "logit_")))


def open_clip(row: ManifestRow, root: Path, cache: Path | None) -> StateReader:
    """The image half (``visual.``) of an open_clip model."""
    return huggingface(row, root, cache).select(lambda name: name.startswith("visual."))


def safetensors(row: ManifestRow, root: Path, cache: Path | None) -> StateReader:
    """A plain safetensors file or index; for zoos that allow no other format.

    Raises:
        ItemError: If the weights are in another format.
    """
    file = find_weights(locate(row, root, cache), row.model_id)
    if ".safetensors" not in file.suffixes:
        raise ItemError(row.model_id, f"{file.name} is no safetensors file.", "Choose the extractor state_dict.")
    return open_network(file, row.model_id, member=row.member)


#: Extractors by the manifest's ``extractor`` column.
EXTRACTORS: dict[str, Extractor] = {
    **dict.fromkeys(("huggingface", "timm", "state_dict", "detector_pack"), huggingface),
    "siglip": siglip,
    "open_clip": open_clip,
    "safetensors": safetensors,
}


def vector_and_spectra(
    reader: StateReader, length: int = VECTOR_LENGTH, threads: int | None = None
) -> tuple[Floats, Floats]:
    """Summarise a checkpoint of T tensors by ``length // T`` k-means centroids of each, and describe it.

    The centroids of a tensor stand in descending order, tensors from the last layer to the first; a tensor with fewer
    values gives them all, and what remains of the vector is zero. Of more than ``length`` tensors the last ``length``
    are used, with one centroid (their mean) each.

    Memory: at most ``threads`` tensors are held at a time, and those that lie in a file as float32 aren't copied. Every
    tensor is read once.

    Args:
        reader: The checkpoint.
        length: Length of the vector.
        threads: Number of tensors that are worked on at a time; all processors when None.

    Returns:
        ``(length,)`` and (P,) float32, P numbers of :mod:`thesis_rec.models.spectra` named by its ``NAMES``.

    Raises:
        ItemError: If a tensor holds NaN or infinite values.
    """
    from threadpoolctl import threadpool_limits

    from thesis_rec.models.kmeans import kmeans_1d

    each = max(length // len(reader.tensors), 1)

    def both(tensor: TensorInfo) -> tuple[Floats, dict[str, float]]:
        values, hint = tensor.values(), "The checkpoint is broken: download it again, or leave the model out."
        with explained(reader.item, f"The tensor {tensor.name} {{reason}}.", hint):
            centres = kmeans_1d(values, each)
        # What a tensor of zeros, or one near the end of float32's range, doesn't tell is NaN.
        with np.errstate(all="ignore"):
            return centres, tensor_numbers(tensor, values)

    # The largest first, so that no thread is left with the last big one.
    order = sorted(reader.tensors, key=lambda tensor: -tensor.size)
    # Tensors are worked on side by side, so that threads within one of them would only get in each other's way.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads or processors()) as pool:
        found = dict(zip(order, pool.map(both, order), strict=True))
    described = describe(reader.tensors, [found[tensor][1] for tensor in reader.tensors])
    described[np.isinf(described)] = np.nan
    centres = np.concatenate([found[tensor][0] for tensor in reversed(reader.tensors)][:length])
    return np.pad(centres, (0, length - centres.size)), described


def weights_hash(reader: StateReader, threads: int | None = None) -> str:
    """SHA-256 over names, types, shapes and values of all tensors.

    The same weights give the same hash as one safetensors file, as shards or as a PyTorch file. It is made of the
    hashes of single tensors, so tensors are read one at a time, by several threads.

    Args:
        reader: The checkpoint.
        threads: Number of tensors that are worked on at a time; all processors when None.

    Returns:
        64 hexadecimal digits.
    """

    def fingerprint(tensor: TensorInfo) -> str:
        content = hashlib.sha256(tensor.stored().data).hexdigest()
        return f"{tensor.name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0{content}\n"

    with ThreadPoolExecutor(threads or processors()) as pool:
        lines = sorted(pool.map(fingerprint, reader.tensors))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


logger = logging.getLogger(__name__)

#: To be raised when the same weights give another vector or other spectra than before.
METHOD_VERSION = 3

#: How the row of a model begins in the failures table that was extracted, but not from all its values.
LEFT_OUT = "Not all of the file was read: "

_NUMBERS = ("n_parameters", "n_tensors", "bytes")

Vector = dict[str, Any]


def settings_hash(row: ManifestRow) -> str:
    """Hash of what a model's vector depends on besides its weights."""
    return sha256_json({"version": METHOD_VERSION, "length": VECTOR_LENGTH, "extractor": extractor_name(row)})


def made_from(row: ManifestRow, root: Path, cache: Path | None = None) -> str:
    """What tells, without reading a model's files, that its vector would be the same as before."""
    return sha256_json([files_signature(locate(row, root, cache, verify=False)), settings_hash(row)])


def outdated(row: ManifestRow, outcome: Outcome) -> bool:
    """Whether a model on this machine has other weights than those that its vector was made of.

    Its weights are read only if its files aren't the very ones of then.

    Args:
        row: The model, whose source is absolute.
        outcome: The last one, as of :func:`extract_models`.
    """
    root = Path(row.source)
    try:
        return outcome.get("made_from") != made_from(row, root) and (
            weights_hash(open_model(row, root)) != outcome.get("sha256")
        )
    except Exception:
        # Its next extraction says what is wrong with it.
        return True


def extract_model(row: ManifestRow, root: Path, cache: Path | None = None, threads: int | None = None) -> Vector:
    """The vector of one model and what belongs to it.

    Args:
        row: The model.
        root: Folder that relative sources refer to.
        cache: Folder of hub downloads; None for the hub library's own.
        threads: Number of tensors that are worked on at a time; the result doesn't depend on it.

    Returns:
        ``parameters`` float32 (8192,), ``spectra`` float32 (P,), ``n_parameters``, ``n_tensors``, ``bytes`` of the
        weight files, ``sha256`` of the weights and ``settings``, a hash too.

    Raises:
        ItemError: If the weights can't be read, or are all zero.
    """
    reader = open_model(row, root, cache)
    return _summary(row, reader, weights_hash(reader, threads), threads)


def _summary(row: ManifestRow, reader: StateReader, sha256: str, threads: int | None) -> Vector:
    """A model's vector, as of :func:`extract_model`."""
    vector, spectra = vector_and_spectra(reader, threads=threads)
    if not vector.any():
        raise ItemError(row.model_id, "All its values are zero.", "Was it saved before it was trained? Save it again.")
    numbers = (reader.n_parameters, len(reader.tensors), reader.n_bytes)
    counts = {name: np.int64(value) for name, value in zip(_NUMBERS, numbers, strict=True)}
    hashes = {"sha256": np.str_(sha256), "settings": np.str_(settings_hash(row))}
    return {"parameters": vector, "spectra": spectra, **counts, **hashes}


def extract_models(
    rows: Sequence[ManifestRow],
    root: Path,
    cache: Path | None,
    existing: Mapping[str, Stored],
    outcomes: Mapping[str, Stored],
    threads: int | None = None,
) -> Iterator[tuple[dict[str, Vector], dict[str, Outcome]]]:
    """Extract models one by one, resumably (:mod:`thesis_rec.base.resuming`).

    A model whose last outcome was made from the same files isn't read again; of one that is read, its vector is made
    only if there is none of the same weights and settings.

    Args:
        rows: The models.
        root: Folder that relative sources refer to.
        cache: Folder of hub downloads; None for the hub library's own.
        existing: Vectors of earlier runs.
        outcomes: Outcomes of earlier runs.
        threads: As of :func:`extract_model`.

    Yields:
        New vectors and outcomes by model. An outcome has the hashes of the model's weights and settings, ``sha256`` and
        ``settings``.
    """
    changed = []

    def make(row: ManifestRow, outcome: Outcome) -> Iterator[dict[str, Vector]]:
        reader, name = open_model(row, root, cache), row.model_id
        hashes = {"sha256": weights_hash(reader, threads), "settings": settings_hash(row)}
        told = left_out(reader)
        notes = [[LEFT_OUT + told, "Its vector is of what was read."]] if told else []
        outcome |= {**hashes, "notes": notes, "results": [name]}
        former = (readable(existing[name], *hashes, "spectra") if name in existing else None) or {}
        if "spectra" in former and hashes == {key: str(former[key]) for key in hashes}:
            return
        yield {name: _summary(row, reader, hashes["sha256"], threads)}
        if str(former.get("sha256", hashes["sha256"])) != hashes["sha256"]:
            changed.append(name)

    items = {row.model_id: row for row in rows}
    of_now = partial(made_from, root=root, cache=cache)
    yield from work_on(items, "model extraction", of_now, make, outcomes, existing)
    if changed:
        told = "The weights of %s changed: what was measured of them counts until the pipeline ground_truth runs again."
        logger.warning(told, listed(changed, 3))


def real_failures(failures: pd.DataFrame) -> pd.DataFrame:
    """The rows of a failures table whose models have no vector, or an outdated one."""
    return failures[~failures["error"].str.startswith(LEFT_OUT)]


def extracted_tables(
    rows: Iterable[ManifestRow], vectors: Mapping[str, Callable[..., Vector]]
) -> tuple[pd.DataFrame, dict[str, NDArray[Any]]]:
    """What is known of each extracted model besides its vector.

    Args:
        rows: The models.
        vectors: Vectors by model.

    Returns:
        A table ``model_id, family, n_parameters, n_tensors, bytes, sha256``; and the spectra: ``spectra`` float32
        (K, P), ``model_ids`` (K,) and ``names`` (P,).
    """
    found = [(row, vectors[row.model_id](*_NUMBERS, "sha256", "spectra")) for row in rows if row.model_id in vectors]
    types = {"model_id": "string", "family": "string", **dict.fromkeys(_NUMBERS, "int64"), "sha256": "string"}
    records = [(row.model_id, row.family, *(known[name].item() for name in list(types)[2:])) for row, known in found]
    metadata = pd.DataFrame(records, columns=list(types)).astype(types)
    spectra = np.stack([known["spectra"] for _, known in found]) if found else np.zeros((0, len(NAMES)), np.float32)
    return metadata, {"spectra": spectra, "model_ids": metadata["model_id"].to_numpy(str), "names": np.array(NAMES)}
