"""What damaged and hostile files do to the project: thousands of them, made from seeds, in watched processes.

Every file is read by the function that a run reads it with: images by their dataset, NPZ files and tables as datasets,
checkpoints by model extraction. A child process reads one after another; the parent counts how each ends:

- ``read``: used (whole, or the rest of the dataset without it);
- ``refused``: a refusal that names the item and says why;
- ``unnamed``: a refusal that doesn't; ``traceback``: any other exception; ``hang``: no end within 30 s; ``died``.

Pickles in the files try to leave a mark when they are executed; ``executed`` counts the marks.

    python benchmarks/hostile.py                       # 2,000 files
    python benchmarks/hostile.py --files 400 --seed 1

The last line is JSON; the exit status is 1 if anything was executed, hung, died, ended in a traceback or unnamed, or
took 2 GiB.
"""

import io
import json
import logging
import multiprocessing as mp
import os
import pickle
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from result import finish, parser_of

#: Seconds after which a file counts as a hang, and bytes that no process may take.
PATIENCE, MEMORY = 30.0, 2 << 30

#: Share of the files of each kind.
KINDS = {"image": 0.4, "npz": 0.25, "labels": 0.15, "checkpoint": 0.2}

Rng = np.random.Generator


class Mark:
    """A pickle that writes a file when it is loaded by a reader that executes pickles."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"echo x >> {self.path}",)


def damaged(content: bytes, rng: Rng) -> bytes:
    """Bytes with flips, cuts, insertions, repeated or zeroed stretches."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        a, b = sorted(rng.integers(0, len(data) + 1, 2).tolist())
        way = int(rng.integers(6))
        if way <= 1:
            for place in rng.integers(0, max(len(data), 1), int(rng.integers(1, 30))).tolist():
                if place < len(data):
                    data[place] = int(rng.integers(256))
        elif way == 2:
            del data[b:]
        elif way == 3:
            data[a:a] = rng.bytes(int(rng.integers(1, 64)))
        elif way == 4:
            data[a:b] = bytes(b - a)
        else:
            data[a:a] = data[a : min(b, a + 4096)]
    return bytes(data)


def picture(rng: Rng, side: int = 24) -> np.ndarray:
    return rng.integers(0, 256, (side, side, 3)).astype(np.uint8)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def make_image(folder: Path, rng: Rng, mark: Path) -> None:
    """A dataset of six good images and a bad one."""
    from PIL import Image

    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(picture(rng)).save(folder / name / f"{i}.png")
    bad = folder / "a" / "bad.png"
    way = int(rng.integers(12))
    if way == 0:
        bad.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n")
    elif way == 1:
        bad.write_bytes(png_claiming(int(rng.integers(1, 1 << 31)), int(rng.integers(1, 1 << 31))))
    elif way == 2:
        os.mkfifo(bad)
    elif way == 3:
        bad.symlink_to(["/dev/zero", "/dev/stdin", "/etc/passwd", bad][int(rng.integers(4))])
    elif way == 4:
        bad.write_bytes(pickle.dumps(Mark(mark)))
    else:
        kind = ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"][int(rng.integers(7))]
        image = Image.fromarray(picture(rng, int(rng.integers(2, 200))))
        image = [image, image.convert("P"), image.convert("L"), image.convert("I;16")][int(rng.integers(4))]
        buffer = io.BytesIO()
        extra: dict[str, Any] = {}
        if kind == "JPEG":
            exif = Image.Exif()
            exif[0x0112], exif[0x010E] = int(rng.integers(10)), "x" * int(rng.integers(200))
            extra["exif"] = exif
        try:
            image.save(buffer, kind, **extra)
        except (OSError, ValueError):
            image.convert("RGB").save(buffer, kind, **extra)
        bad.write_bytes(damaged(buffer.getvalue(), rng))


def header_of(shape: tuple[int, ...], kind: str) -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def make_npz(path: Path, rng: Rng, mark: Path) -> None:
    images: Any = np.stack([picture(rng, 8) for _ in range(12)])
    labels: Any = np.arange(12) % 3
    way = int(rng.integers(12))
    if way == 0:
        labels = np.array([Mark(mark)] * 12, dtype=object)
    elif way == 1:
        odd = [np.complex64, "M8[s]", "V3", "S2", np.float16, np.int8]
        images = (
            images.astype(np.float64).astype(odd[int(rng.integers(2))])
            if rng.random() < 0.3
            else np.zeros((12, 8, 8), odd[int(rng.integers(len(odd)))])
        )
    elif way == 2:
        images = images * rng.choice([np.nan, np.inf, -1e30, 1e-9, 1e9])
    elif way == 3:
        labels = rng.normal(size=12) if rng.random() < 0.5 else np.array(["\x1b[2J", "=1+1", "x" * 400] * 4)
    elif way == 4:
        images = images.reshape(12, -1) if rng.random() < 0.5 else images[:5]
    if way == 5:  # a member that claims a gigabyte and unpacks to a third
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("images.npy", "w") as file:
                file.write(header_of((1 << 10, 1 << 10, 1 << 10), "|u1"))
                for _ in range(20):
                    file.write(bytes(1 << 24))
            archive.writestr("labels.npy", header_of((1 << 10,), "|u1") + bytes(1 << 10))
        return
    if way == 6:  # headers that lie, or that never end
        shape = (int(rng.integers(1 << 40)),) * int(rng.integers(1, 5))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", header_of(shape, ["|u1", "<f8", "|O", "nonsense"][int(rng.integers(4))]))
            archive.writestr("labels.npy", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 60000)
        return
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images, labels=labels)
    content = buffer.getvalue()
    path.write_bytes(damaged(content, rng) if way > 6 else content)


def make_labels(folder: Path, rng: Rng, mark: Path) -> None:
    """A flat folder of images and a table of odd labels, a third of them otherwise whole."""
    from PIL import Image

    folder.mkdir(parents=True)
    names = [f"{i}.png" for i in range(16)]
    for name in names:
        Image.fromarray(picture(rng)).save(folder / name)
    pool = ["cat", "dog ", "", "nan", "-1", "=1+1", "\x1b[31m", "é" * 100, "../x", 'a"b', "a,b", "0.5", "\x00"]
    way = int(rng.integers(9))
    odd = rng.random() / 2
    rows = [
        f"{name},{pool[int(rng.integers(len(pool)) if rng.random() < odd else i % 2)]}" for i, name in enumerate(names)
    ]
    if way == 0:
        rows = [row.replace(row.split(",")[0], "../../../../../etc/passwd") for row in rows]
    text = "\n".join(["file_name,species", *rows]).encode()
    if way == 1:
        text = pickle.dumps(Mark(mark))
    elif way == 2:
        text = text + b'\n"' + b"x" * int(rng.integers(1 << 20))
    elif way == 3:
        os.mkfifo(folder / "metadata.csv")
        return
    elif way in (4, 5):
        text = damaged(text, rng)
    (folder / "metadata.csv").write_bytes(text)


def make_checkpoint(folder: Path, rng: Rng, mark: Path) -> None:
    import torch
    from safetensors.torch import save as save_safetensors

    folder.mkdir(parents=True)
    state = {f"layer{i}.weight": torch.from_numpy(rng.normal(size=(8, 8)).astype(np.float32)) for i in range(4)}
    way = int(rng.integers(8))
    if way == 0:
        torch.save({"state_dict": Mark(mark)}, folder / "model.pt")
    elif way == 1:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Mark(mark)))
    elif way == 2:  # many views of one storage
        whole = torch.zeros(1 << 22)
        torch.save({f"w{i}": whole[:] for i in range(100)}, folder / "model.pt")
    elif way == 3:
        header = json.dumps(
            {"w": {"dtype": "F32", "shape": [int(rng.integers(1 << 40))] * 2, "data_offsets": [0, 1 << 60]}}
        ).encode()
        length = len(header) if rng.random() < 0.5 else int(rng.integers(1 << 62))
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + header)
    elif way == 4:
        state["layer0.weight"][0, 0] = float(rng.choice([np.nan, np.inf, -np.inf, 1e38]))
        torch.save(state, folder / "model.pt")
    elif way == 5:
        (folder / "model.safetensors").write_bytes(damaged(save_safetensors(state), rng))
    else:
        buffer = io.BytesIO()
        torch.save(state, buffer, _use_new_zipfile_serialization=bool(rng.integers(2)))
        (folder / "model.pt").write_bytes(damaged(buffer.getvalue(), rng))


MAKERS: dict[str, Callable[[Path, Rng, Path], None]] = {
    "image": make_image, "npz": make_npz, "labels": make_labels, "checkpoint": make_checkpoint,
}  # fmt: skip


def read(kind: str, path: Path) -> None:
    """Read a case as a run does."""
    from thesis_rec.images.loading import load_task_images
    from thesis_rec.images.manifest import DatasetRow
    from thesis_rec.models.model_extraction import extract_model
    from thesis_rec.models.model_manifest import ManifestRow

    if kind == "checkpoint":
        row = ManifestRow(model_id=path.name, loader="timm", source=str(path))
        extract_model(row, path.parent, threads=1)
        return
    loader = "npz" if kind == "npz" else "folder"
    fields = {"label_column": "species"} if kind == "labels" else {}
    dataset = DatasetRow.model_validate({"dataset_id": path.stem, "loader": loader, "source": str(path)} | fields)
    notes: list[Any] = []
    task = load_task_images(dataset, path.parent, warnings=notes)
    if kind == "image" and len(task.train_images) + len(task.test_images) < 7:
        # What is left out must be told by its name, or counted by its kind.
        told = [note.error for note in notes if "bad.png" in note.error or "not read: 1 " in note.error]
        assert told, f"left out without a word: {notes}"


def child(pipe: Connection) -> None:
    """Read one case after another; say how each ended."""
    from thesis_rec.base.errors import ItemError

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (case := pipe.recv()) is not None:
        kind, path = case
        try:
            read(kind, path)
            end, reason = "read", ""
        except ItemError as error:
            named = path.stem in error.item and len(error.error) > 10 and "\n" not in str(error)
            end, reason = ("refused" if named else "unnamed"), str(error)
        except BaseException:
            end, reason = "traceback", traceback.format_exc()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        pipe.send((end, reason, peak))


class Reader:
    """A child process, started again when it hangs or dies."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = mp.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=child, args=(other,), daemon=True)
        self._process.start()
        other.close()
        self._fresh = True

    def read(self, kind: str, path: Path) -> tuple[str, str, int]:
        """How a case ends: its end, the reason, and the process's peak memory."""
        self._pipe.send((kind, path))
        try:
            # Imports of the first case aren't its fault.
            if self._pipe.poll(PATIENCE + (120 if self._fresh else 0)):
                self._fresh = False
                end, reason, peak = self._pipe.recv()
                return end, reason, peak
            end = "hang"
        except EOFError:
            end = "died"
        self._process.kill()
        self._process.join()
        self._start()
        return end, "", 0

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join(10)


def cases(count: int, seed: int) -> Iterator[tuple[str, int]]:
    """Kinds and seeds."""
    for kind, share in KINDS.items():
        for number in range(round(count * share)):
            yield kind, seed * 1_000_003 + number


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=5, help="bad ends that are shown")
    arguments = parser.parse_args()
    started, ends, slowest, peak, shown = time.monotonic(), {kind: Counter() for kind in KINDS}, 0.0, 0, 0
    reader = Reader()
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "executed"
        for kind, seed in cases(arguments.files, arguments.seed):
            path = Path(folder) / (f"case_{kind}_{seed}" + (".npz" if kind == "npz" else ""))
            MAKERS[kind](path, np.random.default_rng([seed, list(KINDS).index(kind)]), mark)
            began = time.monotonic()
            end, reason, memory = reader.read(kind, path)
            slowest, peak = max(slowest, time.monotonic() - began if end != "hang" else PATIENCE), max(peak, memory)
            ends[kind][end] += 1
            if end not in ("read", "refused") and shown < arguments.show:
                shown += 1
                print(f"{kind} {seed}: {end}\n{reason}", file=sys.stderr)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        executed = len(mark.read_text().splitlines()) if mark.exists() else 0
    reader.close()
    total = sum(ends.values(), Counter())
    result = {
        "files": sum(total.values()), "seed": arguments.seed, "seconds": round(time.monotonic() - started, 1),
        "executed": executed, "slowest_s": round(slowest, 2), "peak_mib": round(peak / 2**20),
        **{end: total[end] for end in ("read", "refused", "unnamed", "traceback", "hang", "died")},
    }  # fmt: skip
    rows = [{"kind": kind, **{end: ends[kind][end] for end in ("read", "refused")}} for kind in KINDS]
    finish(result | {"kinds": {kind: dict(count) for kind, count in ends.items()}}, arguments.save, "Hostile files", 95,
           "Damaged and hostile files made from seeds; how reading them ends.", rows)  # fmt: skip
    bad = executed or peak >= MEMORY or sum(total[end] for end in ("unnamed", "traceback", "hang", "died"))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
