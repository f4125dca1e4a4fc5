"""Diagrams of the pipelines as they are registered: one row per step, inputs at the left, outputs at the right."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[1]

#: Colour of each of Kedro's layers.
LAYERS = {
    "01_raw": "#8d6e63",
    "02_intermediate": "#f9a825",
    "03_primary": "#ef6c00",
    "04_feature": "#2e7d32",
    "05_model_input": "#00838f",
    "06_models": "#1565c0",
    "07_model_output": "#6a1b9a",
    "08_reporting": "#ad1457",
}

BOX, PILL, HEIGHT, GAP, AIR = 250, 210, 26, 8, 26
WIDTH = 2 * BOX + PILL + 2 * 70
_FONT = "font-family='ui-monospace, SFMono-Regular, Menlo, Consolas, monospace' font-size='12.5'"


@cache
def catalog() -> dict[str, tuple[str, str]]:
    """Layer and description of every entry of the catalog, as written."""
    found: dict[str, tuple[str, str]] = {}
    for file in sorted((PROJECT / "conf" / "base" / "catalog").glob("*.yml")):
        for name, entry in (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).items():
            about = (entry.get("metadata") or {}) if isinstance(entry, dict) else {}
            found[name] = (about.get("layer", ""), about.get("description", ""))
    return found


def diagram(name: str) -> str:
    """A pipeline as an SVG picture of ``WIDTH`` user units.

    Args:
        name: Name of a package in ``thesis_rec.pipelines``.
    """
    pipeline = import_module(f"thesis_rec.pipelines.{name}.pipeline").create_pipeline()
    made: dict[str, int] = {}
    parts: list[str] = []
    top = 6
    for number, node in enumerate(pipeline.nodes, start=1):
        inputs = [item for item in dict.fromkeys(node.inputs) if not item.startswith(("params:", "parameters"))]
        outputs = list(node.outputs)
        rows = max(len(inputs), len(outputs), 1)
        height = rows * (HEIGHT + GAP) - GAP
        middle = top + height / 2
        parts += _column(inputs, middle, made, right=False)
        parts += _column(outputs, middle, {}, right=True)
        parts.append(_pill(node.name.removesuffix("_node"), number, BOX + 70, middle, node.func.__doc__ or ""))
        made |= dict.fromkeys(outputs, number)
        top += height + AIR
    title = escape(f"The pipeline {name}, step by step")
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {top - AIR + 6}' role='img' "
        f"aria-label='{title}' class='pipeline'><title>{title}</title>{''.join(parts)}</svg>"
    )


def _column(names: list[str], middle: float, made: dict[str, int], *, right: bool) -> list[str]:
    """Boxes of one side of a step with the lines between them and its pill."""
    parts = []
    left, edge, pill = (WIDTH - BOX - 1, WIDTH - BOX - 1, WIDTH - BOX - 70) if right else (0, BOX, BOX + 70)
    start = middle - (len(names) * (HEIGHT + GAP) - GAP) / 2
    for i, name in enumerate(names):
        y = start + i * (HEIGHT + GAP)
        parts.append(_line(edge, y + HEIGHT / 2, pill, middle, arrow=right))
        parts.append(_box(name, left, y, made.get(name)))
    return parts


def _line(edge: float, y: float, pill: float, middle: float, *, arrow: bool) -> str:
    half = (edge + pill) / 2
    tip = ""
    if arrow:
        tip = f"<path d='M{edge - 7},{y - 4} L{edge},{y} L{edge - 7},{y + 4} Z' fill='#90a4ae'/>"
    curve = f"M{edge},{y} C{half},{y} {half},{middle} {pill},{middle}"
    return f"<path d='{curve}' fill='none' stroke='#90a4ae' stroke-width='1.4'/>{tip}"


def _box(name: str, x: float, y: float, maker: int | None) -> str:
    layer, description = catalog().get(name, ("", "kept in memory for the next step"))
    colour = LAYERS.get(layer, "#b0bec5")
    note = escape(f"{layer}: {description}" if layer else description)
    # What an earlier step of the same picture made is dashed and says which.
    dash = " stroke-dasharray='3 3'" if maker else ""
    badge = ""
    if maker:
        badge = f"<text x='{x + BOX - 10}' y='{y + 17}' text-anchor='end' fill='#546e7a' {_FONT}>{maker}</text>"
    return (
        f"<g><title>{note}</title>"
        f"<rect x='{x}' y='{y}' width='{BOX}' height='{HEIGHT}' rx='4' fill='#fff' stroke='{colour}'{dash}/>"
        f"<rect x='{x}' y='{y}' width='7' height='{HEIGHT}' rx='3' fill='{colour}'/>"
        f"<text x='{x + 15}' y='{y + 17}' fill='#263238' {_FONT}>{escape(name)}</text>{badge}</g>"
    )


def _pill(name: str, number: int, x: float, middle: float, document: str) -> str:
    y = middle - 18
    summary = escape(document.strip().split("\n", 1)[0])
    small = _FONT.replace("12.5", "11.5")
    return (
        f"<g><title>{summary}</title><rect x='{x}' y='{y}' width='{PILL}' height='36' rx='18' fill='#eceff1' "
        f"stroke='#607d8b'/><circle cx='{x + 18}' cy='{middle}' r='11' fill='#607d8b'/>"
        f"<text x='{x + 18}' y='{middle + 4.5}' text-anchor='middle' fill='#fff' {_FONT}>{number}</text>"
        f"<text x='{x + 36}' y='{middle + 4.5}' fill='#263238' {small}>{escape(name)}</text></g>"
    )


def steps(name: str) -> str:
    """The steps of a pipeline as a numbered list: what its nodes' docstrings say first."""
    pipeline = import_module(f"thesis_rec.pipelines.{name}.pipeline").create_pipeline()
    lines = []
    for number, node in enumerate(pipeline.nodes, start=1):
        summary = (node.func.__doc__ or "").strip().split("\n", 1)[0].rstrip(".")
        lines.append(f"{number}. `{node.name.removesuffix('_node')}`: {summary}.")
    return "\n".join(lines)


def outputs(name: str) -> str:
    """What a pipeline writes, as a table from the catalog."""
    pipeline = import_module(f"thesis_rec.pipelines.{name}.pipeline").create_pipeline()
    rows = ["| Name | Layer | Content |", "|---|---|---|"]
    for item in sorted(pipeline.all_outputs(), key=lambda output: (catalog().get(output, ("z", ""))[0], output)):
        if item in catalog():
            layer, description = catalog()[item]
            rows.append(f"| `{item}` | `{layer}` | {description} |")
    return "\n".join(rows)


def legend() -> str:
    """The layers and their colours."""
    style = "padding:0 .8em 0 .4em;border-left:10px solid"
    items = "".join(f"<span style='{style} {colour}'>{layer}</span>" for layer, colour in LAYERS.items())
    return f"<p class='layers'>{items}</p>"


def contracts() -> dict[str, Any]:
    """Every entry of the catalog by layer: name, description and where it lies."""
    by_layer: dict[str, list[tuple[str, str]]] = {}
    for name, (layer, description) in catalog().items():
        if layer and not name.startswith("_"):
            by_layer.setdefault(layer, []).append((name, description))
    return dict(sorted(by_layer.items()))
