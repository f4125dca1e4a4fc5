"""What a source of labelled images gives, whatever it is: named splits, whose images are read when asked for.

A new kind of source is a function registered under the name that the manifest's ``loader`` column then takes::

    @register_loader("sketches")
    def open_sketches(row, root, limits):
        return Source({"train": RawSplit(labels, read), "test": RawSplit(others, read_other)}, class_names)
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from thesis_rec.base.errors import Failure, ItemError
from thesis_rec.base.settings import Seed, Settings
from thesis_rec.images.decoding import SUFFIXES
from thesis_rec.images.layout import files_below
from thesis_rec.images.manifest import DatasetRow

#: What was read by other rules (labels, scales, orientation) is encoded again.
READING_VERSION = b"2"


class ImageLimits(Settings):
    """How much of a dataset is used, and what is refused.

    Attributes:
        n_per_class: Largest number of images of each class; None for all.
        streaming: Whether hub datasets are read from start to end, for those larger than the disk.
        max_streamed: Number of images after which a stream is left.
        seed: Seed of split permutations and caps.
    """

    n_per_class: int | None = Field(default=None, ge=1)
    streaming: bool = False
    max_streamed: int = Field(default=1_000_000, ge=1)
    seed: Seed = 0


#: Decodes an image for a square of that side; for None as it is.
Decode = Callable[[int | None], Image.Image]
#: Reads an image, or gives what decodes it, where a smaller square takes less time.
Reader = Callable[[int], "NDArray[np.uint8] | Image.Image | Decode"]


@dataclass(frozen=True)
class RawSplit:
    """One split as its source has it.

    Attributes:
        labels: (N,) names, or numbers; an image without a label has an empty name, NaN or -1.
        read: Reads image i.
    """

    labels: NDArray[Any]
    read: Reader


@dataclass(frozen=True)
class FileNote(Failure):
    """A failure of files, which are passed over or read in part; the rest of their dataset is usable.

    Attributes:
        image: Name of the only one, or empty.
        reason: What is wrong with that.
    """

    image: str = ""
    reason: str = ""

    @classmethod
    def skipped(cls, dataset_id: str, error: ItemError) -> Self:
        """The failure of one image of a dataset."""
        return cls(dataset_id, f"skipped {error.item}: {error.error}", error.hint, error.item, error.error)


@dataclass(frozen=True)
class Source:
    """A dataset's splits by name.

    Attributes:
        splits: Its splits.
        class_names: Names that the numbers of all splits count, or that may occur; None if the labels say all.
        warnings: What was left out or assumed.
    """

    splits: Mapping[str, RawSplit]
    class_names: Sequence[str] | None = None
    warnings: tuple[Failure, ...] = ()


Loader = Callable[[DatasetRow, Path, ImageLimits], Source]
#: What tells one file from another: its content, or how it lies on the disk.
Tell = Callable[[Path], bytes]
Fingerprint = Callable[[DatasetRow, Path, Tell], str]


def local_source(row: DatasetRow, root: Path) -> Path:
    """The row's source on disk.

    Raises:
        ItemError: If it isn't there.
    """
    path = root / Path(row.source).expanduser()
    if not path.exists():
        hint = "Correct the manifest's source column, or put the data there."
        raise ItemError(row.dataset_id, f"{path} doesn't exist.", hint)
    return path


def hash_files(row: DatasetRow, root: Path, tell: Tell) -> str:
    """Fingerprint of a source on disk: of its files' paths and of what tells each, so that images may not swap classes.

    Raises:
        ItemError: If it isn't there.
    """
    source, digest = local_source(row, root), hashlib.sha256(READING_VERSION)

    def counts(path: Path) -> bool:
        # Beside images lies what has nothing to do with them, such as answers about them.
        read = row.loader != "folder" or path.suffix.lower() in SUFFIXES or path.stem == "metadata"
        return read and path.is_file()  # opening a pipe would wait for ever

    files = filter(counts, files_below(source)) if source.is_dir() else [source]
    for path in [*files, *([source / row.labels] if row.labels else [])]:
        digest.update(os.fsencode(os.path.relpath(path, source)) + b"\0" + tell(path))
    return digest.hexdigest()


#: What is registered, by the name of the loader.
LOADERS: dict[str, tuple[Loader, Fingerprint]] = {}


def register_loader(name: str, fingerprint: Fingerprint | None = None) -> Callable[[Loader], Loader]:
    """Make a loader available to manifests under ``name``.

    Args:
        name: Value of the manifest's ``loader`` column.
        fingerprint: Function of the row, the folder that sources are relative to, and of what tells one file; its text
            changes when the images do, and tokens are kept as long as it doesn't; :func:`hash_files` does for a source
            on disk. Without one they are kept as long as the row stays the same.
    """

    def register(loader: Loader) -> Loader:
        LOADERS[name] = loader, fingerprint or (lambda row, root, tell: "")
        return loader

    return register
