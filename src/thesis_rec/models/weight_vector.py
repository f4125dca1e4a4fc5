"""A checkpoint as one vector: centroids of its tensors' values, last layers first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError
from thesis_rec.models.checkpoint_reader import StateReader, TensorInfo
from thesis_rec.models.kmeans import NotFiniteError, kmeans_1d

Summary = Callable[[TensorInfo], NDArray[np.float32]]

#: Length of the vector that the autoencoder is made for.
VECTOR_LENGTH = 8192

_SMALL = 1 << 14
_BUNDLE = 32


def parameter_vector(
    reader: StateReader, length: int = VECTOR_LENGTH, threads: int | None = None
) -> NDArray[np.float32]:
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

    def summarise(tensor: TensorInfo) -> NDArray[np.float32]:
        try:
            return kmeans_1d(reader.values(tensor), each)
        except NotFiniteError as error:
            raise ItemError(
                reader.item,
                f"The tensor {tensor.name} holds NaN or infinite values.",
                "The checkpoint is broken: download it again, or leave the model out.",
            ) from error

    vector = np.zeros(length, np.float32)
    start = 0
    for centres in _in_order(summarise, tensors, threads or processors()):
        vector[start : start + centres.size] = centres
        start += centres.size
    return vector


def _in_order(function: Summary, tensors: list[TensorInfo], threads: int) -> Iterator[NDArray[np.float32]]:
    """Results in the order of ``tensors``, computed largest first so that no thread is left with the last big one."""
    if threads == 1:
        yield from map(function, tensors)
        return
    order = sorted(range(len(tensors)), key=lambda i: -tensors[i].size)
    big = sum(tensor.size > _SMALL for tensor in tensors)
    # Handing a task to a thread costs as much as a small tensor, so these go by the bundle.
    bundles = [[i] for i in order[:big]] + [order[at : at + _BUNDLE] for at in range(big, len(order), _BUNDLE)]
    with ThreadPoolExecutor(threads) as pool:
        try:
            done = pool.map(lambda bundle: [(i, function(tensors[i])) for i in bundle], bundles)
            results = dict(pair for bundle in done for pair in bundle)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    yield from (results[i] for i in range(len(tensors)))


def processors() -> int:
    """Processors that this process may use, which on a cluster are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
