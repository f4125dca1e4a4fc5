"""One vocabulary of classes for all splits of a dataset, and what is no class at all.

Blanks around names don't count. Empty labels, NaN, and -1 beside other numbers from 0 up mean that an image has no
label: it is left out and counted. Fractions, and labels of which nearly every image has one of its own, are quantities
or identifiers and are refused.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError

#: Texts that stand for an absent label.
_NO_LABEL = ("", "nan", "NaN", "<NA>")

#: From this number of images on, labels that nearly all differ are refused.
_MANY = 10

#: Share of images with a label of their own above which labels are refused.
_OWN_LABEL = 0.8

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Vocabulary:
    """Classes of a dataset.

    Attributes:
        names: C class names.
        codes: (N,) of each split: 0..C-1, or -1 where an image has no label.
        notes: What was assumed or left out.
    """

    names: list[str]
    codes: dict[str, Codes]
    notes: tuple[str, ...] = ()


def make_vocabulary(
    item: str, labels: Mapping[str, NDArray[np.generic]], names: Mapping[str, list[str] | None]
) -> Vocabulary:
    """Number the classes of all splits alike.

    Args:
        item: What to call the dataset in an error.
        labels: (N,) of each split: names, or numbers.
        names: The class names that a split's source gives, if it does. Numbers are positions in them.

    Raises:
        ItemError: If the labels are no classes, or don't fit the names.
    """
    notes: list[str] = []
    values = {split: _values(item, array) for split, array in labels.items()}
    given = {split: [_plain(name) for name in some] for split, some in names.items() if some is not None}
    if given:
        values = {
            split: _named(item, split, array, given[split], notes) if split in given else array
            for split, array in values.items()
        }
    else:
        values = _without_minus_one(values)
    everything = np.concatenate([array[array != ""] for array in values.values()]) if values else np.empty(0, "U1")
    known = list(dict.fromkeys(name for some in given.values() for name in some))
    listed = set(known)
    found = [name for name in _sorted(np.unique(everything)) if name not in listed]
    _check_shared(item, everything)
    all_names = known + found
    place = {name: c for c, name in enumerate(all_names)} | {"": -1}
    notes += _alike(all_names)
    codes = {}
    for split, array in values.items():
        texts, inverse = np.unique(array, return_inverse=True)
        codes[split] = np.array([place[str(text)] for text in texts], dtype=np.int64)[inverse.reshape(-1)]
        if missing := int((codes[split] < 0).sum()):
            notes.append(f"{missing} of {len(array)} images in {split!r} have no label and are left out.")
    return Vocabulary(all_names, codes, tuple(notes))


def _values(item: str, labels: NDArray[np.generic]) -> NDArray[np.str_]:
    """Labels as text without blanks; empty where there is none."""
    kind = labels.dtype.kind
    if kind == "f":
        numbers = labels.astype(np.float64)
        finite = np.isfinite(numbers)
        if not np.array_equal(numbers[finite], np.rint(numbers[finite])):
            few = ", ".join(f"{value:g}" for value in numbers[finite][:3])
            raise ItemError(
                item,
                f"its {len(np.unique(numbers[finite]))} different labels are fractions ({few}, ...): a quantity, not "
                "classes.",
                "Give classes, for instance ranges of it; whole numbers or names.",
            )
        texts = np.full(len(numbers), "", dtype="U24")
        texts[finite] = numbers[finite].astype(np.int64).astype(str)
        return texts
    if kind == "S":
        return _values(item, np.array([text.decode("utf-8", "replace") for text in labels.tolist()], dtype=np.str_))
    if kind == "b" or kind in "iu":
        return labels.astype(str)
    if kind != "U":
        raise ItemError(item, f"labels of the kind {labels.dtype} are no classes.", "Store whole numbers or names.")
    texts, inverse = np.unique(labels, return_inverse=True)
    plain = np.array([_plain(str(text)) for text in texts], dtype=np.str_)
    return np.where(np.isin(plain, _NO_LABEL), "", plain)[inverse.reshape(-1)]


def _plain(name: str) -> str:
    """A name without blanks around it, each letter as one character: file systems differ in how they store accents."""
    return unicodedata.normalize("NFC", name).strip()


def _named(item: str, split: str, labels: NDArray[np.str_], names: list[str], notes: list[str]) -> NDArray[np.str_]:
    """Labels as the given names: they are names already, or positions in them."""
    present = [str(text) for text in np.unique(labels) if text]
    if set(present) <= set(names):
        return labels
    numbers = [int(text) for text in present if _is_number(text)]
    if len(numbers) < len(present):
        stranger = next(text for text in present if text not in names and not _is_number(text))
        raise ItemError(item, f"the label {stranger!r} in {split!r} is not among the class names.", "Add it to them.")
    real = [number for number in numbers if number != -1]
    first = 0
    if real and min(real) == 1 and max(real) == len(names):
        first = 1
        notes.append(f"labels in {split!r} count from 1: 1 is {names[0]!r}.")
    elif real and (min(real) < 0 or max(real) >= len(names)):
        error = f"labels from {min(real)} to {max(real)} in {split!r} don't fit {len(names)} class names."
        raise ItemError(item, error, "Give one name for each label, counted from 0, or no names.")
    lookup = {str(number): "" if number == -1 else names[number - first] for number in numbers} | {"": ""}
    texts, inverse = np.unique(labels, return_inverse=True)
    return np.array([lookup[str(text)] for text in texts], dtype=np.str_)[inverse.reshape(-1)]


def _without_minus_one(values: dict[str, NDArray[np.str_]]) -> dict[str, NDArray[np.str_]]:
    """Labels of -1 made empty, where the others are numbers from 0 up: the usual mark of images without a label."""
    present = {str(text) for array in values.values() for text in np.unique(array) if text}
    others = present - {"-1"}
    if "-1" not in present or others == {"1"} or not all(text.isdecimal() for text in others):
        return values  # -1 against 1 are two classes
    return {split: np.where(array == "-1", "", array) for split, array in values.items()}


def _check_shared(item: str, texts: NDArray[np.str_]) -> None:
    """Refuse labels that tell single images apart."""
    distinct, counts = np.unique(texts, return_counts=True)
    alone = int((counts == 1).sum())
    if len(texts) >= _MANY and alone > _OWN_LABEL * len(texts):
        raise ItemError(
            item,
            f"{alone} of {len(texts)} images have a label of their own ({distinct[0]!r}, {distinct[1]!r}, ...): a "
            "quantity or an identifier, not classes.",
            "Give labels that several images share.",
        )


def _alike(names: list[str]) -> list[str]:
    """Notes on names that only differ in the case of letters."""
    by_letters: dict[str, list[str]] = {}
    for name in names:
        by_letters.setdefault(name.casefold(), []).append(name)
    return [
        f"classes {' and '.join(map(repr, some))} differ only in the case of letters; label_map can join them."
        for some in by_letters.values()
        if len(some) > 1
    ]


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _sorted(texts: NDArray[np.str_]) -> list[str]:
    """Numbers by value, names by letter."""
    names = [str(text) for text in texts]
    return sorted(names, key=int) if all(_is_number(name) for name in names) else sorted(names)
