"""What the folders of an image folder mean: classes, splits, or neither. Their structure decides, names only help.

Folders of folders are splits if they are called so and hold the same classes. A folder that can be read in two ways is
refused with both readings, because nothing in the answer would tell that the wrong one was taken.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thesis_rec.base.errors import ItemError, listed
from thesis_rec.images.decoding import SUFFIXES

#: Words in folder names, and which of our splits they mean.
_ROLES = {
    "pretrain": ("pretrain", "pretraining"),
    "train": ("train", "training", "trainval"),
    "test": ("test", "testing", "holdout"),
    "validation": ("validation", "valid", "val", "dev", "eval", "evaluation"),
    "unlabelled": ("unlabelled", "unlabeled", "pred", "predict", "prediction"),
}
_ROLE_OF = {word: role for role, words in _ROLES.items() for word in words}

#: Words that may stand beside them.
_FILLERS = frozenset({"", "set", "data", "dataset", "images", "imgs", "image", "img", "split", "folder", "all"})

#: How the names of files and folders begin that users don't see.
_HIDDEN = (".", "__MACOSX")

_HINT = (
    "Call split folders train and test; put the images of one class into one folder; or name a table with "
    "label_column (--labels)."
)


@dataclass(frozen=True)
class Layout:
    """Where the images of each class of each split are.

    Attributes:
        splits: Folder of each class, by split; ``all`` is the split of a folder without any.
        base: The innermost folder that holds everything.
        notes: What was left out.
    """

    splits: dict[str, dict[str, Path]]
    base: Path
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> list[str]:
        """Names of all splits' classes, sorted."""
        return sorted({name for classes in self.splits.values() for name in classes})


def split_role(name: str, exact: bool = False) -> str:
    """Which of our splits a name means: ``Testing``, ``seg_train`` or ``val2017`` say it; empty if it says none.

    Args:
        name: Of a folder, or of a source's split.
        exact: Whether the name may say nothing else.
    """
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    words = [word if word in _ROLE_OF else word.removesuffix("set").removesuffix("data") for word in words]
    roles = [_ROLE_OF[word] for word in words if word in _ROLE_OF]
    others = [word for word in words if word not in _ROLE_OF and word not in _FILLERS]
    return roles[0] if len(set(roles)) == 1 and not (exact and others) else ""


def subfolders(folder: Path) -> list[Path]:
    """Folders within a folder, hidden ones left out, in order."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(_HIDDEN))


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder in a fixed order, hidden ones left out; links to folders are as files."""
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        folders[:] = sorted(name for name in folders if not name.startswith(_HIDDEN))
        yield from (Path(place, name) for name in sorted([*names, *links]) if not name.startswith(_HIDDEN))


def path_name(path: Path, base: Path | None = None) -> str:
    """A path within a folder, or its last part, as text: bytes that are no UTF-8 are written as escapes."""
    return os.fsencode(os.path.relpath(path, base or path.parent)).decode("utf-8", "backslashreplace")


def read_layout(folder: Path, item: str) -> Layout:
    """Read classes and splits off a folder.

    Args:
        folder: The dataset's folder.
        item: What to call the dataset in an error.

    Raises:
        ItemError: If it can be read in two ways.
    """
    base = _unwrapped(folder)
    children = subfolders(base)
    inner = {child: _classes_in(child) for child in children}
    nested = [child for child in children if inner[child]]
    if splits := _splits_among(nested, inner):
        rest = [child for child in children if child not in splits and _has_files(child)]
        strangers = [child for child in rest if not split_role(child.name)]
        if len(splits) == 1 and strangers:
            raise _two_readings(item, children, splits, inner)
        taught = {name for child in splits if split_role(child.name) == "train" for name in inner[child]}
        if apart := [child for child in splits if taught and not taught & set(inner[child])]:
            rest += apart
            splits = [child for child in splits if child not in apart]
        why = ("has no name of a split", "holds no folders of the classes")
        notes = [f"the folder {child.name!r} {why[child not in strangers]} and is left out." for child in rest]
        for child in splits:
            notes += _one_class_each(item, {path: _classes_in(path) for path in inner[child].values()})
        return Layout({path_name(child): inner[child] for child in splits}, base, tuple(dict.fromkeys(notes)))
    if nested and len(nested) == len(children) and (parts := _splits_within(nested, inner)):
        return Layout(parts, base)
    notes = _one_class_each(item, inner)
    roles = {child: role for child in children if (role := split_role(child.name, exact=True))}
    if any(role != "train" and _has_files(child) for child, role in roles.items()):
        # A train may be a class among others; test, val or unlabelled hardly are, and nothing would tell.
        raise _two_readings(item, children, list(roles), inner)
    return Layout({"all": {path_name(child): child for child in children}}, base, tuple(notes))


def read_splits(folder: Path) -> dict[str, Path]:
    """The split folders of a folder whose labels come from file names or from a table; ``all`` if there are none."""
    found = {path_name(path): path for path in subfolders(folder) if split_role(path.name, exact=True)}
    return found or {"all": folder}


def _unwrapped(folder: Path) -> Path:
    """The folder within folders that hold nothing but one folder of folders."""
    while True:
        children = subfolders(folder)
        if len(children) != 1 or children[0].is_symlink() or _has_files_here(folder):
            return folder
        if split_role(children[0].name) or not any(_has_files(path) for path in subfolders(children[0])):
            return folder
        folder = children[0]


def _classes_in(child: Path) -> dict[str, Path]:
    """The class folders of what may be a split; none if it has images of its own and isn't called one."""
    if child.is_symlink():
        return {}
    own = _has_files_here(child)
    if own and not split_role(child.name):
        return {}
    found = subfolders(child)
    if len(found) == 1 and not own and subfolders(found[0]):
        return _classes_in(found[0])  # seg_train/seg_train/forest
    if len(found) == 1 and found[0].name == child.name:
        return {}  # test/test/1.png
    return {path_name(path): path for path in found} if any(_has_files(path) for path in found) else {}


def _splits_among(nested: list[Path], inner: dict[Path, dict[str, Path]]) -> list[Path]:
    """The folders that are splits: called so and nothing else, or called so and sharing classes with another one."""
    named = [child for child in nested if split_role(child.name)]

    def shares(child: Path) -> bool:
        return any(other is not child and set(inner[other]) & set(inner[child]) for other in named)

    return [child for child in named if split_role(child.name, exact=True) or shares(child)]


def _splits_within(nested: list[Path], inner: dict[Path, dict[str, Path]]) -> dict[str, dict[str, Path]]:
    """Classes by split where each class folder holds the splits: ``cat/train``."""
    names = sorted({name for child in nested for name in inner[child]})
    if not all(split_role(name, exact=True) for name in names):
        return {}
    return {name: {path_name(child): inner[child][name] for child in nested if name in inner[child]} for name in names}


def _one_class_each(item: str, inner: dict[Path, dict[str, Path]]) -> list[str]:
    """Notes on folders that hold folders and are read as one class.

    Args:
        item: The dataset.
        inner: What each folder holds, by name.

    Raises:
        ItemError: If what they hold are classes as well: several that occur in more than one of them.
    """
    nested = [folder for folder, held in inner.items() if held]
    occurring = [name for folder in nested for name in inner[folder]]
    if 1 < len(set(occurring)) < len(occurring):
        raise _two_readings(item, list(inner), nested, inner)
    return [f"the folders within {folder.name!r} are read as one class." for folder in nested[:3]]


def _two_readings(item: str, children: list[Path], groups: list[Path], inner: dict[Path, dict[str, Path]]) -> ItemError:
    within = sorted({name for child in groups for name in inner[child]})
    first = f"{len(children)} classes {_listed([child.name for child in children])}"
    whole = _listed([child.name for child in groups])
    second = f"{whole} holding the classes {_listed(within)}" if within else f"{whole} holding images without labels"
    return ItemError(item, f"its folders can be read in two ways: as {first}, or as {second}.", _HINT)


def _listed(names: list[str]) -> str:
    return listed([repr(name) for name in names], 6)


def _has_files_here(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES and path.is_file() for path in folder.iterdir())


def _has_files(folder: Path) -> bool:
    return any(names for _, _, names in os.walk(folder))
