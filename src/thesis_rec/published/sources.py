"""Where published tables come from, and having them here: whole, of the pinned commit, or not at all."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path, PurePosixPath

import yaml
from pydantic import Field

from thesis_rec.base.errors import ItemError, explained
from thesis_rec.base.files import atomic_path, sha256_file
from thesis_rec.base.progress import track
from thesis_rec.base.settings import Settings

_REMEDY = "Run once with network, or set THESIS_REC_BENCHMARKS to a folder that holds the tables."

#: Files that are fetched at a time.
AT_ONCE = 8


class TableFile(Settings):
    """One file of a source.

    Attributes:
        path: Its path in the repository; empty where the repository has no such single file.
        local: Its path below the folder of tables.
        sha256: Checksum; empty where none is pinned, in which case the commit alone says what it is.
    """

    path: str = ""
    local: str = ""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")


class Source(Settings):
    """A published table, as ``sources.yml`` describes it.

    Attributes:
        format: How it is read; see :mod:`thesis_rec.published.cells`.
        repository: GitHub repository.
        commit: Pinned commit.
        licence: Licence of the figures; a table without one is no source.
        protocol: What was measured, in words.
        files: Its files in the repository.
        local: The same table as files of the folder of tables, where they differ from ``files``.
        revisions: Revision by model, where there is one file for each model and task.
    """

    format: str
    repository: str
    commit: str = Field(min_length=7)
    licence: str = Field(min_length=2)
    protocol: str
    files: tuple[TableFile, ...] = ()
    local: tuple[TableFile, ...] = ()
    revisions: Mapping[str, str] = Field(default_factory=dict)

    @property
    def address(self) -> str:
        """Address of the repository's files at the commit."""
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}"


def read_sources() -> dict[str, Source]:
    """The sources of ``sources.yml`` by name."""
    content = yaml.safe_load(Path(__file__).with_name("sources.yml").read_text(encoding="utf-8"))
    return {str(name): Source(**entry) for name, entry in content.items()}


def table_files(
    name: str, source: Source, tables: Path | None, cache: Path, tasks: Sequence[str] = ()
) -> tuple[list[Path], str]:
    """The files of a source on this machine, fetched if need be, and one checksum of them all.

    Args:
        name: Name of the source, for messages.
        source: The source.
        tables: Folder of tables (``THESIS_REC_BENCHMARKS``), or None to use the cache and the network.
        cache: Folder in which fetched files are kept, by source and commit.
        tasks: Tasks that are asked for, where there is one file for each model and task.

    Raises:
        ItemError: If a file is missing and can't be fetched, or its checksum differs.
    """
    given = tables is not None and bool(source.local or not source.revisions)
    root = tables if tables is not None and given else cache / name / source.commit
    chosen = (source.local or source.files) if given else (*source.files, *_task_files(source, tasks))

    def have(one: TableFile) -> Path | None:
        path = root / (one.local if given else one.path)
        if not path.is_file():
            if given:
                raise ItemError(name, f"{path} doesn't exist.", _REMEDY)
            if not _fetch(name, f"{source.address}/{one.path}", path, one, bool(source.revisions)):
                return None
        _check(name, one, path)
        return path

    with ThreadPoolExecutor(AT_ONCE) as pool:
        # Thousands of small files: nearly all of the time is waiting for answers. One that fails cancels the others.
        paths = track(pool.map(have, chosen), f"Reading {name}", len(chosen))
        found = [path for path in paths if path is not None]
    if not found:
        raise ItemError(name, f"{source.address} holds none of the files asked for.", _REMEDY)
    return found, checksum(found, root)


def checksum(files: Sequence[Path], root: Path) -> str:
    """SHA-256 over sorted relative paths and the SHA-256 of each file's bytes."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda one: one.relative_to(root).as_posix()):
        digest.update(f"{path.relative_to(root).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def _task_files(source: Source, tasks: Sequence[str]) -> list[TableFile]:
    return [
        TableFile(path=str(PurePosixPath("results", model.replace("/", "__"), revision, f"{task}.json")))
        for model, revision in source.revisions.items()
        for task in tasks
    ]


def _fetch(name: str, address: str, path: Path, one: TableFile, may_lack: bool) -> bool:
    """Fetch a file, whole or not at all; False where the source has no such file and needn't."""
    import fsspec

    # The errors of aiohttp, ssl, sockets and disks share no base.
    with explained(name, f"{address} can't be fetched ({{reason}}).", _REMEDY):
        try:
            with fsspec.open(address, "rb") as remote, atomic_path(path) as temporary:
                with temporary.open("wb") as file:
                    shutil.copyfileobj(remote, file)
                _check(name, one, temporary)
        except FileNotFoundError as error:
            # fsspec says so of whatever befalls a request: no network and too many requests don't make a file absent.
            if (cause := error.__cause__) is not None and getattr(cause, "status", None) != HTTPStatus.NOT_FOUND:
                raise cause from None
            if may_lack:
                return False
            raise ItemError(name, f"{address} doesn't exist any more.", _REMEDY) from None
    return True


def _check(name: str, one: TableFile, path: Path) -> None:
    if one.sha256 and (found := sha256_file(path)) != one.sha256:
        text = f"{one.local or one.path} has the checksum {found[:12]}…, not the pinned {one.sha256[:12]}…."
        raise ItemError(name, text, "Delete it and fetch it again; if it was changed upstream, pin the new one.")
