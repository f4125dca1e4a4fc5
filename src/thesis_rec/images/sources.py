"""The loaders of arrays and of what is drawn: npz, generated."""

import re
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import Failure, ItemError, explained, listed
from thesis_rec.base.files import load_arrays
from thesis_rec.images.dataset_source import ImageLimits, RawSplit, Source, hash_files, local_source, register_loader
from thesis_rec.images.decoding import Scales, to_rgb
from thesis_rec.images.labels import one_hot_classes
from thesis_rec.images.manifest import DatasetRow

# --- NPZ ---------------------------------------------------------------------------------------------------------


#: Largest uncompressed size of the arrays that are read at once.
MAX_BYTES = 8 << 30

#: An archive that unpacks to more than this, and to more than this many times its own size, only fills the memory.
_BOMB_BYTES, _BOMB_RATIO = 256 << 20, 100

_ARRAY = re.compile(r"((.+_)?(images|labels)|class_names)\.npy")


@register_loader("npz", hash_files)
def open_npz(row: DatasetRow, root: Path, limits: ImageLimits) -> Source:
    """Arrays ``train_images, train_labels, test_images, test_labels`` (any split names), or ``images, labels``.

    Images are (N, H, W), (N, H, W, 3) or (N, 3, H, W); ``class_names`` is optional. Pickled objects are refused.
    Numbers other than bytes get one scale for all splits.
    """
    path, item = local_source(row, root), row.dataset_id
    if not path.is_file():
        raise ItemError(item, f"{path} is no file.", "Use the loader folder for folders.")
    arrays, notes = read_arrays(path, item), list[str]()
    images = {name: _channels_last(name, array, notes) for name, array in arrays.items() if name.endswith("images")}
    scales = Scales(image for pixels in images.values() if pixels.dtype != np.uint8 for image in pixels)
    hint = "Store bytes from 0 to 255, or fractions from 0 to 1, before any standardisation."
    with explained(item, "its images can't be read: {reason}.", hint):
        notes += scales.notes()
    splits = {}
    for name, pixels in images.items():
        split = name.removesuffix("images")
        if f"{split}labels" not in arrays:
            raise ItemError(item, f"{path.name} lacks {split}labels.", f"Store both {name} and {split}labels.")
        labels = arrays[f"{split}labels"]
        if labels.ndim == 2 and 1 in labels.shape:
            labels = labels.reshape(-1)
        elif (classes := one_hot_classes(labels)) is not None:
            labels = classes
        fits = pixels.ndim in (3, 4) and pixels.shape[3:] in ((), (1,), (3,), (4,)) and 0 not in pixels.shape
        if not fits or labels.shape != pixels.shape[:1]:
            error = f"{name} has the shape {arrays[name].shape}, {split}labels {labels.shape}."
            hint = "They must be (N, H, W), (N, H, W, 3) or (N, 3, H, W), and (N,), none of it 0."
            raise ItemError(item, error, hint)
        splits[split.removesuffix("_") or "all"] = RawSplit(labels, partial(_read_pixels, pixels, scales, name))
    told = tuple(Failure(item, note) for note in dict.fromkeys(notes))
    return Source(splits, _class_names(item, arrays), told)


def read_arrays(path: Path, item: str) -> dict[str, NDArray[Any]]:
    """The images, labels and class names of an NPZ file, if what they unpack to is like images.

    Raises:
        ItemError: If it holds no images, is damaged, too large, lies about its size, or holds pickled objects.
    """
    hint = "Write it again with numpy.savez_compressed, numbers and texts only."
    with explained(item, f"{path.name} is not a readable NPZ file ({{reason}}).", hint):
        with ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
        wanted = [name for name in sizes if _ARRAY.fullmatch(name)]
        if not any(name.endswith("images.npy") for name in wanted):
            there = listed([name.removesuffix(".npy") for name in sizes if name.endswith(".npy")], 20) or "no arrays"
            error = f"{path.name} holds no images; there are {there}."
            raise ItemError(item, error, "Store train_images and train_labels, or images and labels.")
        total, packed = sum(sizes[name] for name in wanted), path.stat().st_size
        if total > min(MAX_BYTES, max(_BOMB_BYTES, _BOMB_RATIO * packed)):
            error = f"{path.name} of {packed} bytes unpacks to {total / 2**20:.0f} MiB."
            hint = f"Split it: at most {MAX_BYTES >> 20} MiB are read, and images hardly compress."
            raise ItemError(item, error, hint)
        return load_arrays(path, *(name.removesuffix(".npy") for name in wanted))


def _channels_last(name: str, pixels: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    if pixels.ndim == 4 and pixels.shape[3] not in (1, 3, 4) and pixels.shape[1] in (1, 3, 4):
        notes.append(f"{name} has the shape {pixels.shape}: its channels come first.")
        return pixels.transpose(0, 2, 3, 1)
    return pixels


def _class_names(item: str, arrays: Mapping[str, NDArray[Any]]) -> list[str] | None:
    names = arrays.get("class_names")
    if names is None:
        return None
    if names.ndim != 1 or names.dtype.kind not in "US":
        error = f"class_names has the shape {names.shape} and holds {names.dtype}."
        raise ItemError(item, error, "Store an array of texts, one for each class.")
    return (np.char.decode(names, "utf-8", "replace") if names.dtype.kind == "S" else names).tolist()


def _read_pixels(pixels: NDArray[Any], scales: Scales, name: str, index: int) -> NDArray[np.uint8]:
    with explained(f"{name}[{index}]", "{reason}.", "Correct or remove the image."):
        return to_rgb(pixels[index], scales)


# --- generated ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _drawn(task_id: str, split: str, n_per_class: int) -> NDArray[np.uint8]:
    from thesis_rec.tasks import generate_split

    # Seed 0 always: the images of the starter zoo are those on which it was measured.
    return generate_split(task_id, split, n_per_class, 0)[0]


def _read_drawn(task_id: str, split: str, n_per_class: int, index: int) -> NDArray[np.uint8]:
    return _drawn(task_id, split, n_per_class)[index]


# The generators' own code is versioned with the project: the row tells all.
@register_loader("generated", lambda row, root, tell: f"generated:{row.source}")
def open_generated(row: DatasetRow, root: Path, limits: ImageLimits) -> Source:
    """A base task of the starter zoo, drawn from its formula; ``source`` is the task's id."""
    from thesis_rec import tasks

    if row.source not in tasks.BASE_TASKS:
        error = f"there is no generated task {row.source!r}."
        raise ItemError(row.dataset_id, error, "Use a task id of thesis_rec.tasks.BASE_TASKS.")
    task = tasks.BASE_TASKS[row.source]
    sizes = {"pretrain": tasks.PRETRAIN_PER_CLASS, "train": tasks.TRAIN_PER_CLASS, "test": tasks.TEST_PER_CLASS}
    classes = np.arange(len(task.class_names), dtype=np.int64)
    splits = {
        split: RawSplit(np.repeat(classes, n), partial(_read_drawn, row.source, split, n)) for split, n in sizes.items()
    }
    return Source(splits, task.class_names)
