"""Which file of a model's folder holds its weights: known names first, links only within the folder."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from thesis_rec.base.errors import ItemError

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
#: What to do about a damaged file.
DOWNLOAD_AGAIN = "Download or save it again."


def find_weights(path: Path, item: str, prefer: str = "") -> Path:
    """The weight file that a model is read from: ``path`` itself, or the best one in it.

    Raises:
        ItemError: If there is none, or it is a link that leads out of the model's folder.
    """
    if os.path.lexists(path) and not path.is_dir():
        return checked_file(path, item)
    if not path.is_dir():
        raise ItemError(item, f"{path} doesn't exist.", "Correct the source column of the manifest, or add the file.")
    known = sorted(WEIGHT_FILES, key=lambda name: not (prefer and name.startswith(prefer)))
    for name in known:
        if os.path.lexists(path / name):
            return checked_file(path / name, item)
    endings = (".safetensors", *TORCH_ENDINGS)
    other = sorted(file for file in path.iterdir() if file.name.endswith(endings))
    if len(other) == 1:
        return checked_file(other[0], item)
    if other:
        names = ", ".join(file.name for file in other[:5])
        hint = "Name one of them in the source column of the manifest."
        raise ItemError(item, f"{path} holds several weight files ({names}).", hint)
    raise ItemError(item, f"{path} holds no weight file.", f"Add one of {', '.join(WEIGHT_FILES)}.")


def shard_names(index: Path, item: str) -> list[str]:
    """Names of the shards that an index file lists.

    Raises:
        ItemError: If the index is damaged or names a file outside its folder.
    """
    try:
        names = sorted(set(json.loads(read_bounded(index))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ItemError(item, f"{index.name} is no index of shards ({error}).", DOWNLOAD_AGAIN) from error
    if not names:
        raise ItemError(item, f"{index.name} lists no shards.", DOWNLOAD_AGAIN)
    for name in names:
        if not isinstance(name, str) or name != Path(name).name or name in ("", ".", ".."):
            text = f"{index.name} names {name!r}, which isn't a file beside it."
            raise ItemError(item, text, "Don't use this model.")
    return names


def inside(path: Path, folder: Path) -> bool:
    """Whether ``path``, all links followed, lies in ``folder``."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


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
    if special := special_kind(file):
        raise ItemError(item, f"{file} is {special}, no ordinary file.", "Name a file that holds weights.")
    if not file.is_file():
        raise ItemError(item, f"{file} doesn't exist.", "Download the model again: one of its files is missing.")
    return file


def special_kind(path: Path) -> str:
    """What a path is that is neither a file nor a folder (reading one may never end), in words; empty otherwise."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    kinds = {
        "a pipe": stat.S_ISFIFO,
        "a device": lambda m: stat.S_ISCHR(m) or stat.S_ISBLK(m),
        "a socket": stat.S_ISSOCK,
    }
    return next((name for name, matches in kinds.items() if matches(mode)), "")


def check_folder(folder: Path, item: str) -> None:
    """Refuse a folder that a library is to load from if it holds pipes, devices or sockets.

    Raises:
        ItemError: Naming the first of them.
    """
    for path in sorted(folder.rglob("*")):
        if special := special_kind(path):
            raise ItemError(item, f"{path} is {special}, no ordinary file.", "Remove it from the model's folder.")


def read_bounded(path: Path) -> str:
    """The text of a configuration or an index.

    Raises:
        OSError: If it can't be read, is a pipe or device, or is larger than any real one.
    """
    if special := special_kind(path):
        raise OSError(f"it is {special}, no ordinary file")
    if path.stat().st_size > MOST_JSON_BYTES:
        raise OSError(f"it has {path.stat().st_size:,} bytes, more than the {MOST_JSON_BYTES:,} allowed")
    return path.read_text(encoding="utf-8")
