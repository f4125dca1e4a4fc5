"""Checkpoints of any format, one tensor at a time, without running anything that they contain.

Formats: safetensors (one file, or shards with an index), and everything that ``torch.load(weights_only=True)`` takes
(``.pth``, ``.th``, ``.pt``, ``.pkl``, ``.bin``; sharded too). Every reader gives the same tensors for the same weights:

* only floating-point tensors; counters, masks and indices (integers, booleans, complex tables) are left out and listed,
* no empty tensors,
* tensors that share their memory once, under the first of their names in alphabetical order,
* names without the ``module.`` that data-parallel training puts before them,
* in the order of :mod:`thesis_rec.models.layer_order`.

Files come from strangers, so they are checked before a library opens them: links that lead out of the model's folder,
archives that unpack to much more than they are, and headers that claim more than the file holds are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError, explained
from thesis_rec.base.files import placeholder
from thesis_rec.models.layer_order import layer_key
from thesis_rec.models.weight_files import (
    ARCHIVE,
    DOWNLOAD_AGAIN,
    INDEX_ENDING,
    TORCH_ENDINGS,
    checked_file,
    find_state,
    find_weights,
    load_torch,
    shard_of_tensors,
)

if TYPE_CHECKING:
    import torch

_PREFIXES = ("module.", "_orig_mod.")

# Torch's names of floating-point types by those in safetensors, and the other types.
_FLOATS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}  # fmt: skip
_LEFT_OUT_TORCH = {"bool": "BOOL", "int8": "I8", "uint8": "U8", "int16": "I16", "int32": "I32", "int64": "I64"}
_LEFT_OUT = {*_LEFT_OUT_TORCH.values(), "U16", "U32", "U64", "C64", "C128"}

# Views of one storage may overlap (a fused matrix and its parts), but not be read many times over.
_MOST_OVERLAP = 4


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


class StateReader:
    """The floating-point tensors of a checkpoint, from the first layer to the last.

    Args:
        item: Name of the model for error messages.
        tensors: What the checkpoint holds.
        stored: The bytes of a tensor in row-major order (little-endian), as they are stored.
        n_bytes: Size of its files.
        left_out: Tensors that it holds but that aren't read.
        passed_over: Of several networks in the file the one that is read, and the others; empty where there is one.
        absent: Names of tensors that an index lists and no shard holds.

    Attributes:
        keys: Names in the file of all tensors that it holds, read or not.

    Raises:
        ItemError: If there are no tensors, or two of one name.
    """

    def __init__(
        self,
        item: str,
        tensors: Iterable[TensorInfo],
        stored: Callable[[TensorInfo], NDArray[np.uint8]],
        n_bytes: int,
        left_out: Iterable[TensorInfo],
        passed_over: tuple[str, ...] = (),
        absent: Iterable[str] = (),
    ) -> None:
        held = list(tensors)
        found = [tensor for tensor in held if tensor.size > 0]
        for prefix in _PREFIXES:
            if found and all(tensor.name.startswith(prefix) for tensor in found):
                found = [replace(tensor, name=tensor.name[len(prefix) :]) for tensor in found]
        self.item, self.stored, self.n_bytes = item, stored, n_bytes
        self.left_out, self.passed_over, self.absent = tuple(left_out), passed_over, tuple(absent)
        self.keys = {tensor.key for tensor in (*held, *self.left_out)}
        self.tensors: tuple[TensorInfo, ...] = tuple(sorted(found, key=lambda tensor: layer_key(tensor.name)))
        if not self.tensors:
            others = ", ".join(f"{tensor.name} ({tensor.dtype})" for tensor in self.left_out[:3])
            text = f"The checkpoint holds no floating-point tensors{f', but {others}' if others else ''}."
            raise ItemError(item, text, "Is it the right file?")
        if len({tensor.name for tensor in self.tensors}) < len(self.tensors):
            raise ItemError(item, "The checkpoint holds several tensors of one name.", DOWNLOAD_AGAIN)

    def values(self, tensor: TensorInfo) -> NDArray[np.float32]:
        """The values of a tensor, flat: ``(size,)``. No copy is made of float32 that lies in a file."""
        raw = self.stored(tensor)
        if tensor.dtype == "BF16":
            # bfloat16 is the upper half of a float32.
            return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
        if kind := {"F64": "<f8", "F32": "<f4", "F16": "<f2"}.get(tensor.dtype):
            # Out of float32's range becomes infinite, which is reported like any other non-finite value.
            with np.errstate(over="ignore"):
                return np.require(raw.view(kind), dtype=np.float32, requirements="A")
        import torch

        eight = torch.float8_e4m3fn if tensor.dtype == "F8_E4M3" else torch.float8_e5m2
        return torch.from_numpy(np.array(raw)).view(eight).to(torch.float32).numpy()

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
        return self._of([tensor for tensor in self.tensors if keep(tensor.name)], filter(keep, self.absent))

    def member(self, name: str) -> StateReader:
        """One network of several: the tensors below ``name``, without it in their names.

        Raises:
            ItemError: If there are none.
        """
        below = re.compile(rf"(?:^|\.){re.escape(name)}\.")
        found = [
            replace(tensor, name=tensor.name[match.end() :])
            for tensor in self.tensors
            if (match := below.search(tensor.name))
        ]
        if not found:
            heads = ", ".join(dict.fromkeys(tensor.name.split(".")[0] for tensor in self.tensors[:1000]))[:200]
            text = f"The checkpoint has no network {name!r}."
            raise ItemError(self.item, text, f"Correct the manifest's column member; names begin with {heads}.")
        return self._of(found, filter(below.search, self.absent))

    def _of(self, tensors: Iterable[TensorInfo], absent: Iterable[str]) -> StateReader:
        return StateReader(self.item, tensors, self.stored, self.n_bytes, self.left_out, self.passed_over, absent)


def _joined(item: str, shards: Collection[StateReader], absent: Iterable[str]) -> StateReader:
    """Several shards as one checkpoint."""
    of = {tensor.key: shard for shard in shards for tensor in shard.tensors}
    tensors = [replace(tensor, name=tensor.key) for shard in shards for tensor in shard.tensors]
    left_out = [tensor for shard in shards for tensor in shard.left_out]
    n_bytes = sum(shard.n_bytes for shard in shards)
    return StateReader(item, tensors, lambda tensor: of[tensor.key].stored(tensor), n_bytes, left_out, absent=absent)


def read_safetensors(path: Path, item: str) -> StateReader:
    """One safetensors file; each tensor is mapped when it is read and unmapped when its array is dropped.

    Args:
        path: The file.
        item: Name of the model for error messages.

    Raises:
        ItemError: If the file is damaged, or its header doesn't describe it.
    """
    from safetensors import safe_open

    if instead := placeholder(path):
        raise ItemError(item, f"{path.name} {instead}.", DOWNLOAD_AGAIN)
    with path.open("rb") as file:
        if file.read(len(ARCHIVE)) == ARCHIVE:
            raise ItemError(item, f"{path.name} is an archive as torch.save writes it.", "Let its name end in .pt.")
    text = f"{path.name} is truncated or unreadable, or its safetensors header doesn't fit the file ({{reason}})."
    # The library checks the header against the file: its length, every offset, shape and type.
    with explained(item, text, DOWNLOAD_AGAIN), safe_open(path, framework="numpy"), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    held = [TensorInfo(key, tuple(entry["shape"]), entry["dtype"], key) for key, entry in header.items()]
    left_out = [tensor for tensor in held if tensor.dtype in _LEFT_OUT]
    tensors = [tensor for tensor in held if tensor.dtype not in _LEFT_OUT]
    if strange := next((tensor for tensor in tensors if tensor.dtype not in _FLOATS), None):
        text = f"{path.name}: tensor {strange.name} has the type {strange.dtype}, which can't be read."
        raise ItemError(item, text, "Save the model in float32, float16 or bfloat16.")

    def stored(tensor: TensorInfo) -> NDArray[np.uint8]:
        begin, end = header[tensor.key]["data_offsets"]
        return np.asarray(np.memmap(path, np.uint8, "r", 8 + length + begin, end - begin))

    return StateReader(item, tensors, stored, path.stat().st_size, left_out)


def read_state(state: Mapping[str, Any], item: str, n_bytes: int = 0, passed_over: tuple[str, ...] = ()) -> StateReader:
    """Tensors that are in memory or memory-mapped: a state dict, or what ``torch.load`` gave.

    Args:
        state: Tensors by name; other values are left out.
        item: Name of the model for error messages.
        n_bytes: Size of the file; 0 when there is none.
        passed_over: As of :class:`StateReader`.

    Raises:
        ItemError: If a tensor is of a kind that can't be read.
    """
    import torch

    names = {getattr(torch, name): kind for kind, name in _FLOATS.items()}
    kept: dict[str, torch.Tensor] = {}
    seen: set[tuple[object, ...]] = set()
    storages: dict[int, int] = {}
    claimed = 0
    tensors, left_out = [], []
    # In alphabetical order, so that of shared tensors the same name is kept that safetensors keeps.
    for key in sorted(name for name in state if isinstance(name, str)):
        tensor = state[key]
        if not isinstance(tensor, torch.Tensor):
            continue
        if not (tensor.is_floating_point() or tensor.is_quantized):
            kind = _LEFT_OUT_TORCH.get(str(tensor.dtype).removeprefix("torch."), str(tensor.dtype))
            left_out.append(TensorInfo(key, tuple(tensor.shape), kind, key))
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
        storages[tensor.untyped_storage().data_ptr()] = held
        claimed += tensor.numel() * tensor.element_size()
        kept[key] = tensor.detach()
        tensors.append(TensorInfo(key, tuple(tensor.shape), names[tensor.dtype], key))
    if claimed > _MOST_OVERLAP * sum(storages.values()):
        held = sum(storages.values())
        text = f"{len(tensors):,} tensors claim {claimed:,} bytes of the {held:,} that the file holds."
        raise ItemError(item, text, "Don't use this file: it is made to exhaust time and memory.")

    def stored(tensor: TensorInfo) -> NDArray[np.uint8]:
        return kept[tensor.key].cpu().contiguous().reshape(-1).view(torch.uint8).numpy()

    reader = StateReader(item, tensors, stored, n_bytes, left_out, passed_over)
    # Shared tensors are read once.
    reader.keys |= {name for name, value in state.items() if isinstance(value, torch.Tensor)}
    return reader


def open_checkpoint(path: Path, item: str, prefer: str = "", member: str = "") -> StateReader:
    """Reader of a weight file, or of the best weight file in a folder.

    Args:
        path: File or folder.
        item: Name of the model for error messages.
        prefer: Prefix of file names to be looked at first, such as ``open_clip`` in a folder with several formats.
        member: Which of several networks in the file is meant, such as ``teacher`` or ``encoder_q``.

    Raises:
        ItemError: If there is no weight file, or it is damaged, unsafe or of an unknown format.
    """
    file = find_weights(path, item, prefer)
    if file.name.endswith(INDEX_ENDING):
        shard_of = shard_of_tensors(file, item)
        shards = sorted(set(shard_of.values()))
        opened = {name: _open_file(checked_file(file.parent / name, item), item, "")[0] for name in shards}
        absent = sorted(key for key, name in shard_of.items() if key not in opened[name].keys)
        whole = _joined(item, opened.values(), absent)
    else:
        whole, member = _open_file(file, item, member)
    return whole.member(member) if member else whole


def _open_file(file: Path, item: str, member: str) -> tuple[StateReader, str]:
    """A reader, and what of ``member`` is left to be looked for in the tensors' names."""
    if file.name.endswith(".safetensors"):
        return read_safetensors(file, item), member
    if file.name.endswith(TORCH_ENDINGS):
        state, member, passed_over = find_state(load_torch(file, item), item, member)
        return read_state(state, item, file.stat().st_size, passed_over), member
    raise ItemError(item, f"{file.name} has an unknown ending.", f"Known are .safetensors, {', '.join(TORCH_ENDINGS)}.")
