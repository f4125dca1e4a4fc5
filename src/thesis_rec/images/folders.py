"""The loader ``folder``: class folders, or files labelled by a table or by their names."""

import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import Failure, ItemError, explained, listed
from thesis_rec.base.files import inside
from thesis_rec.base.settings import evenly
from thesis_rec.base.tables import read_csv
from thesis_rec.images.copies import file_copies
from thesis_rec.images.dataset_source import (
    Decode,
    FileNote,
    ImageLimits,
    RawSplit,
    Source,
    hash_files,
    local_source,
    register_loader,
)
from thesis_rec.images.decoding import SUFFIXES, Scales, decode_image, is_deep, open_image
from thesis_rec.images.labels import one_hot_classes
from thesis_rec.images.layout import files_below, path_name, read_layout, read_splits, split_role
from thesis_rec.images.manifest import DatasetRow

#: A file and its label.
Labelled = tuple[Path, str]

_FILENAME = "filename:"
_METADATA = "metadata.csv"

#: Endings of files that lie beside images and are none: not worth a note.
_BESIDE = frozenset({".txt", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".md", ".html", ".ini", ".db", ".py"})

#: Files that are opened to look at them, at most: a tenth of a second.
_LOOKED_AT = 1024

#: Files with values beyond 8 bits that are read to learn how far these reach, at most.
_DEEP = 256

#: Formats whose further frames are thumbnails.
_THUMBNAILS = ("JPEG", "MPO")

#: What stands near the end of files, by format, and in how many bytes there.
_ENDS, _TAIL = {"PNG": b"IEND", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9"}, 4096

#: Names of the columns of a table that are tried when none is given.
_FILE_COLUMNS = ("file_name", "filename", "file", "path", "image_path", "image", "image_id", "id")
_LABEL_COLUMNS = ("label", "class", "class_name", "category", "target")

_SPLIT_COLUMNS = ("split", "set", "subset", "partition")


def _images_below(folder: Path, base: Path, skipped: Counter[str]) -> Iterator[Path]:
    """All image files below a folder in a fixed order, hidden ones left out; what can't be read is counted by kind."""
    for path in files_below(folder):
        if path.suffix.lower() in _BESIDE:
            continue
        if reason := _unusable(path, base):
            skipped[reason] += 1
        else:
            yield path


def _unusable(path: Path, base: Path) -> str:
    """Why a file is no image that may be read, as a plural noun; empty if it is one."""
    try:
        found = path.stat()
    except OSError:
        return "links that lead nowhere"
    if stat.S_ISDIR(found.st_mode):
        return "folders that are links"
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        usual = suffix[1:].isascii() and suffix[1:].isalnum() and len(suffix) <= 8
        return f"{suffix} files" if usual else "files of no known kind"
    if path.is_symlink() and not inside(path, base):
        return "links that lead outside"
    if not stat.S_ISREG(found.st_mode):
        return "pipes or devices"
    return "" if found.st_size else "empty files (0 bytes)"


@register_loader("folder", hash_files)
def open_folder(row: DatasetRow, root: Path, limits: ImageLimits) -> Source:
    """An image folder: ``[split/]class_name/*.png``; or files labelled by a table or by their names.

    Links that lead out of the folder are not followed; such files, and those of unknown formats, are counted.
    """
    folder = local_source(row, root)
    if not folder.is_dir():
        raise ItemError(row.dataset_id, f"{folder} is a file, not a folder.", "Use the loader npz for NPZ files.")
    skipped: Counter[str] = Counter()
    notes: list[str] = []
    names: list[str] | None = None
    found: dict[str, list[Labelled]] = {}
    if row.label_column.startswith(_FILENAME):
        pattern = _compile(row)
        for split, place in read_splits(folder).items():
            matches = [(path, pattern.search(path.name)) for path in _images_below(place, folder, skipped)]
            found[split] = [(path, match[1]) for path, match in matches if match and match[1]]
            skipped[f"files in whose names {pattern.pattern!r} finds no label"] += len(matches) - len(found[split])
    elif row.label_column or row.labels:
        for split, place in read_splits(folder).items():
            for image, part in _labels_from_table(row, place, folder, skipped, notes):
                found.setdefault(part if part and split == "all" else split, []).append(image)
    else:
        layout = read_layout(folder, row.dataset_id)
        names, notes = layout.class_names, list(layout.notes)
        for split, classes in layout.splits.items():
            # A link to a folder above would make the classes a class.
            linked = [name for name, place in classes.items() if not inside(place, folder) or inside(folder, place)]
            own = {name: place for name, place in classes.items() if name not in linked}
            found[split] = [(path, name) for name in own for path in _images_below(own[name], folder, skipped)]
            if linked:
                what = "class folders that are links and lead out of the dataset's folder, or back to it,"
                notes.append(f"{what} are left out: {listed([repr(name) for name in linked], 5)}.")
        outside = sum(1 for path in layout.base.iterdir() if path.suffix.lower() in SUFFIXES)
        skipped["images outside of the class folders"] += outside
        tables = sorted(path.name for path in layout.base.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
        if (outside and not names) or (tables and len(names) == 1):
            has = f"one class only, {names[0]!r}" if names else f"{outside} images but no class folders"
            hint = f"Make one folder for each class, or name a table of labels (--labels {(*tables, 'labels.csv')[0]})."
            raise ItemError(row.dataset_id, f"it has {has}.", hint)
    found = found or {"all": []}
    files = {split: [path for path, _ in images] for split, images in found.items()}
    everything = [path for paths in files.values() for path in paths]
    failures, scales = _looked_at(row.dataset_id, everything, folder)
    if skipped.total():
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items()) if count)
        counts = f"{len(everything)} of {len(everything) + skipped.total()} files can be images; not read: {kinds}."
        failures.insert(0, FileNote(row.dataset_id, counts))
    with suppress(ValueError):  # each image says so when it is read
        notes += scales.notes()
    notes += file_copies(found)
    splits = {}
    for split, images in found.items():
        labels = np.array([text for _, text in images], dtype=np.str_)
        splits[split] = RawSplit(labels, partial(_read_file, files[split], folder, scales))
    return Source(splits, names, (*(Failure(row.dataset_id, note) for note in notes), *failures))


def _looked_at(item: str, paths: Sequence[Path], base: Path) -> tuple[list[Failure], Scales]:
    """Which files can't be read, how many are animations or documents of several pages, and the scales of deep ones.

    Of many some are opened, and only those that seem to be cut off are decoded.

    Args:
        item: The dataset.
        paths: Its files.
        base: The dataset's folder.
    """
    failures, frames, deep, looked_at = list[Failure](), Counter[str](), list[Path](), evenly(paths, _LOOKED_AT)
    for path in looked_at:
        try:
            with open_image(path, path_name(path, base)) as image:
                frames[str(image.format)] += getattr(image, "is_animated", False) and image.format not in _THUMBNAILS
                if is_deep(image.mode):
                    deep.append(path)
                if _is_cut_off(path, image.format):
                    image.load()
        except ItemError as error:
            failures.append(FileNote.skipped(item, error))
    if frames.total():
        among = f" (of {len(looked_at)} looked at)" if len(looked_at) < len(paths) else ""
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(frames.items()) if count)
        failures.append(FileNote(item, f"files with more than one frame{among}: {found}; the first frame is read."))
    return failures, Scales(_values(deep))


def _values(deep: Sequence[Path]) -> Iterator[NDArray[np.generic]]:
    """What files with values beyond 8 bits hold; of many some are read."""
    for path in evenly(deep, _DEEP):
        with suppress(ItemError), open_image(path, "") as image:  # unreadable ones are reported when they are read
            yield np.asarray(image)


def _is_cut_off(path: Path, kind: str | None) -> bool:
    """Whether a file lacks what stands at the end of its format."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL, 0))
        return _ENDS.get(kind or "", b"") not in file.read()


def _compile(row: DatasetRow) -> re.Pattern[str]:
    text = row.label_column.removeprefix(_FILENAME)
    with explained(row.dataset_id, f"{text!r} is no regular expression ({{reason}}).", "Correct it."):
        pattern = re.compile(text)
    if pattern.groups < 1:
        hint = r"Put the label into parentheses, as in filename:^(\d+)_."
        raise ItemError(row.dataset_id, f"{text!r} has no group.", hint)
    return pattern


def _labels_from_table(
    row: DatasetRow, folder: Path, base: Path, skipped: Counter[str], notes: list[str]
) -> Iterator[tuple[Labelled, str]]:
    """Files with their labels, and the splits that a column of the table gives, if one does."""
    places = (base / row.labels,) if row.labels else (folder / _METADATA, base / _METADATA)
    table_path = next((path for path in places if path.is_file()), None)
    if table_path is None:
        error = f"there is no table {row.labels or _METADATA} in {folder.name!r}."
        raise ItemError(row.dataset_id, error, "Add it, with the columns file_name and label.")
    table = read_csv(table_path, row.dataset_id, dtype=str, keep_default_na=False)
    # Columns without a name are numbers of rows that other programs wrote.
    table = table.loc[:, ~table.columns.str.match("Unnamed: |$")]
    names = table.pop(row.column("image_column", [*table], _FILE_COLUMNS, table_path.name))
    split_column = _split_column(table, notes)
    splits = table.pop(split_column) if split_column else [""] * len(table)
    labels = _table_labels(row, table, table_path.name)
    below = _images_below(folder, base, skipped)
    known = {os.path.relpath(path, place): path for path in below for place in (folder, base)}
    # Tables of identifiers name no ending, and many of them no folder.
    short: dict[str, set[Path]] = defaultdict(set)
    for name, path in known.items():
        for part in (os.path.splitext(name)[0], path.name, path.stem):
            short[part].add(path)
    named = set()
    # An image that is listed twice alike is one image: a copy to test on would be one to train on.
    for cell, text, part in dict.fromkeys(zip(names, labels, splits, strict=True)):
        name = os.path.relpath(os.path.join(base, cell.replace("\\", "/")), base)
        meant = {known[name]} if name in known else short.get(name, set())
        if len(meant) == 1:
            named |= meant
            yield (next(iter(meant)), text), part
        elif meant:
            skipped["names of the table that several files have"] += 1
        elif not os.path.lexists(os.path.join(base, name)) and not os.path.lexists(os.path.join(folder, name)):
            skipped["files of the table that don't exist"] += text != ""
        elif name.startswith(".."):
            skipped["files of the table that lead outside"] += 1
    skipped["files that the table doesn't list"] += len(set(known.values()) - named)


def _table_labels(row: DatasetRow, table: pd.DataFrame, name: str) -> list[str]:
    """The labels of a table: a column's cells, or the names of the columns that hold a single 1 among zeros."""
    if not row.label_column and not any(str(column).lower() in _LABEL_COLUMNS for column in table):
        classes = one_hot_classes(table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64))
        if classes is not None:
            return [str(table.columns[c]) for c in classes]
    return list(table[row.column("label_column", [*table], _LABEL_COLUMNS, name)])


def _split_column(table: pd.DataFrame, notes: list[str]) -> str:
    """The column that tells each file's split; empty without one, noted if it isn't used."""
    for column in (str(column) for column in table if str(column).lower() in _SPLIT_COLUMNS):
        strange = next((cell for cell in table[column] if not split_role(cell, exact=True)), None)
        if strange is None:
            return column
        notes.append(f"the column {column!r} holds {strange!r}, which names no split, and isn't used.")
    return ""


def _read_file(paths: list[Path], base: Path, scales: Scales, index: int) -> Decode:
    return partial(decode_image, paths[index], path_name(paths[index], base), scales)
