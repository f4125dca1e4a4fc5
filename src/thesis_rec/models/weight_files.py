"""Which file of a model's folder holds its weights: known names first, links only within the folder."""

from __future__ import annotations

import json
import os
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
#: Endings of files that PyTorch wrote.
TORCH_ENDINGS = (".pth", ".th", ".pt", ".pkl", ".bin", ".ckpt", ".tar")
#: What to do about a damaged file.
DOWNLOAD_AGAIN = "Download or save it again."


def find_weights(path: Path, item: str, prefer: str = "") -> Path:
    """The weight file that a model is read from: ``path`` itself, or the best one in it.

    Raises:
        ItemError: If there is none, or it is a link that leads out of the model's folder.
    """
    if path.is_file():
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
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
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
    if not file.is_file():
        raise ItemError(item, f"{file} doesn't exist.", "Download the model again: one of its files is missing.")
    return file
