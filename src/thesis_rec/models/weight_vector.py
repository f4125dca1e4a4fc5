"""A checkpoint as one vector: centroids of its tensors' values, last layers first; and its spectra, and its hash."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from thesis_rec.base.devices import processors
from thesis_rec.base.errors import ItemError
from thesis_rec.base.tables import VECTOR_LENGTH
from thesis_rec.models.checkpoint_reader import StateReader, TensorInfo
from thesis_rec.models.kmeans import NotFiniteError, kmeans_1d
from thesis_rec.models.spectra import Floats, describe, tensor_numbers


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

    each = max(length // len(reader.tensors), 1)

    def both(tensor: TensorInfo) -> tuple[Floats, dict[str, float]]:
        values = tensor.values()
        try:
            centres = kmeans_1d(values, each)
        except NotFiniteError as error:
            text = f"The tensor {tensor.name} holds NaN or infinite values."
            hint = "The checkpoint is broken: download it again, or leave the model out."
            raise ItemError(reader.item, text, hint) from error
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
