"""Checkpoints of any format, one tensor at a time, without running anything that they contain.

Formats: safetensors (one file, or shards with an index), and everything that ``torch.load(weights_only=True)`` takes
(``.pth``, ``.th``, ``.pt``, ``.pkl``, ``.bin``; sharded too). Every reader gives the same tensors for the same weights:

* only floating-point tensors; counters, masks and indices (integers, booleans, complex tables) are left out,
* no empty tensors,
* tensors that share their memory once, under the first of their names in alphabetical order,
* names without the ``module.`` that data-parallel training puts before them,
* in the order of :mod:`thesis_rec.models.layer_order`.

Files come from strangers, so they are checked before a library opens them: links that lead out of the model's folder,
archives that unpack to much more than they are, and headers that claim more than the file holds are refused.
"""

from __future__ import annotations

import json
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError
from thesis_rec.models.layer_order import layer_key
from thesis_rec.models.torch_files import load_torch, state_dict_of
from thesis_rec.models.weight_files import (
    DOWNLOAD_AGAIN,
    INDEX_ENDING,
    TORCH_ENDINGS,
    checked_file,
    find_weights,
    shard_names,
)

if TYPE_CHECKING:
    import torch

_PREFIXES = ("module.", "_orig_mod.")

# Floating-point types by their names in safetensors: bytes per value.
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_LEFT_OUT = {"BOOL", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "C64", "C128"}

# Below this a read into memory is cheaper than a mapping.
_MAP_FROM_BYTES = 1 << 18


@dataclass(frozen=True)
class TensorInfo:
    """A tensor that a checkpoint holds.

    Attributes:
        name: Its name, without wrappers' prefixes.
        shape: Its shape.
        dtype: How it is stored, in safetensors' words (``F32``, ``BF16`` ...).
        key: Its name in the file.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    key: str

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))


class StateReader(ABC):
    """The floating-point tensors of a checkpoint, from the first layer to the last.

    Args:
        item: Name of the model for error messages.
        tensors: What the checkpoint holds.
        n_bytes: Size of its files.

    Raises:
        ItemError: If there are no tensors, or two of one name.
    """

    def __init__(self, item: str, tensors: Iterable[TensorInfo], n_bytes: int) -> None:
        found = [tensor for tensor in tensors if tensor.size > 0]
        for prefix in _PREFIXES:
            if found and all(tensor.name.startswith(prefix) for tensor in found):
                found = [replace(tensor, name=tensor.name[len(prefix) :]) for tensor in found]
        self.item = item
        self.n_bytes = n_bytes
        self.tensors: tuple[TensorInfo, ...] = tuple(sorted(found, key=lambda tensor: layer_key(tensor.name)))
        if not self.tensors:
            raise ItemError(item, "The checkpoint holds no floating-point tensors.", "Is it the right file?")
        if len({tensor.name for tensor in self.tensors}) < len(self.tensors):
            raise ItemError(item, "The checkpoint holds several tensors of one name.", DOWNLOAD_AGAIN)

    @abstractmethod
    def stored(self, tensor: TensorInfo) -> NDArray[np.uint8]:
        """The bytes of a tensor in row-major order (little-endian), as they are stored."""

    def values(self, tensor: TensorInfo) -> NDArray[np.float32]:
        """The values of a tensor, flat: ``(size,)``. No copy is made of float32 that lies in a file."""
        raw = self.stored(tensor)
        if tensor.dtype == "F32":
            return np.require(raw.view("<f4"), dtype=np.float32, requirements="A")
        if tensor.dtype == "F16":
            return raw.view("<f2").astype(np.float32)
        if tensor.dtype == "F64":
            # Out of float32's range becomes infinite, which is reported like any other non-finite value.
            with np.errstate(over="ignore"):
                return raw.view("<f8").astype(np.float32)
        if tensor.dtype == "BF16":
            # bfloat16 is the upper half of a float32.
            return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
        import torch

        kind = torch.float8_e4m3fn if tensor.dtype == "F8_E4M3" else torch.float8_e5m2
        flat: NDArray[np.float32] = torch.from_numpy(np.array(raw)).view(kind).to(torch.float32).numpy()
        return flat

    @property
    def n_parameters(self) -> int:
        """Number of learned values: all but the running statistics of batch normalisation."""
        statistics = ("running_mean", "running_var")
        return sum(tensor.size for tensor in self.tensors if not tensor.name.endswith(statistics))

    def select(self, keep: Callable[[str], bool]) -> StateReader:
        """The same checkpoint with only those tensors whose name ``keep`` accepts.

        Raises:
            ItemError: If it accepts none.
        """
        return _Selection(self, keep)


class _Selection(StateReader):
    def __init__(self, whole: StateReader, keep: Callable[[str], bool]) -> None:
        self._whole = whole
        super().__init__(whole.item, [tensor for tensor in whole.tensors if keep(tensor.name)], whole.n_bytes)

    def stored(self, tensor: TensorInfo) -> NDArray[np.uint8]:
        return self._whole.stored(tensor)


class _Joined(StateReader):
    """Several shards as one checkpoint."""

    def __init__(self, item: str, shards: list[StateReader]) -> None:
        self._of = {tensor.key: shard for shard in shards for tensor in shard.tensors}
        tensors = [replace(tensor, name=tensor.key) for shard in shards for tensor in shard.tensors]
        super().__init__(item, tensors, sum(shard.n_bytes for shard in shards))

    def stored(self, tensor: TensorInfo) -> NDArray[np.uint8]:
        return self._of[tensor.key].stored(tensor)


class SafetensorsReader(StateReader):
    """One safetensors file; each tensor is mapped when it is read and unmapped when its array is dropped.

    Args:
        path: The file.
        item: Name of the model for error messages.

    Raises:
        ItemError: If the file is damaged, or its header doesn't describe it.
    """

    def __init__(self, path: Path, item: str) -> None:
        from safetensors import SafetensorError, safe_open

        self._path = path
        try:
            # The library checks the header against the file: its length, every offset, shape and type.
            with safe_open(path, framework="numpy"):
                pass
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
        except SafetensorError as error:
            text = f"{path.name} is truncated, or its safetensors header doesn't fit the file ({error})."
            raise ItemError(item, text, DOWNLOAD_AGAIN) from error
        except (OSError, ValueError) as error:
            raise ItemError(item, f"{path.name} can't be read ({error}).", DOWNLOAD_AGAIN) from error
        self._offsets: dict[str, tuple[int, int]] = {}
        tensors = []
        for key, entry in header.items():
            if key == "__metadata__" or entry["dtype"] in _LEFT_OUT:
                continue
            if entry["dtype"] not in _FLOATS:
                text = f"{path.name}: tensor {key} has the type {entry['dtype']}, which can't be read."
                raise ItemError(item, text, "Save the model in float32, float16 or bfloat16.")
            start, end = entry["data_offsets"]
            self._offsets[key] = (8 + length + start, end - start)
            tensors.append(TensorInfo(key, tuple(entry["shape"]), entry["dtype"], key))
        super().__init__(item, tensors, path.stat().st_size)

    def stored(self, tensor: TensorInfo) -> NDArray[np.uint8]:
        """See :meth:`StateReader.stored`."""
        offset, length = self._offsets[tensor.key]
        with self._path.open("rb", buffering=0) as file:
            if length < _MAP_FROM_BYTES:
                return np.frombuffer(os.pread(file.fileno(), length, offset), np.uint8)
            start = offset - offset % mmap.ALLOCATIONGRANULARITY
            mapping = mmap.mmap(file.fileno(), length + offset - start, access=mmap.ACCESS_READ, offset=start)
            mapping.madvise(mmap.MADV_SEQUENTIAL)
            return np.frombuffer(mapping, np.uint8, length, offset - start)


class TorchReader(StateReader):
    """Tensors that are in memory or memory-mapped: a state dict, or what ``torch.load`` gave.

    Args:
        state: Tensors by name; other values are left out.
        item: Name of the model for error messages.
        n_bytes: Size of the file; 0 when there is none.

    Raises:
        ItemError: If a tensor is of a kind that can't be read.
    """

    def __init__(self, state: Mapping[str, Any], item: str, n_bytes: int = 0) -> None:
        import torch

        names = {getattr(torch, name): kind for name, kind in _TORCH_FLOATS.items()}
        self._tensors: dict[str, torch.Tensor] = {}
        seen: set[tuple[object, ...]] = set()
        tensors = []
        # In alphabetical order, so that of shared tensors the same name is kept that safetensors keeps.
        for key in sorted(name for name in state if isinstance(name, str)):
            tensor = state[key]
            if not isinstance(tensor, torch.Tensor) or not (tensor.is_floating_point() or tensor.is_quantized):
                continue
            if tensor.is_quantized or tensor.layout != torch.strided or tensor.is_meta or tensor.dtype not in names:
                text = f"Tensor {key} is quantised, sparse, without data or of an unknown type ({tensor.dtype})."
                raise ItemError(item, text, "Save the model in float32, float16 or bfloat16.")
            held = tensor.untyped_storage().nbytes()
            if tensor.numel() * tensor.element_size() > held:
                text = f"Tensor {key} claims {tensor.numel():,} values but the file holds {held:,} bytes of it."
                raise ItemError(item, text, "Don't use this file: it is damaged, or made to exhaust memory.")
            if tensor.numel():
                identity = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
                if identity in seen:
                    continue
                seen.add(identity)
            self._tensors[key] = tensor.detach()
            tensors.append(TensorInfo(key, tuple(tensor.shape), names[tensor.dtype], key))
        super().__init__(item, tensors, n_bytes)

    def stored(self, tensor: TensorInfo) -> NDArray[np.uint8]:
        """See :meth:`StateReader.stored`."""
        import torch

        flat = self._tensors[tensor.key].cpu().contiguous().reshape(-1)
        array: NDArray[np.uint8] = flat.view(torch.uint8).numpy()
        return array


_TORCH_FLOATS = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}


def open_checkpoint(path: Path, item: str, prefer: str = "") -> StateReader:
    """Reader of a weight file, or of the best weight file in a folder.

    Args:
        path: File or folder.
        item: Name of the model for error messages.
        prefer: Prefix of file names to be looked at first, such as ``open_clip`` in a folder with several formats.

    Raises:
        ItemError: If there is no weight file, or it is damaged, unsafe or of an unknown format.
    """
    file = find_weights(path, item, prefer)
    if file.name.endswith(INDEX_ENDING):
        shards = [_open_file(checked_file(file.parent / name, item), item) for name in shard_names(file, item)]
        return _Joined(item, shards)
    return _open_file(file, item)


def _open_file(file: Path, item: str) -> StateReader:
    if file.name.endswith(".safetensors"):
        return SafetensorsReader(file, item)
    if file.name.endswith(TORCH_ENDINGS):
        return TorchReader(state_dict_of(load_torch(file, item), item), item, file.stat().st_size)
    raise ItemError(item, f"{file.name} has an unknown ending.", f"Known are .safetensors, {', '.join(TORCH_ENDINGS)}.")
