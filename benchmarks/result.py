"""How every benchmark ends: one line of JSON and, when asked for, a section of the results page."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))


def add_save_option(parser: argparse.ArgumentParser) -> None:
    """``--save docs/results/name.json``."""
    parser.add_argument("--save", type=Path, help="also write a section of the results page to this file")


def finish(
    result: Mapping[str, Any],
    save: Path | None,
    title: str,
    order: int,
    text: str,
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Print the result as the last line, and save it.

    Args:
        result: Everything that was measured; ``device`` says on what.
        save: File of the section; None for none.
        title: Heading of the section.
        order: Its place on the page.
        text: What its figures mean.
        rows: What the section shows as a table; None for all single figures of ``result``.
    """
    if save is not None:
        from thesis_rec.base.files import write_json

        if rows is None:
            kind, data = "lines", {key: value for key, value in result.items() if key not in ("benchmark", "device")}
        else:
            kind, data = "table", {"columns": list(rows[0]), "rows": [[_short(v) for v in r.values()] for r in rows]}
        script = Path(sys.argv[0]).name
        arguments = [a for a in sys.argv[1:] if not a.startswith("--save") and a != str(save)]
        command = shlex.join(["python", f"benchmarks/{script}", *arguments])
        about = {"command": command, "device": str(result["device"]), "date": time.strftime("%Y-%m-%d")}
        write_json(save, {"title": title, "order": order, **about, "kind": kind, "text": text, "data": data})
    print(json.dumps(result))


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
