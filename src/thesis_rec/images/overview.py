"""What a reader of an answer must know of the images: how they were read, what was passed over, where they are thin."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import Failure, listed
from thesis_rec.images.dataset_source import FileNote
from thesis_rec.images.loading import LabelledImages, OpenedDataset

#: Fewer images of a class than this are few; a class with more than this share of the images dominates.
_FEW, _DOMINATES = 10, 0.8

#: From this number of classes on, what is known of small tasks tells less.
_MANY_CLASSES = 100

#: Mean level, of 255, below which all images looked at are nearly black, and above which they are nearly white.
_BLACK, _WHITE = 16, 245

_NUMBERED = re.compile(r"(?:class|label)?[ _-]?\d+|n\d{8}", re.IGNORECASE)


def split_line(dataset: OpenedDataset) -> str:
    """Classes, and images of each split, so that a folder that was misread is seen."""
    codes = np.unique(np.concatenate([*dataset.vocabulary.codes.values()]))
    names = [dataset.vocabulary.names[code] for code in codes[codes >= 0]]
    counts = [f"{name} {count}" for name, count in dataset.counts.items()]
    return f"read as {len(names)} classes ({listed(names, 6)}); images: {', '.join(counts)}."


def told(failures: Iterable[Failure]) -> tuple[list[str], list[str]]:
    """What failures say of files, single images counted by reason with one example each, and what of anything else."""
    images: dict[str, list[str]] = defaultdict(list)
    files: list[str] = []
    others: list[str] = []
    # A file may be met more than once.
    for failure in dict.fromkeys(failures):
        if isinstance(failure, FileNote) and failure.image:
            images[failure.reason.rstrip(".")].append(failure.image)
        else:
            notes = files if isinstance(failure, FileNote) else others
            notes.append(f"{failure.error} {failure.hint}".strip())
    if images:
        reasons = sorted(images, key=lambda reason: -len(images[reason]))
        counts = [f"{len(images[reason])}: {reason} ({images[reason][0]})" for reason in reasons[:5]]
        rest = sum(len(images[reason]) for reason in reasons[5:])
        counts += [f"{rest} for other reasons"] if rest else []
        files.insert(0, f"{sum(map(len, images.values()))} images couldn't be read; {'; '.join(counts)}.")
    return list(dict.fromkeys(files)), list(dict.fromkeys(others))


def thin_notes(images: LabelledImages) -> list[str]:
    """Where the training images are few, lopsided, or of many classes."""
    counts = np.bincount(images.labels, minlength=len(images.class_names))
    present = np.flatnonzero(counts)
    notes = []
    if few := [images.class_names[c] for c in present if counts[c] < _FEW]:
        least = int(counts[present].min())
        text = f"few images: {listed(few, 3)} have less than {_FEW} for training, the fewest {least};"
        notes.append(f"{text} models are hardly told apart.")
    largest = int(counts.argmax())
    if len(present) > 1 and (share := counts[largest] / counts.sum()) > _DOMINATES:
        name = images.class_names[largest]
        # 299 of 300 aren't all.
        percent = min(round(100 * share), 99)
        notes.append(f"{name} makes up {percent}% of the images: always answering it would be right that often.")
    if len(present) > _MANY_CLASSES:
        notes.append(f"{len(present)} classes are many: accuracies are lower than on most known datasets.")
    return notes


def nameless_notes(names: Sequence[str]) -> list[str]:
    """Whether classes are only numbered, by themselves or by WordNet: no text encoder knows what ``17`` looks like."""
    if not all(_NUMBERED.fullmatch(name) for name in names):
        return []
    return [
        f"The classes are called {listed(names, 3)}: unless the images show that, give them names, which are all that "
        "zero-shot is told."
    ]


def brightness_notes(pixels: Sequence[NDArray[np.uint8]]) -> list[str]:
    """Whether all images looked at are nearly black or nearly white, as after a wrong scaling."""
    means = [float(image.mean()) for image in pixels]
    if not means or (max(means) >= _BLACK and min(means) <= _WHITE):
        return []
    nearly = f"{'black' if max(means) < _BLACK else 'white'} (mean levels {min(means):.0f} to {max(means):.0f} of 255)"
    return [f"all {len(means)} images looked at are nearly {nearly}: check them."]
