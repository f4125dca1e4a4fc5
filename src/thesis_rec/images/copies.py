"""Copies among a dataset's images, and a training part that doesn't stand for the test part.

Copies between the parts make any figure too good, and copies under two labels make it meaningless. Files are compared
by size, then by content; images by small thumbnails, which are kept of the first images of each part as they are read.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from thesis_rec.base.files import file_state, sha256_file
from thesis_rec.base.settings import evenly

#: Images of a part that are compared in pairs, at most.
_MOST = 2000

#: Side of the thumbnails that are kept, in pixels: 3 KiB an image.
_SIDE = 32

#: Near copies: largest difference of their thumbnails' mean colours in levels, and of the thumbnails as a share of the
#: standard deviation of their details.
_LEVELS, _DETAIL = 2.0, 0.15

#: Pieces of a large file that are looked at, and their bytes.
_PIECES, _PIECE = 4, 1 << 15

#: By how much nearest neighbours must do better within the training part to be worth a note, and standard errors.
_GAP, _ERRORS = 0.15, 4.0

Pixels = NDArray[np.uint8]


def file_copies(parts: Mapping[str, Sequence[tuple[Path, str]]]) -> list[str]:
    """What files of equal content say about a dataset.

    Args:
        parts: Each split's files with their labels.

    Returns:
        Notes: copies in several splits, under several labels, within a split.
    """
    rows = [(split, label, path, path.stat().st_size) for split, images in parts.items() for path, label in images]
    table = pd.DataFrame(rows, columns=["split", "label", "path", "size"])
    table = table[table.duplicated("size", keep=False)]
    table = table.assign(content=[content_digest(path) for path in table["path"]])
    table = table[table.duplicated("content", keep=False)]
    copies = table.groupby("content")
    between, torn = (int((copies[key].transform("nunique") > 1).sum()) for key in ("split", "label"))
    notes = []
    if between:
        notes.append(f"{between} images have copies in another split: measured accuracies are too high.")
    if torn:
        notes.append(f"{torn} images have a copy under another label: no model can tell those apart.")
    if extra := len(table) - copies.ngroups:
        notes.append(f"{extra} of {len(rows)} images are copies of others.")
    return notes


def content_digest(path: Path) -> bytes:
    """SHA-256 of a file's content, read once in a process as long as nothing tells that the file changed."""
    try:
        return _digest(path, file_state(path))
    except OSError as error:
        # An unreadable file is the reader's to report; here it only differs from a readable one.
        return f"{type(error).__name__} {path}".encode("utf-8", "surrogateescape")


def sampled_digest(path: Path) -> bytes:
    """As :func:`content_digest`, but of a large file by its size and some pieces: datasets of many GB take seconds."""
    try:
        if (size := path.stat().st_size) <= _PIECES * _PIECE:
            return content_digest(path)
        with path.open("rb") as file:
            digest = hashlib.sha256(str(size).encode())
            for start in np.linspace(0, size - _PIECE, _PIECES).astype(int):
                file.seek(start)
                digest.update(file.read(_PIECE))
    except OSError:
        return content_digest(path)
    return digest.digest()


@lru_cache(maxsize=1 << 20)
def _digest(path: Path, _state: bytes) -> bytes:
    return bytes.fromhex(sha256_file(path))


class Glimpses:
    """Thumbnails of the images of a dataset's parts, taken as they pass; of each part as many as can be compared."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[int, tuple[str, Pixels]]] = defaultdict(dict)

    def add(
        self, part: str, positions: NDArray[np.integer], labels: Sequence[Any] | NDArray[Any], images: Pixels
    ) -> None:
        """Look at some images, evenly chosen of many; those seen before or beyond the limit are passed over.

        Args:
            part: ``train`` or ``test``.
            positions: (N,) what tells an image of the part from the others.
            labels: N class names or numbers.
            images: (N, H, W, 3).
        """
        seen = self._seen[part]
        for i in evenly(range(len(images)), _MOST):
            if len(seen) < _MOST and positions[i] not in seen:
                seen[int(positions[i])] = str(labels[i]), _thumbnail(images[i])

    def notes(self) -> list[str]:
        """What near copies, and nearest neighbours, say about the parts."""
        parts = [list(self._seen[part].values()) for part in ("train", "test")]
        if not parts[0]:
            return []
        a, b = (np.array([image for _, image in seen], np.float32).reshape(-1, _SIDE * _SIDE, 3) for seen in parts)
        labels, test_labels = (np.array([label for label, _ in seen], dtype=np.str_) for seen in parts)
        among, between = distances(a, a), distances(a, b)
        np.fill_diagonal(among, np.inf)
        within, across = _near(among, a, a), _near(between, a, b)
        notes = []
        if copied := int(across.any(axis=0).sum()):
            share = f"{copied} of {len(b)} test images looked at"
            notes.append(f"{share} are copies or near copies of training images: measured accuracies are too high.")
        if conflicts := int((within & (labels[:, None] != labels)).any(axis=1).sum()):
            notes.append(f"{conflicts} of {len(a)} training images looked at have a near copy under another label.")
        if (repeated := int(np.triu(within).any(axis=0).sum())) > 0.01 * len(a):
            notes.append(f"{repeated} of {len(a)} training images looked at are copies or near copies of others.")
        if len(b):
            inside = float((labels[among.argmin(axis=0)] == labels).mean())
            outside = float((labels[between.argmin(axis=0)] == test_labels).mean())
            error = np.sqrt(inside * (1 - inside) / len(a) + outside * (1 - outside) / len(b))
            if inside - outside > max(_GAP, _ERRORS * error):
                found = f"{inside:.0%} of its own images and of {outside:.0%} of the test images"
                text = "the training part is much easier than the test part: nearest neighbours find the class of"
                notes.append(f"{text} {found}.")
        return notes


def _thumbnail(image: NDArray[np.uint8]) -> Pixels:
    """(32, 32, 3) means of areas."""
    return np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX))


def distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, M) mean squared differences of (N, ...) and (M, ...) thumbnails."""
    size = math.prod(a.shape[1:])
    a, b = a.reshape(-1, size), b.reshape(-1, size)
    return np.maximum(np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T, 0) / np.float32(size)


def _near(apart: NDArray[np.float32], a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N, M) which thumbnails, (N, P, 3) and (M, P, 3) at these distances, are alike in colour and in detail."""
    tint = np.abs(a.mean(axis=1)[:, None] - b.mean(axis=1)).max(axis=2) <= _LEVELS
    details, others = (np.sqrt(some.var(axis=1).mean(axis=1)) for some in (a, b))
    spread = np.minimum(details[:, None], others)
    return tint & (np.sqrt(apart) <= np.maximum(_DETAIL * spread, 1.0))
