"""Labelled images of a manifest row, from a folder, an NPZ file, a hub dataset or a formula.

Every loader gives a :class:`Source`: named splits, opened when asked for, whose images are decoded one at a time. What
is the same for all of them (split rules, label maps, caps, empty classes) is done here, once. How a source is made
and registered is :mod:`thesis_rec.images.dataset_source`.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thesis_rec.base.errors import Failure, ItemError, explained, listed
from thesis_rec.base.tables import TaskImages
from thesis_rec.images.copies import Glimpses, content_digest
from thesis_rec.images.dataset_source import LOADERS, FileNote, Fingerprint, ImageLimits, Loader, Reader, Source, Tell
from thesis_rec.images.decoding import resize_image
from thesis_rec.images.labels import Vocabulary, make_vocabulary
from thesis_rec.images.layout import split_role
from thesis_rec.images.manifest import DatasetRow, SplitRule

#: Which roles of a source's splits serve as ours, best first.
_SERVES = {"pretrain": ("pretrain", "train"), "train": ("train",), "test": ("test", "validation")}

#: How a source's only split is divided, in this order and without overlap, where no rule says otherwise.
SHARES = {"train": 0.75, "test": 0.25}


def split_part(row: DatasetRow, split: str, available: tuple[str, ...]) -> tuple[SplitRule, float]:
    """The rule that makes ``split``, its source a split of the source's, and the share that others take before it.

    Raises:
        ItemError: If the row names no such split, its source has none, or train and test would hold the same images.
    """
    rules = {rule.name: rule for rule in row.splits or (SplitRule(name=name) for name in _SERVES)}
    if split not in rules:
        hint = f"Name it in the splits column (now: {'; '.join(rules)})."
        raise ItemError(row.dataset_id, f"it has no split {split!r}.", hint)
    if len(available) == 1 and set(SHARES) <= set(rules) and not any(r.source or r.share for r in rules.values()):
        for name, share in SHARES.items():
            rules[name] = rules.pop(name).model_copy(update={"source": available[0], "share": share})
    rule, found = rules[split], _meant(rules[split], available)
    if len(found) != 1:
        error = f"its source has no split {rule.source or split!r}; there are {', '.join(available)}."
        if found:
            error = f"several of its source's splits may be {split!r}: {', '.join(found)}."
        example = f"{split}={found[0]}" if found else "train=train:0.8;test=train:0.2"
        raise ItemError(row.dataset_id, error, f"Correct the splits column, e.g. {example}.")
    (source,) = found
    others = {name: other for name, other in rules.items() if name != split and _meant(other, available) == found}
    for name, other in others.items():
        if {name, split} == set(SHARES) and None in (rule.share, other.share):
            error = f"both {split!r} and {name!r} take images of its split {source!r}, some of them the same."
            hint = f"Give each a share in the splits column, e.g. train={source}:0.8;test={source}:0.2."
            raise ItemError(row.dataset_id, error, hint)
    before = takewhile(lambda name: name != split, rules)
    start = sum(others[name].share or 0.0 for name in before if name in others)
    return rule.model_copy(update={"source": source}), start


def _meant(rule: SplitRule, available: tuple[str, ...]) -> list[str]:
    """The source splits that a rule may mean: that which it names or is called, else all whose names say the same."""
    wanted = rule.source or rule.name
    if wanted in available:
        return [wanted]
    roles = () if rule.source else _SERVES.get(wanted, (wanted,))
    by_role = ([name for name in available if split_role(name) == role] for role in roles)
    return next(filter(None, by_role), [])


def by_class(labels: NDArray[np.int64], n_classes: int = 0) -> list[NDArray[np.int64]]:
    """Positions of each class's images among (N,) labels, of at least so many classes; labels below 0 are of none."""
    counts = np.bincount(labels[labels >= 0], minlength=n_classes)
    return np.split(np.argsort(labels, kind="stable")[len(labels) - counts.sum() :], np.cumsum(counts)[:-1])


def part_positions(
    labels: NDArray[np.int64], n: int, rule: SplitRule, start: float, limits: ImageLimits
) -> NDArray[np.int64]:
    """The images of a split: those within its share in each class's seeded order, and as many of these as caps allow.

    Args:
        labels: (N,) of its source's split, 0..n-1, or -1 where an image has none.
        n: Number of classes.
        rule: Its share of each class, all without one, and its cap, which allows equally many images of each.
        start: Share of each class before its own.
        limits: The cap of each class, and the seed.
    """
    per_class = limits.n_per_class
    if rule.cap is not None:
        per_class = min(per_class or rule.cap, max(1, rule.cap // max(n, 1)))
    dividing, capping = np.random.default_rng(limits.seed), np.random.default_rng(limits.seed)
    kept = [np.empty(0, dtype=np.int64)]
    for members in by_class(labels, n):
        chosen = members
        if rule.share is not None:
            # The share of its class before each image: a cut at s takes a share s of each.
            place = np.empty(len(members))
            place[dividing.permutation(len(members))] = (np.arange(len(members)) + 0.5) / len(members)
            chosen = members[(place > start - 1e-9) & (place <= start + rule.share - 1e-9)]
        if per_class is not None and len(chosen) > per_class:
            chosen = capping.permutation(chosen)[:per_class]
        kept.append(chosen)
    return np.sort(np.concatenate(kept))


#: Largest side of a dataset's images in memory, in pixels, where none was asked for: hardly a model sees more.
LARGEST_SIDE = 512

#: Bytes that these may take before they are made smaller than the files' own, and the side below which they aren't.
MOST_BYTES, LEAST_SIDE = 1 << 30, 64


@dataclass(frozen=True)
class LabelledImages:
    """One split of a dataset: labels in memory, images decoded when asked for.

    Attributes:
        dataset_id: Identifier.
        labels: (N,) int64 in 0..C-1.
        class_names: C names.
        reader: Reads an image by its position in the source.
        positions: (N,) position of each image in the source.
        warnings: What is wrong with single images or classes; the rest is usable.
    """

    dataset_id: str
    labels: NDArray[np.int64]
    class_names: list[str]
    reader: Reader
    positions: NDArray[np.int64]
    warnings: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int, size: int | None = None) -> NDArray[np.uint8]:
        """Image ``index`` as uint8 (H, W, 3), of a large file as few pixels as do for a square of side ``size``.

        Raises:
            ItemError: If it can't be decoded.
        """
        return np.asarray(self._read(index, size))

    def square(self, index: int, size: int) -> NDArray[np.uint8]:
        """The middle of image ``index`` as uint8 (size, size, 3).

        Raises:
            ItemError: If it can't be decoded.
        """
        return resize_image(self._read(index, size), size)

    def _read(self, index: int, size: int | None = None) -> NDArray[np.uint8] | Image.Image:
        with explained(f"image {index}", "it can't be read ({reason}).", "Replace or remove it."):
            image = self.reader(int(self.positions[index]))
            return image(size) if callable(image) else image

    def names_of(self, index: NDArray[np.int64]) -> list[str]:
        """Class names of some images."""
        return [self.class_names[c] for c in self.labels[index]]

    def without_empty_classes(self) -> "LabelledImages":
        """The same images, their classes numbered without those that have none."""
        present, labels = np.unique(self.labels, return_inverse=True)
        return replace(self, labels=labels, class_names=[self.class_names[c] for c in present])


def _registered(row: DatasetRow) -> tuple[Loader, Fingerprint]:
    from thesis_rec.images import folders, hub, sources  # noqa: F401  register the loaders that come with the project

    if row.loader not in LOADERS:
        hint = f"Use one of {', '.join(sorted(LOADERS))}, or register a loader of that name."
        raise ItemError(row.dataset_id, f"there is no loader {row.loader!r}.", hint)
    return LOADERS[row.loader]


def split_fingerprint(row: DatasetRow, root: Path, tell: Tell = content_digest) -> str:
    """A text that changes when a row's images change, without decoding them.

    Args:
        row: Manifest row.
        root: Folder to which ``row.source`` is relative.
        tell: What tells a file: by default its content, so that copies and dates change nothing.

    Raises:
        ItemError: If the source is absent or the loader unknown.
    """
    return _registered(row)[1](row, root, tell)


@dataclass(frozen=True)
class OpenedDataset:
    """A dataset whose labels are read and numbered alike in all splits.

    Attributes:
        row: Its row of the manifest.
        source: Its splits.
        vocabulary: Classes, and the labels of all splits.
        limits: Caps and refusals.
    """

    row: DatasetRow
    source: Source
    vocabulary: Vocabulary
    limits: ImageLimits

    @property
    def counts(self) -> dict[str, int]:
        """Number of labelled images of each of the source's splits."""
        return {name: int((codes >= 0).sum()) for name, codes in self.vocabulary.codes.items()}

    def split(self, split: str) -> LabelledImages:
        """One of our splits; images are decoded later, one at a time.

        Classes are numbered alike in all splits; a class without an image is reported among the ``warnings``.

        Raises:
            ItemError: If there is none, it is unreadable, or has fewer than two classes.
        """
        notes = list(self.source.warnings)
        notes += [Failure(self.row.dataset_id, note) for note in self.vocabulary.notes]
        rule, start = self._part(split)
        codes, class_names = self.vocabulary.codes[rule.source], self.vocabulary.names
        chosen = part_positions(codes, len(class_names), rule, start, self.limits)
        notes += _absent_classes(self.row, split, codes[chosen], class_names)
        read = self.source.splits[rule.source].read
        images = LabelledImages(self.row.dataset_id, codes[chosen], class_names, read, chosen, tuple(notes))
        _check_classes(self.row, images, split)
        return images

    def apart(self) -> LabelledImages | None:
        """The images for testing, where the source keeps them apart from those for training."""
        with suppress(ItemError):
            if self._part("test")[0].source != self._part("train")[0].source:
                return self.split("test")
        return None

    def untested(self) -> list[Failure]:
        """Classes that have no image for testing, where the source keeps these apart from those for training."""
        with suppress(ItemError):
            train, test = (self._part(split)[0].source for split in ("train", "test"))
            codes = self.vocabulary.codes[test]
            if train != test:
                return _absent_classes(self.row, "test", codes[codes >= 0], self.vocabulary.names)
        return []

    def _part(self, split: str) -> tuple[SplitRule, float]:
        labelled = tuple(name for name, count in self.counts.items() if count) or tuple(self.source.splits)
        return split_part(self.row, split, labelled)


def open_dataset(row: DatasetRow, root: Path, limits: ImageLimits | None = None) -> OpenedDataset:
    """Open a dataset: the labels of all its splits are read, none of its images.

    Args:
        row: Manifest row that has images of its own.
        root: Folder to which ``row.source`` is relative.
        limits: Caps and refusals.

    Raises:
        ItemError: If the source is absent or unreadable, or its labels are no classes.
    """
    limits = limits or ImageLimits()
    source = _registered(row)[0](row, root, limits)
    labels = {name: split.labels for name, split in source.splits.items()}
    vocabulary = make_vocabulary(row.dataset_id, labels, source.class_names).renamed(row.label_map)
    return OpenedDataset(row, source, vocabulary, limits)


def load_task_images(
    row: DatasetRow,
    root: Path,
    limits: ImageLimits | None = None,
    size: int | None = None,
    warnings: list[Failure] | None = None,
    memory: int = MOST_BYTES,
    largest: int = LARGEST_SIDE,
) -> TaskImages:
    """Training and test images of a dataset in memory, all images of one size.

    Images that can't be read are skipped; classes that are left without an image for training are left out.

    Args:
        row: Manifest row.
        root: Folder to which ``row.source`` is relative.
        limits: Caps and refusals.
        size: Side to which images are resized, in pixels; None keeps a dataset's own size, that of most images where
            they have several, as far as models see that much and all fit into memory.
        warnings: List to which what was skipped is added.
        memory: Bytes that images of their own size may take, before they are made smaller.
        largest: Side beyond which they are, in pixels.

    Returns:
        Images (N, size, size, 3) uint8.

    Raises:
        ItemError: If fewer than two classes are left, or there is nothing to test on.
    """
    notes = [] if warnings is None else warnings
    dataset = open_dataset(row, root, limits)
    opened = [dataset.split(split) for split in ("train", "test")]
    # Both splits tell what is true of the whole source.
    told = dict.fromkeys(note for images in opened for note in images.warnings)
    notes.extend(told)
    size = size or _common_size(opened, notes, memory, largest)
    arrays, labels, skipped = [], [], list[Failure]()
    for images in opened:
        array, kept, unreadable = read_images(images, np.arange(len(images)), size)
        skipped += unreadable
        arrays.append(array)
        labels.append(images.labels[kept])
    notes.extend(note for note in skipped if note not in told)
    classes, train_labels = np.unique(labels[0], return_inverse=True)
    if len(classes) < 2:
        error = f"{'only one' if len(classes) else 'no'} class has readable images for training; {skipped[0].error}"
        raise ItemError(row.dataset_id, error, "Give at least two classes with readable images.")
    tested = np.isin(labels[1], classes)
    if not tested.any():
        error = "there are no images for testing" + (", or none of a class to train on." if len(tested) else ".")
        raise ItemError(row.dataset_id, error, "Add some, or change the splits column.")
    if not tested.all():
        error = f"{int((~tested).sum())} of {len(tested)} images for testing are of classes without training images."
        notes.append(Failure(row.dataset_id, error, "They are left out."))
    train = arrays[0], train_labels
    test = arrays[1][tested], np.searchsorted(classes, labels[1][tested])
    glimpses = Glimpses()
    for part, (pixels, numbers) in (("train", train), ("test", test)):
        glimpses.add(part, np.arange(len(pixels)), numbers, pixels)
    notes.extend(Failure(row.dataset_id, note) for note in glimpses.notes())
    return TaskImages(row.dataset_id, *train, *test, [opened[0].class_names[c] for c in classes])


def read_images(
    images: LabelledImages, index: NDArray[np.integer], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[Failure]]:
    """Decode and resize images; those that can't be read are skipped and noted.

    Args:
        images: Where they come from.
        index: (N,) which ones.
        size: Side, in pixels.

    Returns:
        (K, size, size, 3) uint8, the (K,) indices that could be read, and a failure for each other one.
    """
    out = np.empty((len(index), size, size, 3), dtype=np.uint8)
    kept, skipped = list[int](), list[Failure]()
    for i in index:
        try:
            out[len(kept)] = images.square(int(i), size)
        except ItemError as error:
            skipped.append(FileNote.skipped(images.dataset_id, error))
        else:
            kept.append(int(i))
    return out[: len(kept)], np.asarray(kept, dtype=np.int64), skipped


def _absent_classes(row: DatasetRow, split: str, labels: NDArray[np.int64], class_names: list[str]) -> list[Failure]:
    present = set(np.unique(labels).tolist())
    empty = [name for c, name in enumerate(class_names) if c not in present]
    if not empty or not present:
        return []
    fate = "left out" if split == "train" else "not tested"
    which = listed([repr(name) for name in empty], 5)
    error = f"classes without an image in the split {split!r} are {fate}: {which}."
    return [Failure(row.dataset_id, error, "Add images, or remove the class.")]


def _check_classes(row: DatasetRow, images: LabelledImages, split: str) -> None:
    present = len(np.unique(images.labels))
    if present > 1:
        return
    has = f"one class only, {images.class_names[int(images.labels[0])]!r}" if present else "no images"
    where = "" if split == "train" else f" in the split {split!r}"
    why = " ".join(["", *(note.error for note in images.warnings)])  # what was collected is the reason
    hint = "Give at least two classes: one folder of images (or label) for each; or check label_column and splits."
    raise ItemError(row.dataset_id, f"it has {has}{where}.{why}", hint)


def _common_size(opened: Sequence[LabelledImages], notes: list[Failure], memory: int, largest: int) -> int:
    """The median shorter side of a few images, as far as models see that much; less is noted if memory asks for it."""
    sides = []
    for images in opened:
        for i in np.linspace(0, len(images) - 1, num=min(len(images), 8)).astype(int):
            with suppress(ItemError):
                sides.append(min(images.image(int(i)).shape[:2]))
    own = min(int(np.median(sides)), largest) if sides else LEAST_SIDE
    fits = max(LEAST_SIDE, int((memory / (3 * sum(map(len, opened)))) ** 0.5))
    if own > fits:
        error = f"images of {own} pixels are reduced to {fits}, so that all {sum(map(len, opened))} fit into memory."
        notes.append(Failure(opened[0].dataset_id, error, "With fewer of them models see more."))
    return min(own, fits)
