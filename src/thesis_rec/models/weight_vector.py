"""A checkpoint as one vector: centroids of its tensors' values, last layers first; and its spectra, and its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.devices import processors
from thesis_rec.base.errors import ItemError
from thesis_rec.base.tables import VECTOR_LENGTH
from thesis_rec.models.checkpoint_reader import StateReader, TensorInfo
from thesis_rec.models.kmeans import NotFiniteError, kmeans_1d
from thesis_rec.models.spectra import describe, tensor_numbers

Summary = TypeVar("Summary")
Floats = NDArray[np.float32]


def parameter_vector(reader: StateReader, length: int = VECTOR_LENGTH, threads: int | None = None) -> Floats:
    """Summarise a checkpoint of T tensors by ``length // T`` one-dimensional k-means centroids of each.

    The centroids of a tensor stand in descending order, tensors from the last layer to the first; a tensor with fewer
    values gives them all, and what remains of the vector is zero. Of more than ``length`` tensors the last ``length``
    are used, with one centroid (their mean) each.

    Memory: at most ``threads`` tensors are held at a time, and those that lie in a file as float32 aren't copied.

    Args:
        reader: The checkpoint.
        length: Length of the vector.
        threads: Number of tensors that are worked on at a time; all processors when None.

    Returns:
        ``(length,)`` float32.

    Raises:
        ItemError: If a tensor holds NaN or infinite values.
    """
    tensors = list(reversed(reader.tensors))[:length]
    each = length // len(tensors)
    centres = _in_order(lambda tensor: _centres(reader, tensor, reader.values(tensor), each), tensors, threads)
    return _joined(centres, length)


def vector_and_spectra(
    reader: StateReader, length: int = VECTOR_LENGTH, threads: int | None = None
) -> tuple[Floats, Floats]:
    """:func:`parameter_vector` and the description of :mod:`thesis_rec.models.spectra`; every tensor is read once.

    Returns:
        ``(length,)`` and (P,) float32, P numbers named by :data:`thesis_rec.models.spectra.NAMES`.

    Raises:
        ItemError: If a tensor holds NaN or infinite values.
    """
    from threadpoolctl import threadpool_limits

    tensors = list(reversed(reader.tensors))
    each = max(length // len(tensors), 1)

    def both(tensor: TensorInfo) -> tuple[Floats, dict[str, float]]:
        values = reader.values(tensor)
        # What a tensor of zeros, or one near the end of float32's range, doesn't tell is NaN.
        with np.errstate(all="ignore"):
            return _centres(reader, tensor, values, each), tensor_numbers(tensor, values)

    # Tensors are worked on side by side, so that threads within one of them would only get in each other's way.
    with threadpool_limits(1, user_api="blas"):
        found = list(_in_order(both, tensors, threads))
    numbers = [item[1] for item in found]
    described = describe(tensors[::-1], numbers[::-1])
    described[np.isinf(described)] = np.nan
    return _joined((item[0] for item in found[:length]), length), described


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
        content = hashlib.sha256(reader.stored(tensor).data).hexdigest()
        return f"{tensor.name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0{content}\n"

    with ThreadPoolExecutor(threads or processors()) as pool:
        lines = sorted(pool.map(fingerprint, reader.tensors))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _centres(reader: StateReader, tensor: TensorInfo, values: Floats, count: int) -> Floats:
    try:
        return kmeans_1d(values, count)
    except NotFiniteError as error:
        raise ItemError(
            reader.item,
            f"The tensor {tensor.name} holds NaN or infinite values.",
            "The checkpoint is broken: download it again, or leave the model out.",
        ) from error


def _joined(centres: Iterable[Floats], length: int) -> Floats:
    vector = np.zeros(length, np.float32)
    start = 0
    for part in centres:
        vector[start : start + part.size] = part
        start += part.size
    return vector


def _in_order(
    function: Callable[[TensorInfo], Summary], tensors: Sequence[TensorInfo], threads: int | None
) -> Iterator[Summary]:
    """Results in the order of ``tensors``, computed largest first so that no thread is left with the last big one."""
    threads = threads or processors()
    if threads == 1:
        yield from map(function, tensors)
        return
    order = sorted(range(len(tensors)), key=lambda i: -tensors[i].size)
    with ThreadPoolExecutor(threads) as pool:
        try:
            results = dict(zip(order, pool.map(function, [tensors[i] for i in order]), strict=True))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    yield from (results[i] for i in range(len(tensors)))
