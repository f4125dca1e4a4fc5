"""Files that are whole or absent: atomic writes, safe names and hashes."""

import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

#: Longest encoded identifier: file systems allow 255 bytes, of which endings and temporary names need some.
MAX_ENCODED_ID = 200


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block succeeds and vanishes when it doesn't.

    The parent folder is made when needed. Readers see the old file or the new one, never half of one; two writers
    don't disturb each other, the last one wins.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not by tempfile, whose files only their owner can read; on a cluster the group shares results.
    temporary = target.with_name(f".{target.name[:80]}.{token_hex(8)}.tmp{target.suffix}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        if error.errno and error.strerror and not error.filename:
            error.filename = str(target)  # a full disk names no file
        raise
    except RuntimeError as error:
        if "inline_container" not in str(error):
            raise
        # What torch says of a full disk.
        raise OSError(errno.EIO, "It can't be written whole; is the disk full?", str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def one_at_a_time(path: str | Path) -> Iterator[None]:
    """Others that change the file at ``path`` wait, on file systems that have locks."""
    import fcntl

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("a") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=False) + "\n", encoding="utf-8")


def save_arrays(path: str | Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as a compressed NPZ file, atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_arrays(path: str | Path, *names: str) -> dict[str, NDArray[Any]]:
    """The arrays of an NPZ file that have these names, all without any; pickled objects are refused.

    Raises:
        ValueError: If it holds pickled objects, or is no NPZ file.
        OSError: If it can't be opened.
    """
    from zipfile import is_zipfile

    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files if not names or name in names}
    except Exception as error:
        if is_zipfile(path):
            raise
        # numpy takes anything else for a pickle, and tells how to read that all the same.
        raise ValueError(f"it {placeholder(path) or 'is no NPZ file, or its end is missing'}") from error


def readable(partition: Callable[..., dict[str, Any]], *names: str) -> dict[str, Any] | None:
    """What an earlier run left of one item, all of it or some arrays; None where it can't be read."""
    try:
        return partition(*names)
    except Exception as error:
        # Whatever is wrong with an old partition, the remedy is to make it again.
        logger.info("What an earlier run left can't be read (%s) and is made again", error)
        return None


def encode_id(identifier: str) -> str:
    """An identifier as one safe file name (percent-encoding), e.g. ``timm/resnet18`` as ``timm%2Fresnet18``.

    A leading dot is encoded too, so that no identifier becomes a hidden file or a path outside its folder.
    """
    name = quote(identifier, safe="-_.~+=@")
    return "%2E" + name[1:] if name.startswith(".") else name


def check_id(identifier: str) -> str:
    """The identifier, if it can become a file name.

    Raises:
        ValueError: If it isn't printable, or longer than file systems allow once it is encoded and has an ending.
    """
    if not identifier.isprintable():
        raise ValueError("must be printable")
    if (length := len(encode_id(identifier))) > MAX_ENCODED_ID:
        raise ValueError(f"takes {length} bytes as an encoded file name, more than {MAX_ENCODED_ID}")
    return identifier


def nearest_id(name: str) -> str:
    """A name as an identifier: what can't be printed becomes ``_``, and the end is cut off where it is too long."""
    name = "".join(character if character.isprintable() else "_" for character in name)
    while len(encode_id(name)) > MAX_ENCODED_ID:
        name = name[:-1]
    return name


def decode_id(name: str) -> str:
    """The identifier that :func:`encode_id` made ``name`` of."""
    return unquote(name)


def placeholder(path: str | Path) -> str:
    """What stands in a file's place, as the end of a sentence: nothing, a Git LFS pointer, a page, gzip; else ""."""
    with open(path, "rb") as file:
        head = file.read(64).lstrip().lower()
    if not head:
        return "is empty (0 bytes)"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file (git lfs pull fetches it)"
    if head.startswith(b"\x1f\x8b"):
        return "is compressed by gzip (gunzip unpacks it)"
    return "is a web page, saved under this name" if head.startswith((b"<!doctype", b"<html")) else ""


def inside(path: Path, folder: Path) -> bool:
    """Whether ``path``, all links followed, lies in ``folder``."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def file_state(path: str | Path) -> bytes:
    """What tells without reading a file that it is the same as before, as long as it is equal.

    That is its device, inode, size and times of the last change of content and of status. Copying a file over another,
    or setting its times back, changes at least one of them. That there is none is a state too.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        return type(error).__name__.encode()
    facts = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return ":".join(map(str, facts)).encode()


def sha256_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(content: Any) -> str:
    """Hexadecimal SHA-256 of a JSON-serialisable value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
