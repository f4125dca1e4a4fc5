"""A working folder as archives that are small enough to travel, so that slices of minutes continue each other."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

from thesis_rec.base.errors import ItemError
from thesis_rec.base.files import atomic_path

#: Largest archive of a bundle in bytes.
PIECE = 15 << 20


def export_bundle(folder: Path, target: Path, piece: int = PIECE) -> list[Path]:
    """Pack a working folder into archives that are small enough to travel.

    Args:
        folder: Working folder.
        target: Where the archives ``bundle_00.zip`` ... are written.
        piece: Largest archive in bytes.

    Returns:
        The archives. Each is whole by itself; unpacking some gives some of the items.
    """
    target.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    groups: list[list[Path]] = [[]]
    size = 0
    for path in files:
        # Entries can grow by their headers, never by compression's failure to help.
        cost = path.stat().st_size + 2 * len(str(path)) + 200
        if groups[-1] and size + cost > piece:
            groups.append([])
            size = 0
        groups[-1].append(path)
        size += cost
    pieces = []
    for number, group in enumerate(groups):
        piece_path = target / f"bundle_{number:02d}.zip"
        with atomic_path(piece_path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in group:
                archive.write(path, path.relative_to(folder).as_posix())
        pieces.append(piece_path)
    return pieces


def import_bundle(archives: Iterable[Path], folder: Path) -> int:
    """Unpack archives of :func:`export_bundle` into a working folder.

    Returns:
        Number of files.

    Raises:
        ItemError: If an archive is damaged or names a path outside the folder.
    """
    count = 0
    for path in archives:
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    target = folder / entry.filename
                    if not target.resolve().is_relative_to(folder.resolve()):
                        raise ItemError(
                            str(path), f"The entry {entry.filename!r} leads out of the folder.", "Don't use it."
                        )
                    with atomic_path(target) as temporary:
                        temporary.write_bytes(archive.read(entry))
                    count += 1
        except zipfile.BadZipFile as error:
            raise ItemError(str(path), "The archive is damaged.", "Copy it again.") from error
    return count
