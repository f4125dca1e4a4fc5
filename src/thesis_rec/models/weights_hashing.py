"""A fingerprint of weights that doesn't depend on the file format they are stored in."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from thesis_rec.models.checkpoint_reader import StateReader, TensorInfo
from thesis_rec.models.weight_vector import processors


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
