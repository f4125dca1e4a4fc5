"""Whether a checkpoint is one plain network, which is all that its values can describe.

Read number by number, a quantised matrix without its scale, an adapter without its base or two copies of a network in
one file would give a vector like any other, and a wrong one. They are refused with what they are.
"""

import re
from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from thesis_rec.base.errors import ItemError, listed
from thesis_rec.models.checkpoint_reader import StateReader, open_checkpoint
from thesis_rec.models.weight_files import find_weights

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
    """Reader of the one network of a checkpoint.

    Attention masks (matrices of zeros and one very negative number, or minus infinity) are left out.

    Args:
        path: File or folder.
        item: Name of the model for error messages.
        prefer: Prefix of file names to be looked at first, such as ``open_clip`` in a folder with several formats.
        member: Which of several networks in the file is meant, such as ``teacher`` or ``encoder_q``.

    Raises:
        ItemError: If it can't be read, is quantised or pruned, is an adapter, or holds a network and its copy.
    """
    file = find_weights(path, item, prefer)
    if file.name.startswith("adapter_"):
        raise _adapter(item, file.name)
    reader = open_checkpoint(file, item, member)
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
    matrices = [tensor for tensor in reader.left_out if tensor.dtype in _PACKED and len(tensor.shape) > 1]
    packed = [tensor for tensor in matrices if not _INDEX.search(tensor.name)]
    n_packed, n_all = sum(t.size for t in packed), sum(t.size for t in (*reader.tensors, *reader.left_out))
    # Weights of eight bits are plain floats, unless a scale lies beside them.
    eight = {tensor.name.rpartition(".")[0] for tensor in reader.tensors if tensor.dtype.startswith("F8")}
    scaled = [t for t in reader.tensors if _SCALES.search(t.name) and t.name.rpartition(".")[0] in eight]
    named = [t for t in packed if re.search(r"(weight|packed|qweight|W_q|_data)$", t.name)]
    if named or scaled or n_packed > _PACKED_SHARE * n_all:
        example = (named or scaled or packed)[0]
        share = (n_packed or sum(t.size for t in reader.tensors if t.dtype.startswith("F8"))) / n_all
        where = f"{share:.0%} of the values ({example.name}, {example.dtype})"
        text = f"The weights are quantised: {where} need scales to be read."
        raise ItemError(reader.item, text, "Save the model in float32, float16 or bfloat16 (dequantised).")
    # Masks and indices are no weights, however large: a causal mask can be larger than a small network.
    unread = [tensor for tensor in reader.left_out if tensor.dtype != "BOOL" and not _INDEX.search(tensor.name)]
    n_unread, n_read = sum(tensor.size for tensor in unread), sum(tensor.size for tensor in reader.tensors)
    if n_unread > n_read:
        largest = max(unread, key=lambda tensor: tensor.size)
        share = n_unread / (n_unread + n_read)
        text = f"{share:.0%} of the values are of types that aren't read ({largest.name}, {largest.dtype})."
        raise ItemError(reader.item, text, "Save the model in float32, float16 or bfloat16.")


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
