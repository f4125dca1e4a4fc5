"""Weight files from strangers: which file of a model's folder is meant, and reading PyTorch's without running them.

Known names come first, links are followed within the folder only, and archives that are bombs are refused.
"""

import json
import os
import pickle
import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thesis_rec.base.errors import ItemError, explained, listed
from thesis_rec.base.files import inside, placeholder

#: Ending of files that list the shards of a checkpoint.
INDEX_ENDING = ".index.json"

#: Names of weight files in a folder, best first: safetensors can't run code and are read without unpacking.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
    "model.pt",
)
#: Largest configuration or index that is read; real ones have some megabytes at most.
MOST_JSON_BYTES = 64 << 20
#: Endings of files that PyTorch wrote.
TORCH_ENDINGS = (".pth", ".th", ".pt", ".pkl", ".bin", ".ckpt", ".tar")
#: How an archive begins; torch.save writes one.
ARCHIVE = b"PK\x03\x04"
#: What to do about a damaged file.
DOWNLOAD_AGAIN = "Download or save it again."


def weight_names(prefer: str) -> list[str]:
    """Names of weight files, best first, those that begin with ``prefer`` before all others."""
    return sorted(WEIGHT_FILES, key=lambda name: not (prefer and name.startswith(prefer)))


def find_weights(path: Path, item: str, prefer: str = "") -> Path:
    """The weight file that a model is read from: ``path`` itself, or the best one in it.

    Raises:
        ItemError: If there is none, or it is a link that leads out of the model's folder.
    """
    if not path.is_dir():
        return checked_file(path, item)
    known = [path / name for name in weight_names(prefer) if os.path.lexists(path / name)]
    endings = (".safetensors", *TORCH_ENDINGS)
    found = known[:1] or sorted(file for file in path.iterdir() if file.name.endswith(endings))
    if not found:
        raise ItemError(item, f"{path} holds no weight file.", f"Add one of {', '.join(WEIGHT_FILES)}.")
    if len(found) > 1:
        names = listed([file.name for file in found], 5)
        hint = "Name one of them in the source column of the manifest."
        raise ItemError(item, f"{path} holds several weight files ({names}).", hint)
    return checked_file(found[0], item)


def shard_of_tensors(index: Path, item: str) -> dict[str, str]:
    """The shard in which each tensor is, as an index file says.

    Raises:
        ItemError: If the index is damaged, lists none, or names a file outside its folder.
    """
    with explained(item, f"{index.name} is no index of shards ({{reason}}).", DOWNLOAD_AGAIN):
        listed_in: dict[str, str] = {**json.loads(read_bounded(index))["weight_map"]}
        if not listed_in:
            raise ValueError("it lists none")
        for name in set(listed_in.values()):
            if name != Path(name).name or name in ("", ".", ".."):
                raise ValueError(f"it names {name!r}, which isn't a file beside it")
    return listed_in


def checked_file(file: Path, item: str) -> Path:
    """The file itself, if it is one and no link leads out of the model's folder to it.

    Raises:
        ItemError: If it is such a link, or doesn't exist.
    """
    folder = file.parent
    # The hub library's cache keeps files under blobs/ and links to them from snapshots/<commit>/.
    if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
        folder = folder.parents[1]
    if not inside(file, folder):
        text = f"{file.name} is a link that leads out of {folder}."
        raise ItemError(item, text, "Copy the file into the folder instead of linking to it.")
    check_ordinary(file, item)
    if not file.is_file():
        hint = "Correct the source column of the manifest, or add the file: download or save the model again."
        raise ItemError(item, f"{file} doesn't exist.", hint)
    return file


def check_ordinary(path: Path, item: str) -> None:
    """Refuse what may never end.

    Raises:
        ItemError: If it is neither a file nor a folder.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        text = f"{path} is no ordinary file but a pipe, a device or a socket."
        raise ItemError(item, text, "Remove it from the model's folder.")


def check_folder(folder: Path, item: str) -> None:
    """:func:`check_ordinary` all that a library may open in a folder, first names first."""
    for path in sorted(folder.rglob("*")):
        check_ordinary(path, item)


def read_bounded(path: Path) -> str:
    """The text of a configuration or an index.

    Raises:
        OSError: If it can't be read, or is larger than any real one.
    """
    if path.stat().st_size > MOST_JSON_BYTES:
        raise OSError(f"it has {path.stat().st_size:,} bytes, more than the {MOST_JSON_BYTES:,} allowed")
    return path.read_text(encoding="utf-8")


def is_safetensors(file: Path) -> bool:
    """Whether a weight file is one of safetensors, whatever its name: its header begins behind eight bytes."""
    with file.open("rb") as opened:
        return opened.read(9)[8:] == b"{"


_NESTED = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")

#: What training keeps beside the weights; its tensors are no network.
_NOT_NETWORKS = ("optimizer", "optimizer_state_dict", "optim", "lr_scheduler", "scheduler", "scaler", "amp_scaler")

# An archive may unpack to this many times its size (weights hardly compress), plus an allowance for tiny files.
_MAX_UNPACKED_RATIO = 10
_UNPACKED_ALLOWANCE = 1 << 20


def load_torch(file: Path, item: str) -> Any:
    """What a PyTorch file holds, without running any code of it; tensors stay on disk until they are used.

    Raises:
        ItemError: If it holds more than plain data, is damaged, or unpacks to much more than its size.
    """
    import torch

    # The unpickler meets arbitrary bytes here, and fails in as many ways as there are bytes.
    with explained(item, f"{file.name} is truncated, damaged or no PyTorch checkpoint ({{reason}}).", DOWNLOAD_AGAIN):
        if instead := placeholder(file):
            raise ItemError(item, f"{file.name} {instead}.", DOWNLOAD_AGAIN)
        with file.open("rb") as opened:
            head = opened.read(len(ARCHIVE))
        # Torch goes by the name, and has no other words for a file of its own that is called .safetensors.
        if file.suffix == ".safetensors" or not head.startswith((ARCHIVE, pickle.PROTO)):
            text = f"{file.name} is truncated, or not of the format that its name says."
            raise ItemError(item, text, "Save it again: as .safetensors, or model.state_dict() by torch.save as .pt.")
        if archive := head.startswith(ARCHIVE):
            _check_archive(file, item)
        try:
            # Files older than PyTorch 1.6 are no archives and can't be mapped.
            with torch.serialization.safe_globals(_plain_data()):
                return torch.load(file, map_location="cpu", weights_only=True, mmap=archive)
        except pickle.UnpicklingError as error:
            if "Unsupported" not in str(error) and "Weights only" not in str(error):
                raise
            reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "nsupported" in line), "")
            reason = textwrap.shorten(reason, 160, placeholder=" ...")
            text = f"{file.name} holds pickled code besides weights, and was refused. {reason}".strip()
            hint = "If you trust its origin, load it where it was made and save model.state_dict() alone."
            raise ItemError(item, text, hint) from error


def _plain_data() -> list[Any]:
    """Types without code of their own that training scripts keep beside weights: arguments, numbers and arrays."""
    import argparse

    import numpy as np
    from numpy.dtypes import BoolDType, Float32DType, Float64DType, Int32DType, Int64DType

    functions = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(0).__reduce__()[0]}
    # NumPy 1 wrote the same functions under an older name.
    names = [(one, f"numpy.{core}.multiarray.{name}") for name, one in functions.items() for core in ("core", "_core")]
    types = (BoolDType, Float32DType, Float64DType, Int32DType, Int64DType)
    return [argparse.Namespace, np.dtype, np.ndarray, *types, *names]


def _check_archive(file: Path, item: str) -> None:
    size = file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        names, unpacked = archive.namelist(), sum(entry.file_size for entry in archive.infolist())
    if unpacked > _MAX_UNPACKED_RATIO * size + _UNPACKED_ALLOWANCE:
        text = f"{file.name} has {size:,} bytes but would unpack to {unpacked:,}: a decompression bomb, refused."
        raise ItemError(item, text, "Don't use this file.")
    if any(name.split("/", 1)[-1] in ("constants.pkl", "code/") or "/code/" in name for name in names):
        text = f"{file.name} is a TorchScript archive: a program with weights, which isn't run."
        hint = "Load it with torch.jit.load where you trust it, and save its state_dict() with torch.save."
        raise ItemError(item, text, hint)


def find_state(content: Any, item: str, member: str = "") -> tuple[Mapping[str, Any], str, tuple[str, ...]]:
    """The state dict within a training checkpoint, where it may lie under ``state_dict``, ``model`` and the like.

    Args:
        content: What the file holds.
        item: Name of the model for error messages.
        member: Which of several networks is meant; empty where there is one.

    Returns:
        Tensors by name; what of ``member`` no level of the file was named after (a part of the tensors' names); and the
        networks that a usual name was preferred to without being asked for, that name first (``model, model_ema``).

    Raises:
        ItemError: If there is none, or several and ``member`` doesn't say which.
    """
    import torch

    passed_over: tuple[str, ...] = ()
    while isinstance(content, Mapping):
        inside = {
            str(key): size
            for key, value in content.items()
            if key not in _NOT_NETWORKS and isinstance(value, Mapping) and (size := _n_values(value))
        }
        first, _, rest = member.partition(".")
        if first in inside:
            content, member = content[first], rest
            continue
        usual = next((key for key in _NESTED if key in inside), None)
        if usual is None:
            if sum(isinstance(value, torch.Tensor) for value in content.values()) > len(inside):
                return content, member, passed_over
            if len(inside) != 1:
                break
            (usual,) = inside
        # A loss or a schedule may keep a tensor or two.
        others = tuple(key for key, size in inside.items() if key != usual and size >= inside[usual] / 2)
        passed_over = passed_over or ((usual, *others) if others else ())
        content = content[usual]
    if isinstance(content, Mapping) and inside:
        names = ", ".join(sorted(inside)[:8])
        named = f"has no network {member!r}" if member else "holds several networks"
        hint = f"Write one of them in the manifest's column member: {names}."
        raise ItemError(item, f"The file {named}; it has {names}.", hint)
    found = ", ".join(sorted(map(str, content))[:8]) if isinstance(content, Mapping) else type(content).__name__
    text = f"The file holds no state dict (tensors by name), but {found or 'nothing'}."
    raise ItemError(item, text, "Save model.state_dict() instead.")


def _n_values(content: Any) -> int:
    """Number of values of all tensors in nested mappings."""
    import torch

    if isinstance(content, torch.Tensor):
        return content.numel()
    return sum(map(_n_values, content.values())) if isinstance(content, Mapping) else 0
