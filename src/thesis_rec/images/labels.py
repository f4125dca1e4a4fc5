"""One vocabulary of classes for all splits of a dataset, and what is no class at all.

Blanks around names don't count, and texts that are numbers are numbers. Empty labels, NaN and its spellings, and -1 or
-100 beside other numbers from 0 up mean that an image has no label: it is left out and counted. Rows of zeros and a one
are the class of the one. Fractions, and labels of which nearly every image has one of its own, are quantities or
identifiers and are refused.
"""

import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError

#: Texts that stand for an absent label, unless the class names have them; pandas' own list without NA, often a class.
_NO_LABEL = ("", "nan", "NaN", "<NA>", "#N/A", "N/A", "n/a", "NULL", "null", "None")

#: Numbers that mark images without a label: of scikit-learn, and of PyTorch's losses.
_MARKS = {"-1", "-100"}

#: Characters that nobody sees.
_INVISIBLE = "\u200b\u200e\u200f\u2060\ufeff"

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

    def renamed(self, label_map: Mapping[str, str]) -> "Vocabulary":
        """The classes after some were renamed and joined; those whose new name is empty are dropped."""
        new = [label_map.get(name, name) for name in self.names]
        names = list(dict.fromkeys(filter(None, new)))
        # The last place is that of images without a label.
        lookup = np.array([*(names.index(name) if name else -1 for name in new), -1], dtype=np.int64)
        unknown = ", ".join(repr(name) for name in label_map if name not in self.names)
        told = (f"label_map names {unknown}, which no image has.",) if unknown else ()
        return Vocabulary(names, {split: lookup[codes] for split, codes in self.codes.items()}, self.notes + told)


def make_vocabulary(item: str, labels: Mapping[str, NDArray[np.generic]], names: Sequence[str] | None) -> Vocabulary:
    """Number the classes of all splits alike.

    Args:
        item: What to call the dataset in an error.
        labels: (N,) of each split: names, or numbers.
        names: The class names that the source gives, if it does. Numbers are positions in them.

    Raises:
        ItemError: If the labels are no classes, or don't fit the names.
    """
    notes: list[str] = []
    given = [_plain(name) for name in names or ()]
    for name in dict.fromkeys(name for name in given if given.count(name) > 1):
        notes.append(f"the class names hold {name!r} more than once: those classes are read as one.")
    values = {split: _values(item, array, given) for split, array in labels.items()}
    if names is None:
        values = _without_marks(values)
    else:
        values = {split: _named(item, split, array, given, notes) for split, array in values.items()}
    everything = np.concatenate([array[array != ""] for array in values.values()]) if values else np.empty(0, "U1")
    _check_shared(item, everything)
    all_names = _sorted(set(everything.tolist())) if names is None else list(dict.fromkeys(given))
    notes += _alike(all_names)
    codes = {}
    for split, array in values.items():
        codes[split] = pd.Index(all_names, dtype=object).get_indexer(array.tolist()).astype(np.int64)
        absent = codes[split] < 0
        if absent.any():
            marks = ", ".join(sorted({str(mark).strip() for mark in np.unique(labels[split][absent])} - {""})[:5])
            said = f" ({marks})" if marks else ""
            notes.append(f"{absent.sum()} of {len(array)} images in {split!r} have no label{said} and are left out.")
    return Vocabulary(all_names, codes, tuple(notes))


def one_hot_classes(rows: NDArray[np.generic]) -> Codes | None:
    """(N,) column of the one in each of (N, C) rows of zeros and a one; None if they are something else."""
    if rows.ndim != 2 or rows.shape[1] < 2 or rows.dtype.kind not in "buif" or not np.isin(rows, (0, 1)).all():
        return None
    return rows.argmax(1).astype(np.int64) if (rows.astype(np.int64).sum(1) == 1).all() else None


def _mapped(labels: NDArray[np.generic], rename: Callable[[str], str]) -> NDArray[np.str_]:
    """Labels as text, each distinct one renamed."""
    texts, inverse = np.unique(labels.astype(np.str_), return_inverse=True)
    return np.array([rename(str(text)) for text in texts], dtype=np.str_)[inverse.reshape(-1)]


def _values(item: str, labels: NDArray[np.generic], names: Sequence[str]) -> NDArray[np.str_]:
    """Labels as text without blanks; empty where there is none."""
    kind = labels.dtype.kind
    if kind == "S":
        labels, kind = np.char.decode(labels.astype(np.bytes_), "utf-8", "replace"), "U"
    if kind not in "biufU":
        raise ItemError(item, f"labels of the kind {labels.dtype} are no classes.", "Store whole numbers or names.")
    plain = _mapped(labels, lambda text: "" if (name := _plain(text)) in _NO_LABEL and name not in names else name)
    numbers = pd.to_numeric(pd.Series(np.unique(plain[plain != ""]), dtype=object), errors="coerce")
    decimals = kind == "U" and not names and np.isfinite(numbers).all() and np.char.count(plain, ".").any()
    if kind != "f" and not decimals:
        return plain
    finite = numbers[np.isfinite(numbers)]
    if (finite % 1 != 0).any():
        few = ", ".join(f"{value:g}" for value in finite[:3])
        error = f"its {len(finite)} different labels are fractions ({few}, ...): a quantity, not classes."
        raise ItemError(item, error, "Give classes, for instance ranges of it; whole numbers or names.")
    return _mapped(plain, lambda text: str(int(float(text))) if text and np.isfinite(float(text)) else "")


def _plain(name: str) -> str:
    """A name with single blanks inside and none around it, nothing invisible at its ends, each letter as one character.

    File systems differ in how they store accents, and spreadsheets leave blanks and marks of direction behind.
    """
    return " ".join(unicodedata.normalize("NFC", name).strip().strip(_INVISIBLE).split())


def _named(item: str, split: str, labels: NDArray[np.str_], names: list[str], notes: list[str]) -> NDArray[np.str_]:
    """Labels as the given names: they are names already, or positions in them."""
    present = [str(text) for text in np.unique(labels) if text]
    if set(present) <= set(names):
        return labels
    if strangers := [text for text in present if text not in names and not _is_number(text)]:
        error = f"the label {strangers[0]!r} in {split!r} is not among the class names."
        raise ItemError(item, error, "Add it to them.")
    real = [int(text) for text in present if text not in _MARKS]
    first = 0
    if real and min(real) == 1 and max(real) == len(names):
        first = 1
        notes.append(f"labels in {split!r} count from 1: 1 is {names[0]!r}.")
    elif real and (min(real) < 0 or max(real) >= len(names)):
        error = f"labels from {min(real)} to {max(real)} in {split!r} don't fit {len(names)} class names."
        raise ItemError(item, error, "Give one name for each label, counted from 0, or no names.")
    return _mapped(labels, lambda text: names[int(text) - first] if text and text not in _MARKS else "")


def _without_marks(values: dict[str, NDArray[np.str_]]) -> dict[str, NDArray[np.str_]]:
    """Marks of images without a label made empty, where the others are numbers from 0 up."""
    others = {text for array in values.values() for text in np.unique(array).tolist()} - {"", *_MARKS}
    if others == {"1"} or not all(text.isdecimal() for text in others):
        return values  # -1 against 1 are two classes
    return {split: np.where(np.isin(array, list(_MARKS)), "", array) for split, array in values.items()}


def _check_shared(item: str, texts: NDArray[np.str_]) -> None:
    """Refuse labels that tell single images apart."""
    distinct, counts = np.unique(texts, return_counts=True)
    alone = int((counts == 1).sum())
    if len(texts) >= _MANY and alone > _OWN_LABEL * len(texts):
        few = ", ".join(repr(str(text)) for text in distinct[:2])
        alike = f"{alone} of {len(texts)} images have a label of their own ({few}, ...)"
        error = f"{alike}: a quantity or an identifier, not classes."
        raise ItemError(item, error, "Give labels that several images share.")


def _alike(names: list[str]) -> list[str]:
    """Notes on names that only differ in the case of letters."""
    by_letters = (list(some) for _, some in groupby(sorted(names, key=str.casefold), key=str.casefold))
    text = "classes {} differ only in the case of letters; label_map can join them."
    return [text.format(" and ".join(map(repr, some))) for some in by_letters if len(some) > 1]


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _sorted(names: Collection[str]) -> list[str]:
    """Numbers by value, names by letter."""
    return sorted(names, key=int) if all(map(_is_number, names)) else sorted(names)
