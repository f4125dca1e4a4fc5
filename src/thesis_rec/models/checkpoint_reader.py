"""Checkpoints of any format, one tensor at a time, without running anything that they contain.

Formats: safetensors (one file, or shards with an index), and everything that ``torch.load(weights_only=True)`` takes
(``.pth``, ``.th``, ``.pt``, ``.pkl``, ``.bin``; sharded too). Every reader gives the same tensors for the same weights:

* only floating-point tensors; counters, masks and indices (integers, booleans, complex tables) are left out and listed,
* no empty tensors,
* tensors that share their memory once, under the first of their names in alphabetical order,
* names without the ``module.`` that data-parallel training puts before them,
* in one order of layers (:func:`layer_key`).

Files come from strangers, so they are checked before a library opens them: links that lead out of the model's folder,
archives that unpack to much more than they are, and headers that claim more than the file holds are refused.

Nor is everything one plain network, which is all that values can describe. Read number by number, a quantised matrix
without its scale, an adapter without its base or two copies of a network in one file would give a vector like any
other, and a wrong one. They are refused with what they are.

A ``.pth`` file keeps the order in which a network's modules were made, a safetensors file sorts its tensors by name and
type, an index of shards by name. Names are all that every format has, so the order of layers is made of them: what
embeds the image first, then the body in natural order (``layer2`` before ``layer10``), then final norms, then heads.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, combinations, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError, explained, listed
from thesis_rec.models import weight_files
from thesis_rec.models.weight_files import DOWNLOAD_AGAIN

_STEM = re.compile(r"(embed|stem|token|patch|^conv_?1$|^bn_?1$|^conv0$|^norm0$|^pre_?norm|ln_pre|pre_layrnorm|pos_)")
_FINAL = re.compile(r"^(norm|bn2|bn|ln_post|ln_f|layer_?norm|post_layernorm|final\w*|conv_head|conv_1x1|norm5|proj)$")
_HEAD = re.compile(
    r"^(fc\d*|fc_norm|classif\w*|head\w*|logits?\w*|linear\d*|last_linear|output|score|pooler|attn_pool\w*"
    r"|visual_projection|text_projection|cls_classifier|distillation_classifier|lm_head|predictions?)$"
)
_NUMBER = re.compile(r"(\d+)")
_WRAPPERS = 3


def layer_rank(name: str) -> int:
    """0 for the stem, 1 for the body, 2 for final norms and projections, 3 for heads."""
    # A number within the name means a repeated block; only what stands before the first one tells where it belongs.
    parts = list(takewhile(lambda part: not part.isdigit(), name.split(".")[:-1] or [name]))
    for part in parts[:_WRAPPERS]:
        if _HEAD.match(part):
            # The normalisation before a head is often kept under the head's name.
            return 2 if any("norm" in inner for inner in parts) else 3
        if _FINAL.match(part):
            return 2
        if _STEM.search(part):
            return 0
    last = name.rsplit(".", 1)[-1]
    return 0 if len(parts) < _WRAPPERS and last not in ("weight", "bias") and _STEM.search(last) else 1


def layer_key(name: str) -> tuple[int, tuple[tuple[int, int, str], ...], str]:
    """Key that sorts tensor names from the first layer to the last."""
    pieces = tuple(
        (0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in _NUMBER.split(name) if piece != ""
    )
    return layer_rank(name), pieces, name


_PREFIXES = ("module.", "_orig_mod.")

# Types' names in safetensors by those in torch.
_KINDS = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "bool": "BOOL", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16",
    "int32": "I32", "uint32": "U32", "int64": "I64", "uint64": "U64", "complex64": "C64", "complex128": "C128",
}  # fmt: skip
_FLOATS = frozenset(kind for name, kind in _KINDS.items() if "float" in name)

# Views of one storage may overlap (a fused matrix and its parts), but not be read many times over.
_MOST_OVERLAP = 4


@dataclass(frozen=True)
class TensorInfo:
    """A tensor that a checkpoint holds.

    Attributes:
        name: Its name, without wrappers' prefixes.
        shape: Its shape.
        dtype: How it is stored, in safetensors' words (``F32``, ``BF16`` ...).
        load: Gives the tensor of torch, mapped where it lies in a file.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], Any] = field(repr=False, compare=False)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def values(self) -> NDArray[np.float32]:
        """Its values, flat: ``(size,)``; no copy is made of float32. Out of float32's range becomes infinite."""
        return self.load().float().cpu().reshape(-1).numpy()

    def stored(self) -> NDArray[np.uint8]:
        """Its bytes in row-major order (little-endian), as they are stored."""
        import torch

        return self.load().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


@dataclass
class StateReader:
    """The floating-point tensors of a checkpoint, from the first layer to the last.

    Attributes:
        item: Name of the model for error messages.
        tensors: What the checkpoint holds; tensors of other types than floating-point ones go to ``left_out``.
        n_bytes: Size of its files; 0 when there are none.
        passed_over: Of several networks in the file the one that is read, and the others; empty where there is one.
        absent: Names of tensors that an index lists and no shard holds.
        left_out: Tensors that it holds but that aren't read.

    Raises:
        ItemError: If there are no tensors, two of one name, or one of a kind that can't be read.
    """

    item: str
    tensors: Sequence[TensorInfo]
    n_bytes: int = 0
    passed_over: tuple[str, ...] = ()
    absent: Sequence[str] = ()
    left_out: Sequence[TensorInfo] = ()

    def __post_init__(self) -> None:
        if strange := next((tensor for tensor in self.tensors if tensor.dtype not in _KINDS.values()), None):
            text = f"Tensor {strange.name} is quantised, sparse, without data or of an unknown type ({strange.dtype})."
            raise ItemError(self.item, text, "Save the model in float32, float16 or bfloat16.")
        self.left_out = (*self.left_out, *(tensor for tensor in self.tensors if tensor.dtype not in _FLOATS))
        found = [tensor for tensor in self.tensors if tensor.dtype in _FLOATS and tensor.size > 0]
        for prefix in _PREFIXES:
            if all(tensor.name.startswith(prefix) for tensor in found):
                found = [replace(tensor, name=tensor.name[len(prefix) :]) for tensor in found]
        self.tensors = sorted(found, key=lambda tensor: layer_key(tensor.name))
        if not found:
            others = ", ".join(f"{tensor.name} ({tensor.dtype})" for tensor in self.left_out[:3])
            text = f"The checkpoint holds no floating-point tensors{f', but {others}' if others else ''}."
            raise ItemError(self.item, text, "Is it the right file?")
        if len({tensor.name for tensor in found}) < len(found):
            raise ItemError(self.item, "The checkpoint holds several tensors of one name.", DOWNLOAD_AGAIN)

    @property
    def n_parameters(self) -> int:
        """Number of learned values: all but the running statistics of batch normalisation."""
        statistics = ("running_mean", "running_var")
        return sum(tensor.size for tensor in self.tensors if not tensor.name.endswith(statistics))

    def select(self, keep: Callable[[str], bool]) -> "StateReader":
        """The same checkpoint with only those tensors whose name ``keep`` accepts.

        Raises:
            ItemError: If it accepts none.
        """
        kept = [tensor for tensor in self.tensors if keep(tensor.name)]
        return replace(self, tensors=kept, absent=list(filter(keep, self.absent)))

    def member(self, name: str) -> "StateReader":
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
        return replace(self, tensors=found, absent=list(filter(below.search, self.absent)))


def safetensors_of(path: Path, item: str) -> list[TensorInfo]:
    """What a safetensors file holds; each tensor is mapped when it is read and unmapped when its array is dropped.

    Args:
        path: The file.
        item: Name of the model for error messages.

    Raises:
        ItemError: If the file is damaged, or its header doesn't describe it.
    """
    from safetensors import safe_open

    text = f"{path.name} is truncated or unreadable, or its safetensors header doesn't fit the file ({{reason}})."
    # The library checks the header against the file: its length, every offset, shape and type.
    with explained(item, text, DOWNLOAD_AGAIN), safe_open(path, framework="pt") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  # it can't be iterated
        return [
            TensorInfo(name, tuple(one.get_shape()), one.get_dtype(), partial(_mapped, path, name))
            for name, one in slices.items()
        ]


def _mapped(path: Path, name: str) -> Any:
    from safetensors import safe_open

    # Opened anew, so that a tensor is unmapped when it is dropped.
    with safe_open(path, framework="pt") as opened:
        return opened.get_tensor(name)


def read_state(state: Mapping[str, Any], item: str) -> StateReader:
    """Reader of a state dict in memory; arguments and errors as of :func:`tensors_of`."""
    return StateReader(item, tensors_of(state, item))


def tensors_of(state: Mapping[str, Any], item: str) -> list[TensorInfo]:
    """Tensors that are in memory or memory-mapped: a state dict, or what ``torch.load`` gave.

    Args:
        state: Tensors by name; other values are left out.
        item: Name of the model for error messages.

    Raises:
        ItemError: If tensors overlap so much that reading them would take far longer than reading the file.
    """
    import torch

    seen: set[tuple[object, ...]] = set()
    storages: dict[int, int] = {}
    claimed = 0
    tensors = []
    # In alphabetical order, so that of shared tensors the same name is kept that safetensors keeps.
    for key in sorted(name for name in state if isinstance(name, str)):
        tensor = state[key]
        if not isinstance(tensor, torch.Tensor):
            continue
        shape, plain = tuple(tensor.shape), tensor.layout == torch.strided and not tensor.is_meta
        kind = str(tensor.dtype).removeprefix("torch.") if plain else f"{tensor.layout} on {tensor.device}"
        if tensor.is_floating_point() and kind in _KINDS:
            identity = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            if tensor.numel() and identity in seen:
                shape = (0,)  # it is there, and its values are read under the other name
            else:
                seen.add(identity)
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                claimed += tensor.numel() * tensor.element_size()
        tensors.append(TensorInfo(key, shape, _KINDS.get(kind, kind), tensor.detach))
    if claimed > _MOST_OVERLAP * (held := sum(storages.values())):
        text = f"{len(seen):,} tensors claim {claimed:,} bytes of the {held:,} that the file holds."
        raise ItemError(item, text, "Don't use this file: it is damaged, or made to exhaust time and memory.")
    return tensors


# --- whether that is one plain network ------------------------------------------------------------------------------

# Integers of these types are packed or scaled weights when they are matrices; int64 and booleans are indices and masks.
_PACKED = {"I8", "U8", "I16", "U16", "I32", "U32"}
_INDEX = re.compile(r"(mask|index|indices|_ids?$|position|queue|coords|num_batches|g_idx|(^|\.)bias$)")
_SCALES = re.compile(
    r"(\bSCB|_?scales?(_inv)?|scale_inv|zero_points?|qzeros|absmax|quant_map|quant_state.*|weight_format|input_scale)$"
)
_ADAPTER = re.compile(
    r"(^|\.|_)(lora_[A-Za-z]+|lora\.(up|down)|hada_w\d\w*|lokr_\w+|ia3_\w+|oft_\w+|vera_\w+|dora_scale|boft_\w+)(\.|$)"
)
# Names under which training keeps a network and its copy.
_COPY = re.compile(r"(teacher|student|ema|momentum|online|target|(encoder|backbone|network|net)_[qk]$|_k$|_q$)")
_PACKED_SHARE = 0.01
#: Integers from this share of all values on are worth a line in the failures table; indices have less.
WORTH_TELLING = 0.01
_MASKED = -100.0


def open_network(path: Path, item: str, prefer: str = "", member: str = "") -> StateReader:
    """Reader of the one network of a weight file, or of the best weight file in a folder.

    Attention masks (matrices of zeros and one very negative number, or minus infinity) are left out.

    Args:
        path: File or folder.
        item: Name of the model for error messages.
        prefer: Prefix of file names to be looked at first, such as ``open_clip`` in a folder with several formats.
        member: Which of several networks in the file is meant, such as ``teacher`` or ``encoder_q``.

    Raises:
        ItemError: If there is no weight file, it is damaged, unsafe or of an unknown format, is quantised or pruned, is
            an adapter, or holds a network and its copy.
    """
    file = weight_files.find_weights(path, item, prefer)
    if file.name.startswith("adapter_"):
        raise _adapter(item, file.name)
    shard_of = weight_files.shard_of_tensors(file, item) if file.name.endswith(weight_files.INDEX_ENDING) else {}
    shards = [weight_files.checked_file(file.parent / name, item) for name in sorted(set(shard_of.values()))]
    held: dict[str, list[TensorInfo]] = {}
    within, passed_over = member, tuple[str, ...]()
    for one in shards or [file]:
        if weight_files.is_safetensors(one):
            held[one.name] = safetensors_of(one, item)
        else:
            state, within, passed_over = weight_files.find_state(weight_files.load_torch(one, item), item, member)
            held[one.name] = tensors_of(state, item)
    absent = sorted(shard_of.items() - {(tensor.name, name) for name, some in held.items() for tensor in some})
    size = sum(one.stat().st_size for one in shards or [file])
    reader = StateReader(item, list(chain(*held.values())), size, passed_over, [name for name, _ in absent])
    reader = reader.member(within) if within else reader
    _check_quantised(reader)
    if adapters := [tensor.name for tensor in reader.tensors if _ADAPTER.search(tensor.name)]:
        raise _adapter(item, adapters[0])
    names = {tensor.name for tensor in reader.tensors}
    if pruned := [name for name in names if name.endswith("_orig") and name.removesuffix("orig") + "mask" in names]:
        text = f"The weights are pruned and kept beside their masks ({min(pruned)}), which are no weights."
        raise ItemError(item, text, "Make it permanent (torch.nn.utils.prune.remove) and save the model again.")
    _check_copies(reader)
    return _without_masks(reader)


def left_out(reader: StateReader) -> str:
    """What of a checkpoint isn't read, in words; empty where it is nothing but counters and indices."""
    notes = []
    if reader.passed_over:
        read, *others = reader.passed_over
        notes.append(f"{read} was read, not {' or '.join(others)} (the manifest's column member says which one).")
    values = sum(tensor.size for tensor in reader.left_out)
    share = values / (values + sum(tensor.size for tensor in reader.tensors))
    masks = [tensor for tensor in reader.left_out if tensor.dtype.startswith(("F", "BF"))]
    if share >= WORTH_TELLING or masks:
        largest = sorted(reader.left_out, key=lambda tensor: -tensor.size)[:3]
        names = ", ".join(f"{tensor.name} ({'mask' if tensor in masks else tensor.dtype})" for tensor in largest)
        notes.append(f"{share:.2%} of the values were left out, as they are no weights: {names}.")
    if reader.absent:
        # Of tied tensors some converters keep one and list both.
        told = listed(reader.absent, 3)
        notes.append(f"The index lists {len(reader.absent)} tensors that no shard holds ({told}): tied, or lost.")
    return " ".join(notes)


def _adapter(item: str, name: str) -> ItemError:
    text = f"The weights are an adapter ({name}), which means nothing without its base model."
    return ItemError(item, text, "Merge it into its base model (peft: merge_and_unload) and save the whole model.")


def _check_quantised(reader: StateReader) -> None:
    # Masks and indices are no weights, however large: a causal mask can be larger than a small network.
    unread = [tensor for tensor in reader.left_out if tensor.dtype != "BOOL" and not _INDEX.search(tensor.name)]
    packed = [tensor for tensor in unread if tensor.dtype in _PACKED and len(tensor.shape) > 1]
    named = [tensor for tensor in packed if re.search(r"(weight|packed|qweight|W_q|_data)$", tensor.name)]
    # Weights of eight bits are plain floats, unless a scale lies beside them.
    eight = {tensor.name.rpartition(".")[0]: tensor for tensor in reader.tensors if tensor.dtype.startswith("F8")}
    scaled = any(_SCALES.search(t.name) and t.name.rpartition(".")[0] in eight for t in reader.tensors)

    def size(tensors: Iterable[TensorInfo]) -> int:
        return sum(tensor.size for tensor in tensors)

    n_all = size((*reader.tensors, *reader.left_out))
    if named or scaled or size(packed) > _PACKED_SHARE * n_all:
        told, what = named or packed or [*eight.values()], "quantised, and need scales to be read"
    elif size(unread) > size(reader.tensors):
        told, what = unread, "of types that aren't read"
    else:
        return
    largest = max(told, key=lambda tensor: tensor.size)
    text = f"{size(told) / n_all:.0%} of the values are {what} ({largest.name}, {largest.dtype})."
    raise ItemError(reader.item, text, "Save the model in float32, float16 or bfloat16 (dequantised).")


def _check_copies(reader: StateReader) -> None:
    """Refuse a network beside a copy of it: two siblings with the same tensors that hold most of the values."""
    total = sum(tensor.size for tensor in reader.tensors)
    # Sizes of tensors by the parent, the sibling, and what is left of their names below it with their shapes.
    below: dict[str, dict[str, dict[tuple[object, ...], int]]] = defaultdict(lambda: defaultdict(dict))
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        for depth in range(min(len(parts) - 1, 3)):
            rest = ".".join(parts[depth + 1 :]), tensor.shape
            below[".".join(parts[:depth])][parts[depth]][rest] = tensor.size
    for children in below.values():
        # Numbered siblings are the blocks of one network.
        named = {name: shapes for name, shapes in children.items() if not name[-1:].isdigit()}
        names = sorted(named, key=lambda name: -sum(named[name].values()))[:4]
        for first, second in combinations(names, 2):
            shared = 2 * sum(size for key, size in named[first].items() if key in named[second])
            halves = sum(named[first].values()) + sum(named[second].values())
            alike = 0.8 if _COPY.search(first) and _COPY.search(second) else 1.0
            if len(named[first]) > 3 and shared >= alike * halves and shared > 0.5 * total:
                text = f"The file holds a network twice, as {first} and {second}."
                hint = f"Write which one is meant in the manifest's column member: {first} or {second}."
                raise ItemError(reader.item, text, hint)


def _without_masks(reader: StateReader) -> StateReader:
    masks = []
    for tensor in reader.tensors:
        # What may be one by its shape and name, so that little has to be read.
        if len(tensor.shape) > 1 and tensor.shape[-1] == tensor.shape[-2] and not tensor.name.endswith("weight"):
            kinds = np.unique(tensor.values())
            if kinds.size <= 2 and kinds[0] <= _MASKED and (kinds[1:] == 0).all():
                masks.append(tensor)
    rest = [tensor for tensor in reader.tensors if tensor not in masks]
    return replace(reader, tensors=rest, left_out=(*reader.left_out, *masks)) if masks else reader
