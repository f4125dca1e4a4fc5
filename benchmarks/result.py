"""What every benchmark begins and ends with: its arguments, its last line of JSON and a section of the results page."""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

#: What this machine calls its processor.
PROCESSOR = platform.processor() or platform.machine()


def parser_of(text: str | None) -> argparse.ArgumentParser:
    """The parser of a benchmark that is described by ``text``, with ``--save docs/results/name.json``."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", type=Path, help="also write a section of the results page to this file")
    return parser


def in_own_process(*arguments: object) -> Any:
    """What this benchmark prints last, as JSON, when it runs with other arguments: time and memory are then its own."""
    command = [sys.executable, sys.argv[0], *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def draw_images(folder: Path, classes: int, per_class: int, side: int = 224) -> Path:
    """A folder of images, each class with a pattern of its own under noise."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for c in range(classes):
        pattern = np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((side // 8, side // 8, 1)))
        (folder / f"class_{c}").mkdir(parents=True)
        for i in range(per_class):
            pixels = np.clip(pattern + rng.normal(0, 40, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class_{c}" / f"{i}.png")
    return folder


def finish(
    result: Mapping[str, Any],
    save: Path | None,
    title: str,
    order: int,
    text: str,
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Print the rows and, as the last line, the result; and save it.

    Args:
        result: Everything that was measured; ``device`` says on what.
        save: File of the section; None for none.
        title: Heading of the section.
        order: Its place on the page.
        text: What its figures mean.
        rows: What the section shows as a table; None for all single figures of ``result``.
    """
    import pandas as pd

    if rows is None:
        kind, data = "lines", {key: value for key, value in result.items() if key not in ("benchmark", "device")}
    else:
        kind, data = "table", {"columns": list(rows[0]), "rows": [[_short(v) for v in r.values()] for r in rows]}
        print(pd.DataFrame(rows).to_string(index=False, float_format="{:.4g}".format))
    if save is not None:
        save_section(save, title, order, str(result["device"]), text, kind, data)
    print(json.dumps(result))


def save_section(
    path: Path, title: str, order: int, device: str, text: str, kind: str, data: Mapping[str, Any]
) -> None:
    """Write a section of the results page; see ``results_page.py`` for the kinds of data."""
    from thesis_rec.base.files import write_json

    places = ("--save", "--output", str(path), str(path.parent))
    arguments = [a for a in sys.argv[1:] if a.partition("=")[0] not in places]
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *arguments])
    about = {"command": command, "device": device, "date": time.strftime("%Y-%m-%d")}
    write_json(path, {"title": title, "order": order, **about, "kind": kind, "text": text, "data": data})


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
