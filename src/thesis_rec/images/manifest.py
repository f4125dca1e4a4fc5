"""The dataset manifest: which labelled images there are, and how their labels and splits are made.

One row per dataset. A row with a ``parent`` is a sub-task: some classes of one or several other rows, listed in
``class_subset`` as ``base_id:class_index;...``; it has no images of its own.

**splits** is a list of rules separated by semicolons, one per split of ours (``pretrain``, ``train``, ``test``)::

    name[=source split][:share][@cap]

``train;test`` takes the source's splits of these names; ``train;test=validation`` uses its validation part for testing;
``train=train:0.8;test=train:0.2`` divides one source split, class by class, by a seeded permutation, without overlap;
``train@5000`` keeps at most 5000 images, equally many of each class. An empty field means ``train;test``, divided 3:1
where the source has one split only.

**label_column** is a column of a hub dataset or of the folder's ``metadata.csv``, or ``filename:<regular expression>``
whose first group is the label; empty means the source's own labels (folder names, ``train_labels``, the column of class
labels).  **label_map**, an optional column, renames or joins labels (``cat=animal;dog=animal``) and drops those whose
new name is empty (``unknown=``). **labels**, an optional column, names another table than ``metadata.csv``.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated

import pandas as pd
from pydantic import BeforeValidator, Field, model_validator

from thesis_rec.base.errors import Failure, ItemError
from thesis_rec.base.settings import Settings
from thesis_rec.base.tables import Identifier, read_rows

_RULE = re.compile(r"(?P<name>\w+)(?:=(?P<source>[^:@=]+))?(?::(?P<share>[0-9.]+))?(?:@(?P<cap>\d+))?")


class SplitRule(Settings):
    """How one of our splits is taken from a source, written ``name[=source][:share][@cap]``."""

    name: str
    source: str = ""
    share: float | None = Field(default=None, gt=0.0, le=1.0)
    cap: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        match = _RULE.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"{value!r} is no split rule; write name, name=source, name=source:0.8 or name@5000")
        return {key: found for key, found in match.groupdict().items() if found is not None}


def _written(read: Callable[[str], object]) -> BeforeValidator:
    """A value that may stand in a cell as text."""
    return BeforeValidator(lambda value: read(value) if isinstance(value, str) else value)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def _member(text: str) -> tuple[str, int]:
    base, separator, index = text.rpartition(":")
    if not separator or not index.isdigit():
        raise ValueError(f"{text!r} is no member of a class subset; write base_id:class_index")
    return base, int(index)


def _renamings(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in _parts(text)]
    if wrong := [old for old, separator, _ in pairs if not separator]:
        raise ValueError(f"{wrong[0]!r} is no entry of a label map; write old=new, or old= to drop it")
    return {old.strip(): new.strip() for old, _, new in pairs}


#: What stands in one cell, separated by semicolons.
Parts = _written(_parts)


class DatasetRow(Settings):
    """What is read of a row of the dataset manifest; domains, groups and licences are read off the table itself."""

    dataset_id: Identifier
    loader: str = ""
    source: str = ""
    image_column: str = ""
    label_column: str = ""
    splits: Annotated[tuple[SplitRule, ...], Parts] = ()
    parent: Annotated[tuple[str, ...], Parts] = ()
    class_subset: Annotated[tuple[Annotated[tuple[str, int], _written(_member)], ...], Parts] = ()
    config: str = ""
    revision: str = ""
    label_map: Annotated[dict[str, str], _written(_renamings)] = Field(default_factory=dict)
    labels: str = ""

    @property
    def is_subtask(self) -> bool:
        """Whether the row is a selection of other rows' classes."""
        return bool(self.parent)

    def column(self, field: str, columns: Sequence[str], usual: Sequence[str], whose: str) -> str:
        """The column that a field of the row asks for, else the first that is called as usual, else the only one.

        Args:
            field: ``image_column`` or ``label_column``.
            columns: Those that there are.
            usual: Names, in any case of letters, the likeliest first.
            whose: What has the columns, for the message.

        Raises:
            ItemError: If there is no such column.
        """
        wanted = getattr(self, field)
        if wanted in columns:
            return str(wanted)
        named = {column.lower(): column for column in columns}
        found = [named[name.lower()] for name in usual if name.lower() in named]
        found = found or [*columns] * (len(columns) == 1)
        if found and not wanted:
            return found[0]
        error = f"{whose} has no column {wanted or usual[0]!r}; there are {', '.join(columns)}."
        raise ItemError(self.dataset_id, error, f"Call it {usual[0]}, or name it in the manifest's column {field}.")

    @model_validator(mode="after")
    def _is_complete(self) -> "DatasetRow":
        if self.is_subtask:
            if strangers := {base for base, _ in self.class_subset} - set(self.parent):
                raise ValueError(f"class_subset names {sorted(strangers)}, which are not in parent")
            if len(self.class_subset) < 2:
                raise ValueError("a sub-task needs at least two classes in class_subset")
            if len(set(self.class_subset)) < len(self.class_subset):
                raise ValueError("class_subset names a class twice")
        elif not self.loader or not self.source:
            raise ValueError("loader and source must be given (or parent and class_subset, for a sub-task)")
        names = [rule.name for rule in self.splits]
        if len(set(names)) < len(names):
            raise ValueError("splits names a split twice")
        shares: dict[str, float] = defaultdict(float)
        for rule in self.splits:
            shares[rule.source or rule.name] += rule.share or 0.0
        if over := [source for source, share in shares.items() if share > 1.0 + 1e-9]:
            raise ValueError(f"the shares of {over[0]!r} in splits sum to more than 1")
        return self


def read_dataset_manifest(table: pd.DataFrame) -> tuple[list[DatasetRow], list[Failure]]:
    """Rows of a manifest that can be used, and why the others can't.

    A repeated ``dataset_id`` is refused from its second row on; a sub-task of a refused or absent row is refused too.

    Args:
        table: The manifest as strings; missing cells and unknown further columns are allowed.

    Returns:
        Rows in the order of the table, and failures.
    """
    rows, failures = read_rows(table, DatasetRow, "dataset")
    bases = {row.dataset_id for row in rows if not row.is_subtask}
    usable = []
    for row in rows:
        if absent := [parent for parent in row.parent if parent not in bases]:
            message = f"its parent {absent[0]!r} is not a usable dataset of the manifest."
            failures.append(Failure(row.dataset_id, message, "Add or correct the parent's row."))
        else:
            usable.append(row)
    return usable, failures


def base_rows(rows: Iterable[DatasetRow]) -> list[DatasetRow]:
    """The rows that have images of their own."""
    return [row for row in rows if not row.is_subtask]
