"""Checking a zoo's files against the hashes that its provenance record holds."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from thesis_rec.base.errors import ItemError
from thesis_rec.base.files import sha256_file

#: Name of the record in the zoo's folder; its ``files`` are SHA-256 by relative path.
PROVENANCE_FILE = "PROVENANCE.json"
_HINT = "Restore it from the repository (git checkout), or rebuild the zoo."


def check_file(root: Path, name: str, expected: str) -> None:
    """Compare a file with its recorded hash.

    Raises:
        ItemError: Naming the file, if it is absent or changed.
    """
    path = root / name
    if not path.is_file():
        raise ItemError(name, "The file is missing from the embedded zoo.", _HINT)
    if sha256_file(path) != expected:
        raise ItemError(name, f"The file's bytes differ from those recorded in {PROVENANCE_FILE}.", _HINT)


def check_source(root: Path, source: Path) -> None:
    """Compare the recorded files of a model with their hashes; a folder without a record isn't checked.

    Args:
        root: Folder of the zoo.
        source: The model's folder or file, relative to it.

    Raises:
        ItemError: Naming the first file that is absent or changed.
    """
    record = root / PROVENANCE_FILE
    if not record.is_file():
        return
    name = source.as_posix()
    for recorded, expected in _hashes(record, record.stat().st_mtime_ns).items():
        if recorded == name or recorded.startswith(name + "/"):
            check_file(root, recorded, expected)


@functools.lru_cache(maxsize=4)
def _hashes(record: Path, _changed: int) -> dict[str, str]:
    """The hashes of a record, read again when it was changed; none if it can't be read."""
    try:
        files: dict[str, str] = json.loads(record.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError):
        return {}
    return files
