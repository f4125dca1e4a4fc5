"""Copies among a dataset's images, and a training part that doesn't stand for the test part.

Copies between the parts make any figure too good, and copies under two labels make it meaningless. Files are compared
by size, then by content; images in memory by a difference hash whose matches are confirmed on small thumbnails.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Images of a part that are compared in pairs, at most.
_MOST = 2000

#: Near copies: largest number of differing bits of their hashes, largest mean difference of their thumbnails in levels,
#: and of their details as a share of the details' standard deviation.
_BITS, _LEVELS, _DETAIL = 4, 2.0, 0.15

#: By how much nearest neighbours must do better within the training part to be worth a note, and standard errors.
_GAP, _ERRORS = 0.15, 4.0

Pixels = NDArray[np.uint8]


def file_copies(parts: Mapping[str, tuple[Sequence[Path], Sequence[str]]]) -> list[str]:
    """What files of equal content say about a dataset.

    Args:
        parts: Paths and labels of each split.

    Returns:
        Notes: copies in several splits, under several labels, within a split.
    """
    by_size: dict[int, list[tuple[str, str, Path]]] = defaultdict(list)
    for split, (paths, labels) in parts.items():
        for path, label in zip(paths, labels, strict=True):
            by_size[path.stat().st_size].append((split, label, path))
    groups: dict[bytes, list[tuple[str, str, Path]]] = defaultdict(list)
    for same in by_size.values():
        for found in same if len(same) > 1 else []:
            groups[content_digest(found[2])].append(found)
    copies = [group for group in groups.values() if len(group) > 1]
    notes = []
    if between := sum(len(group) for group in copies if len({split for split, _, _ in group}) > 1):
        notes.append(f"{between} images have copies in another split: measured accuracies are too high.")
    if torn := sum(len(group) for group in copies if len({label for _, label, _ in group}) > 1):
        notes.append(f"{torn} images have a copy under another label: no model can tell those apart.")
    if extra := sum(len(group) - 1 for group in copies):
        notes.append(f"{extra} of {sum(len(paths) for paths, _ in parts.values())} images are copies of others.")
    return notes


def content_digest(path: Path) -> bytes:
    """SHA-256 of a file's content, read once in a process as long as nothing tells that the file changed."""
    try:
        facts = os.stat(path)
        return _digest(path, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    except OSError as error:
        # An unreadable file is the reader's to report; here it only differs from a readable one.
        return f"{type(error).__name__} {path}".encode("utf-8", "surrogateescape")


@lru_cache(maxsize=1 << 20)
def _digest(path: Path, *_facts: int) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def pixel_notes(
    train: Pixels, train_labels: NDArray[np.int64], test: Pixels, test_labels: NDArray[np.int64]
) -> list[str]:
    """What near copies, and nearest neighbours, say about two parts of a dataset.

    Args:
        train: (N, S, S, 3).
        train_labels: (N,).
        test: (M, S, S, 3).
        test_labels: (M,).
    """
    first, second = _some(len(train)), _some(len(test))
    a, b = _thumbnails(train[first], 9), _thumbnails(test[second], 9)
    fine_a, fine_b = _thumbnails(train[first], 32), _thumbnails(test[second], 32)
    across = _near(a, b, fine_a, fine_b)
    within = _near(a, a, fine_a, fine_a)
    np.fill_diagonal(within, False)
    notes = []
    if copied := int(across.any(axis=0).sum()):
        share = f"{copied} of {len(b)} test images"
        notes.append(f"{share} are copies or near copies of training images: measured accuracies are too high.")
    if conflicts := int((within & (train_labels[first][:, None] != train_labels[first])).any(axis=1).sum()):
        notes.append(f"{conflicts} of {len(a)} training images have a near copy under another label.")
    repeated = int(np.triu(within).any(axis=0).sum())
    if repeated > 0.01 * len(a):
        notes.append(f"{repeated} of {len(a)} training images are copies or near copies of others.")
    inside = _neighbour_accuracy(a, train_labels[first], a, train_labels[first], same=True)
    outside = _neighbour_accuracy(a, train_labels[first], b, test_labels[second])
    error = np.sqrt(inside * (1 - inside) / len(a) + outside * (1 - outside) / len(b))
    if inside - outside > max(_GAP, _ERRORS * error):
        notes.append(
            "the training part is much easier than the test part: nearest neighbours find the class of "
            f"{inside:.0%} of its own images and of {outside:.0%} of the test images."
        )
    return notes


def _some(count: int) -> NDArray[np.int64]:
    return np.arange(count) if count <= _MOST else np.linspace(0, count - 1, num=_MOST).round().astype(np.int64)


def _thumbnails(images: Pixels, most: int) -> NDArray[np.float32]:
    """(N, T, T, 3) means of areas, T at most ``most``."""
    side = images.shape[1]
    edges = np.unique(np.linspace(0, side, num=most + 1).astype(int)[:-1])
    columns = np.add.reduceat(images, edges, axis=2, dtype=np.float32)
    widths = np.diff(np.append(edges, side)).astype(np.float32)
    out: NDArray[np.float32] = np.add.reduceat(columns, edges, axis=1) / (widths[:, None] * widths)[..., None]
    return out


def _near(
    a: NDArray[np.float32], b: NDArray[np.float32], fine_a: NDArray[np.float32], fine_b: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """(N, M) which images are near copies of one another: alike as hashes, in brightness and in detail."""
    near = np.zeros((len(a), len(b)), dtype=bool)
    bits_a, bits_b = _bits(a), _bits(b)
    for start in range(0, len(a), 256):
        rows, columns = np.nonzero(np.bitwise_count(bits_a[start : start + 256, None] ^ bits_b) <= _BITS)
        rows += start
        for part in np.array_split(np.arange(len(rows)), len(rows) // 4096 + 1):
            i, j = rows[part], columns[part]
            bright = np.abs(a[i] - b[j]).mean(axis=(1, 2, 3)) <= _LEVELS
            i, j = i[bright], j[bright]
            x, y = fine_a[i], fine_b[j]
            spread = np.minimum(x.std(axis=(1, 2, 3)), y.std(axis=(1, 2, 3)))
            near[i, j] = np.sqrt(np.square(x - y).mean(axis=(1, 2, 3))) <= np.maximum(_DETAIL * spread, 1.0)
    return near


def _bits(thumbnails: NDArray[np.float32]) -> NDArray[np.uint64]:
    """(N,) difference hashes: whether grey rises from each of 8 x 8 places to the next on the right."""
    grey = thumbnails.mean(axis=3)
    # By more than two levels: the noise of compression on an even ground says nothing.
    rises = (grey[:, :8, 1:] > grey[:, :8, :-1] + 2).reshape(len(grey), -1)
    all_bits = np.zeros((len(grey), 64), dtype=bool)  # fewer differ in images of less than 9 pixels
    all_bits[:, : rises.shape[1]] = rises
    return np.packbits(all_bits, axis=1).view(np.uint64).ravel()


def _neighbour_accuracy(
    known: NDArray[np.float32],
    labels: NDArray[np.int64],
    asked: NDArray[np.float32],
    truth: NDArray[np.int64],
    same: bool = False,
) -> float:
    """Share of images whose nearest known thumbnail, itself left out, has their class."""
    a, b = known.reshape(len(known), -1), asked.reshape(len(asked), -1)
    distance = np.square(a).sum(axis=1) - 2 * b @ a.T  # (M, N), up to a constant of each row
    if same:
        np.fill_diagonal(distance, np.inf)
    return float((labels[distance.argmin(axis=1)] == truth).mean())
