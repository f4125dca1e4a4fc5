"""The loaders of arrays and of what is drawn: npz, generated."""

import hashlib
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import Failure, ItemError, explained
from thesis_rec.base.files import load_arrays
from thesis_rec.images.dataset_source import READING_VERSION, ImageLimits, RawSplit, Source, Tell, register_loader
from thesis_rec.images.decoding import Scales, to_rgb
from thesis_rec.images.folders import local_source
from thesis_rec.images.labels import one_hot_classes
from thesis_rec.images.manifest import DatasetRow

# --- NPZ ---------------------------------------------------------------------------------------------------------


def _explained(path: Path, item: str) -> AbstractContextManager[None]:
    hint = "Write it again with numpy.savez_compressed, numbers and texts only."
    return explained(item, f"{path.name} is not a readable NPZ file ({{reason}}).", hint)


def _members(path: Path, item: str) -> list[ZipInfo]:
    with _explained(path, item), ZipFile(path) as archive:
        return archive.infolist()


def _fingerprint_npz(row: DatasetRow, root: Path, tell: Tell) -> str:
    # The checksums of a zip's directory say whether the content changed without reading it.
    found = _members(local_source(row, root), row.dataset_id)
    members = [(info.filename, info.file_size, info.CRC) for info in found]
    return hashlib.sha256(READING_VERSION + repr(members).encode()).hexdigest()


@register_loader("npz", _fingerprint_npz)
def open_npz(row: DatasetRow, root: Path, limits: ImageLimits) -> Source:
    """Arrays ``train_images, train_labels, test_images, test_labels`` (any split names), or ``images, labels``.

    Images are (N, H, W), (N, H, W, 3) or (N, 3, H, W); ``class_names`` is optional. Pickled objects are refused.
    Numbers other than bytes get one scale for all splits.
    """
    path = local_source(row, root)
    if not path.is_file():
        raise ItemError(row.dataset_id, f"{path} is no file.", "Use the loader folder for folders.")
    found = [info.filename for info in _members(path, row.dataset_id)]
    names = [name.removesuffix(".npy") for name in found if name.endswith(".npy")]
    with_images = [name for name in names if name == "images" or name.endswith("_images")]
    if not with_images:
        error = f"{path.name} holds no images; there are {', '.join(names[:20]) or 'no arrays'}."
        raise ItemError(row.dataset_id, error, "Store train_images and train_labels, or images and labels.")
    wanted = ["class_names", *with_images, *(f"{name.removesuffix('images')}labels" for name in with_images)]
    item, arrays = row.dataset_id, read_arrays(path, row.dataset_id, wanted)
    notes: list[str] = []
    images = {name: _channels_last(name, arrays[name], notes) for name in with_images}
    scales = Scales(image for pixels in images.values() if pixels.dtype != np.uint8 for image in pixels)
    hint = "Store bytes from 0 to 255, or fractions from 0 to 1, before any standardisation."
    with explained(item, "its images can't be read: {reason}.", hint):
        notes += scales.notes()
    class_names = _class_names(item, arrays)
    splits = {}
    for name, pixels in images.items():
        labels = _labels(item, name, arrays, path.name)
        fits = pixels.ndim in (3, 4) and pixels.shape[3:] in ((), (1,), (3,), (4,)) and 0 not in pixels.shape
        if not fits or labels.shape != pixels.shape[:1]:
            error = f"{name} has the shape {arrays[name].shape}, {name.removesuffix('images')}labels {labels.shape}."
            raise ItemError(
                item, error, "They must be (N, H, W), (N, H, W, 3) or (N, 3, H, W), and (N,), none of it 0."
            )
        read = partial(_read_pixels, pixels, scales, name)
        splits[name.removesuffix("images").removesuffix("_") or "all"] = RawSplit(labels, class_names, read)
    return Source(splits, tuple(Failure(item, note) for note in dict.fromkeys(notes)))


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


def _labels(item: str, images: str, arrays: Mapping[str, NDArray[Any]], file: str) -> NDArray[Any]:
    name = f"{images.removesuffix('images')}labels"
    if name not in arrays:
        raise ItemError(item, f"{file} lacks {name}.", f"Store both {images} and {name}.")
    labels = arrays[name]
    if labels.ndim == 2 and 1 in labels.shape:
        labels = labels.reshape(-1)
    classes = one_hot_classes(labels)
    return labels if classes is None else classes


def _read_pixels(pixels: NDArray[Any], scales: Scales, name: str, index: int) -> NDArray[np.uint8]:
    with explained(f"{name}[{index}]", "{reason}.", "Correct or remove the image."):
        return to_rgb(pixels[index], scales)


#: Largest uncompressed size of the arrays that are read at once.
MAX_BYTES = 8 << 30

#: An archive that unpacks to more than this, and to more than this many times its own size, only fills the memory.
_BOMB_BYTES, _BOMB_RATIO = 256 << 20, 100


def read_arrays(path: Path, item: str, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Some arrays of an NPZ file, if what they unpack to is less than :data:`MAX_BYTES` and like images.

    Raises:
        ItemError: If it is damaged, too large, lies about its size, or holds pickled objects.
    """
    total = sum(info.file_size for info in _members(path, item) if info.filename.removesuffix(".npy") in names)
    if total > min(MAX_BYTES, max(_BOMB_BYTES, _BOMB_RATIO * path.stat().st_size)):
        error = f"{path.name} of {path.stat().st_size} bytes unpacks to {total / 2**20:.0f} MiB."
        raise ItemError(item, error, f"Split it: at most {MAX_BYTES >> 20} MiB are read, and images hardly compress.")
    with _explained(path, item):
        return load_arrays(path, *names)


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

    def drawn(split: str, n: int) -> RawSplit:
        return RawSplit(np.repeat(classes, n), list(task.class_names), partial(_read_drawn, row.source, split, n))

    return Source({split: drawn(split, n) for split, n in sizes.items()})
