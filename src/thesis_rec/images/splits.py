"""Which images of a source make one of our splits: the same for every loader."""

from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError
from thesis_rec.images.dataset_source import ImageLimits
from thesis_rec.images.layout import split_role
from thesis_rec.images.manifest import DatasetRow, SplitRule

#: Which roles of a source's splits serve as ours, best first.
_SERVES = {"pretrain": ("pretrain", "train"), "train": ("train",), "test": ("test", "validation")}

#: Share of a source's only split that is used for training where no rule says otherwise.
TRAIN_SHARE = 0.75


@dataclass(frozen=True)
class SplitPart:
    """Which part of a source split is one of ours: images whose place in their class is in (start, start + share]."""

    source: str
    start: float = 0.0
    share: float = 1.0
    cap: int | None = None


def split_part(row: DatasetRow, split: str, available: tuple[str, ...]) -> SplitPart:
    """The part of the source that makes ``split``."""
    rules = {rule.name: rule for rule in row.splits}
    rule = rules.get(split, SplitRule(name=split))
    if rules and split not in rules:
        hint = f"Name it in the splits column (now: {'; '.join(rules)})."
        raise ItemError(row.dataset_id, f"it has no split {split!r}.", hint)
    bare = all(not other.source and other.share is None for other in rules.values())
    if len(available) == 1 and bare and split in ("train", "test") and (not rules or {"train", "test"} <= set(rules)):
        # One split only: divided, without overlap.
        start, share = (0.0, TRAIN_SHARE) if split == "train" else (TRAIN_SHARE, 1.0 - TRAIN_SHARE)
        return SplitPart(available[0], start, share, rule.cap)
    source = _matching(row, rule.source or split, bool(rule.source), available)
    if rule.share is None:
        return SplitPart(source, cap=rule.cap)
    before = takewhile(lambda other: other.name != split, row.splits)
    start = sum(other.share or 0.0 for other in before if (other.source or other.name) == source)
    return SplitPart(source, start, rule.share, rule.cap)


def _matching(row: DatasetRow, wanted: str, named: bool, available: tuple[str, ...]) -> str:
    """The source split that is called ``wanted``, or, unless the row names it, the one whose name means it."""
    if wanted in available:
        return wanted
    for role in () if named else _SERVES.get(wanted, (wanted,)):
        found = [name for name in available if split_role(name) == role]
        if len(found) > 1:
            error = f"several of its source's splits may be {wanted!r}: {', '.join(found)}."
            raise ItemError(row.dataset_id, error, f"Name one in the splits column, e.g. {wanted}={found[0]}.")
        if found:
            return found[0]
    error = f"its source has no split {wanted!r}; there are {', '.join(available)}."
    raise ItemError(row.dataset_id, error, "Correct the splits column, e.g. train=train:0.8;test=train:0.2.")


def take_share(chosen: NDArray[np.int64], labels: NDArray[np.int64], part: SplitPart, seed: int) -> NDArray[np.int64]:
    """The images whose place in the seeded order of their class lies in the part."""
    if part.share >= 1.0:
        return chosen
    rng, classes = np.random.default_rng(seed), labels[chosen]
    # The share of its class before each image: a cut at s takes a share s of each.
    place = np.empty(len(chosen))
    for c in np.unique(classes):
        members = np.flatnonzero(classes == c)
        place[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return chosen[(place > part.start - 1e-9) & (place <= part.start + part.share - 1e-9)]


def cap_classes(
    chosen: NDArray[np.int64], labels: NDArray[np.int64], n_classes: int, cap: int | None, limits: ImageLimits
) -> NDArray[np.int64]:
    """At most ``cap`` images, equally many of each class, and at most ``limits.n_per_class`` of each."""
    per_class = limits.n_per_class
    if cap is not None:
        per_class = min(per_class or cap, max(1, cap // max(n_classes, 1)))
    if per_class is None:
        return chosen
    rng = np.random.default_rng(limits.seed)
    kept = []
    for c in range(n_classes):
        members = chosen[labels[chosen] == c]
        kept.append(members if len(members) <= per_class else np.sort(rng.permutation(members)[:per_class]))
    return np.sort(np.concatenate(kept)) if kept else chosen


def map_labels(
    codes: NDArray[np.int64], class_names: list[str], label_map: dict[str, str]
) -> tuple[NDArray[np.int64], list[str]]:
    """Labels and class names after renaming, joining and dropping; dropped images have the label -1."""
    if not label_map:
        return codes, class_names
    new_names = [label_map.get(name, name) for name in class_names]
    names = list(dict.fromkeys(name for name in new_names if name))
    # The last place is that of images without a label.
    lookup = np.array([names.index(name) if name else -1 for name in new_names] + [-1], dtype=np.int64)
    return lookup[codes], names
