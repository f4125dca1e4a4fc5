"""The loaders of what lies on disk or is drawn: folder, npz, generated."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from thesis_rec.base.errors import Failure, ItemError
from thesis_rec.images.decoding import SUFFIXES, decode_image, to_rgb
from thesis_rec.images.loading import ImageLimits, RawSplit, Source, register_loader
from thesis_rec.images.manifest import DatasetRow
from thesis_rec.images.splits import class_codes

logger = logging.getLogger(__name__)

_SPLIT_FOLDERS = ("pretrain", "train", "training", "test", "testing", "validation", "valid", "val")
_FILENAME = "filename:"
_METADATA = "metadata.csv"


def _local(row: DatasetRow, root: Path) -> Path:
    """The row's source on disk.

    Raises:
        ItemError: If it isn't there.
    """
    path = Path(row.source).expanduser()
    path = path if path.is_absolute() else root / path
    if not path.exists():
        hint = "Correct the manifest's source column, or put the data there."
        raise ItemError(row.dataset_id, f"{path} doesn't exist.", hint)
    return path


# --- folder ------------------------------------------------------------------------------------------------------


def _fingerprint_folder(row: DatasetRow, root: Path) -> str:
    folder = _local(row, root)
    digest = hashlib.sha256()
    for path in _files(folder):
        # Name and size: reading a million files to see that nothing changed would take longer than the work.
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """All image files below a folder in a fixed order, hidden ones left out."""
    for base, folders, names in os.walk(folder):
        folders.sort()
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(names):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(base, name)


@register_loader("folder", _fingerprint_folder)
def open_folder(row: DatasetRow, root: Path, limits: ImageLimits) -> Source:
    """An image folder: ``[split/]class_name/*.png``; or files labelled by ``metadata.csv`` or by their names.

    Links that lead out of the folder are not followed: a class folder is skipped with a warning, a file is refused when
    it is read.
    """
    folder = _local(row, root)
    if not folder.is_dir():
        raise ItemError(row.dataset_id, f"{folder} is a file, not a folder.", "Use the loader npz for NPZ files.")
    split_names = tuple(name for name in _SPLIT_FOLDERS if (folder / name).is_dir())
    if split_names:
        class_names = sorted({name for split in split_names for name in _class_folders(folder / split)})
        return Source(split_names, lambda split: _folder_split(row, folder / split, folder, class_names, limits))
    return Source(("all",), lambda split: _folder_split(row, folder, folder, _class_folders(folder), limits))


def _class_folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _folder_split(row: DatasetRow, folder: Path, base: Path, class_names: list[str], limits: ImageLimits) -> RawSplit:
    warnings: list[Failure] = []
    if row.label_column.startswith(_FILENAME):
        paths, texts = _labels_from_names(row, folder)
    elif row.label_column:
        paths, texts = _labels_from_table(row, folder, base)
    else:
        paths, texts = [], []
        for name in class_names:
            if _leads_out(folder / name, base):
                error = f"the class folder {name!r} is a link that leads out of the dataset's folder; it is left out."
                warnings.append(Failure(row.dataset_id, error, "Copy the images into the folder."))
                continue
            found = list(_files(folder / name)) if (folder / name).is_dir() else []
            paths += found
            texts += [name] * len(found)
    names = class_names if not row.label_column else sorted(set(texts))
    index = {name: i for i, name in enumerate(names)}
    labels = np.array([index[text] for text in texts], dtype=np.int64)
    return RawSplit(labels, names, partial(_read_file, paths, base, limits.max_pixels), tuple(warnings))


def _labels_from_names(row: DatasetRow, folder: Path) -> tuple[list[Path], list[str]]:
    pattern = _compile(row)
    paths, texts = [], []
    for path in _files(folder):
        if (match := pattern.search(path.name)) and match.group(1):
            paths.append(path)
            texts.append(match.group(1))
    if not paths:
        error = f"no file name in {folder.name!r} matches {pattern.pattern!r}."
        raise ItemError(row.dataset_id, error, "Correct the regular expression in label_column.")
    return paths, texts


def _compile(row: DatasetRow) -> re.Pattern[str]:
    text = row.label_column.removeprefix(_FILENAME)
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ItemError(row.dataset_id, f"{text!r} is no regular expression ({error}).", "Correct it.") from error
    if pattern.groups < 1:
        hint = r"Put the label into parentheses, as in filename:^(\d+)_."
        raise ItemError(row.dataset_id, f"{text!r} has no group.", hint)
    return pattern


def _labels_from_table(row: DatasetRow, folder: Path, base: Path) -> tuple[list[Path], list[str]]:
    table_path = next((path for path in (folder / _METADATA, base / _METADATA) if path.is_file()), None)
    if table_path is None:
        error = f"label_column names a column, but there is no {_METADATA} in {folder.name!r}."
        raise ItemError(row.dataset_id, error, f"Add {_METADATA} with the columns file_name and {row.label_column}.")
    table = pd.read_csv(table_path, dtype=str, keep_default_na=False)
    file_column = row.image_column or "file_name"
    if missing := [name for name in (file_column, row.label_column) if name not in table]:
        error = f"{_METADATA} has no column {missing[0]!r}; there are {', '.join(table.columns)}."
        raise ItemError(row.dataset_id, error, "Correct image_column or label_column.")
    table = table[table[row.label_column].str.strip() != ""]
    return [folder / name for name in table[file_column]], table[row.label_column].tolist()


def _leads_out(path: Path, base: Path) -> bool:
    return not path.resolve().is_relative_to(base.resolve())


def _read_file(paths: list[Path], base: Path, max_pixels: int, index: int) -> Image.Image:
    path = paths[index]
    name = os.path.relpath(path, base)
    if _leads_out(path, base):
        raise ItemError(name, "the file leads out of the dataset's folder.", "Copy the image into the folder.")
    return decode_image(path, name, max_pixels)


# --- NPZ ---------------------------------------------------------------------------------------------------------


def _fingerprint_npz(row: DatasetRow, root: Path) -> str:
    path = _local(row, root)
    try:
        with ZipFile(path) as archive:
            # The checksums of a zip's directory say whether the content changed without reading it.
            members = [(info.filename, info.file_size, info.CRC) for info in archive.infolist()]
    except (BadZipFile, OSError) as error:
        raise _unreadable(path, row.dataset_id, error) from error
    return hashlib.sha256(repr(members).encode()).hexdigest()


@register_loader("npz", _fingerprint_npz)
def open_npz(row: DatasetRow, root: Path, limits: ImageLimits) -> Source:
    """Arrays ``train_images, train_labels, test_images, test_labels`` (any split names), or ``images, labels``.

    Images are (N, H, W) or (N, H, W, 3); ``class_names`` is optional. Pickled objects are refused.
    """
    path = _local(row, root)
    arrays = partial(read_arrays, path, row.dataset_id, limits.max_bytes)
    with_images = [name for name in _names(path, row) if name == "images" or name.endswith("_images")]
    if not with_images:
        error = f"{path.name} holds no images; there are {', '.join(_names(path, row)) or 'no arrays'}."
        raise ItemError(row.dataset_id, error, "Store train_images and train_labels, or images and labels.")
    split_names = tuple(name.removesuffix("images").removesuffix("_") or "all" for name in with_images)
    return Source(split_names, partial(_npz_split, row, path, arrays))


def _npz_split(row: DatasetRow, path: Path, arrays: Any, split: str) -> RawSplit:
    prefix = "" if split == "all" else f"{split}_"
    content = arrays((f"{prefix}images", f"{prefix}labels", "class_names"))
    images, labels = content.get(f"{prefix}images"), content.get(f"{prefix}labels")
    if images is None or labels is None:
        hint = f"Store both {prefix}images and {prefix}labels."
        raise ItemError(row.dataset_id, f"{path.name} lacks {prefix}images or {prefix}labels.", hint)
    if labels.ndim == 2 and 1 in labels.shape:
        labels = labels.reshape(-1)
    if images.ndim not in (3, 4) or labels.ndim != 1 or len(images) != len(labels):
        error = f"{prefix}images has the shape {images.shape}, {prefix}labels {labels.shape}."
        raise ItemError(row.dataset_id, error, "They must be (N, H, W) or (N, H, W, 3), and (N,).")
    names = content.get("class_names")
    codes, class_names = class_codes(labels, None if names is None else [str(name) for name in names])
    return RawSplit(codes, class_names, partial(_read_array, images, prefix))


def _read_array(images: NDArray[Any], prefix: str, index: int) -> NDArray[np.uint8]:
    try:
        return to_rgb(images[index])
    except ValueError as error:
        raise ItemError(f"{prefix}images[{index}]", f"{error}.", "Correct or remove the image.") from error


def _names(path: Path, row: DatasetRow) -> list[str]:
    try:
        with ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except (BadZipFile, OSError) as error:
        raise _unreadable(path, row.dataset_id, error) from error


def _unreadable(path: Path, item: str, error: Exception) -> ItemError:
    hint = "Write it again with numpy.savez_compressed."
    return ItemError(item, f"{path.name} is not a readable NPZ file ({error}).", hint)


def read_arrays(path: Path, item: str, max_bytes: int, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Some arrays of an NPZ file, after checking what they would take.

    A file's headers are compared with its directory first: an archive that would unpack to more than ``max_bytes``, or
    an array that claims more elements than its member holds, is refused before memory is reserved.

    Raises:
        ItemError: If it is damaged, too large, lies about its size, or holds pickled objects.
    """
    try:
        found = {}
        with ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = [members[name] for name in names if name in members]
            total = sum(info.file_size for info in wanted)
            if total > max_bytes:
                error = (
                    f"{path.name} unpacks to {total / 2**20:.0f} MiB, more than the {max_bytes / 2**20:.0f} allowed."
                )
                raise ItemError(item, error, "Split it, scale the images down, or raise max_bytes.")
            for info in wanted:
                with archive.open(info) as file:
                    shape, dtype, header = _header(file)
                    if dtype.hasobject:
                        error = f"{info.filename} in {path.name} holds pickled objects, which are not read."
                        raise ItemError(item, error, "Store numbers and strings only.")
                    if math.prod(shape) * dtype.itemsize + header > info.file_size:
                        error = f"{info.filename} in {path.name} claims the shape {shape} but holds less."
                        raise ItemError(item, error, "Write the file again.")
                with archive.open(info) as file:
                    found[info.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
        return found
    except ItemError:
        raise
    except (BadZipFile, OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise _unreadable(path, item, error) from error


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype, file.tell()


# --- generated ---------------------------------------------------------------------------------------------------


class _Generated:
    """Images that are drawn when the first one is asked for."""

    def __init__(self, task_id: str, split: str, n_per_class: int, seed: int) -> None:
        self._arguments = (task_id, split, n_per_class, seed)
        self._images: NDArray[np.uint8] | None = None

    def __call__(self, index: int) -> NDArray[np.uint8]:
        if self._images is None:
            from thesis_rec.tasks import generate_split

            self._images, _ = generate_split(*self._arguments)
        return self._images[index]


def _fingerprint_generated(row: DatasetRow, root: Path) -> str:
    # The generators' own code is versioned with the project.
    return f"generated:{row.source}"


@register_loader("generated", _fingerprint_generated)
def open_generated(row: DatasetRow, root: Path, limits: ImageLimits) -> Source:
    """A base task of the starter zoo, drawn from its formula; ``source`` is the task's id."""
    from thesis_rec import tasks

    if row.source not in tasks.BASE_TASKS:
        error = f"there is no generated task {row.source!r}."
        raise ItemError(row.dataset_id, error, "Use a task id of thesis_rec.tasks.BASE_TASKS.")
    task = tasks.BASE_TASKS[row.source]
    sizes = {"pretrain": tasks.PRETRAIN_PER_CLASS, "train": tasks.TRAIN_PER_CLASS, "test": tasks.TEST_PER_CLASS}

    def open_one(split: str) -> RawSplit:
        n = sizes[split]
        labels = np.repeat(np.arange(len(task.class_names), dtype=np.int64), n)
        # Seed 0 always: the images of the starter zoo are those on which it was measured.
        return RawSplit(labels, list(task.class_names), _Generated(row.source, split, n, 0))

    return Source(tuple(sizes), open_one)
