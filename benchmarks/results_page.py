"""The results page: rendered from the committed figures of each benchmark, never written by hand.

    python benchmarks/results_page.py

Each file of ``docs/results/*.json`` is one section and says where its figures are from::

    {"title": ..., "order": 1, "command": ..., "device": ..., "date": "YYYY-MM-DD", "kind": ...,
     "text": ..., "data": ...}

``kind`` says how ``data`` is shown: ``evaluation`` (the document ``evaluation_metrics``), ``external`` (a published
table's), ``table`` (``columns`` and ``rows``), or ``lines`` (a flat object, such as a benchmark's last JSON line).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from result import PROJECT

from thesis_rec.base.errors import ItemError, explained
from thesis_rec.base.files import atomic_path
from thesis_rec.evaluation.charts import by_method, draw, evaluation_charts, external_chart

#: What a section must say about itself.
REQUIRED = ("title", "command", "device", "date", "kind", "data")

_METRICS = (
    ("weighted_tau", "weighted tau"), ("kendall_tau", "τ-b"), ("pearson", "Pearson"), ("ndcg@5", "NDCG@5"),
    ("regret@1", "regret@1"), ("regret@5", "regret@5"), ("recall@5", "recall@5"),
)  # fmt: skip
_QUADRANTS = {
    "Q1": "known models, known datasets (withheld cells)",
    "Q2": "unknown models, known datasets",
    "Q3": "known models, unknown datasets",
    "Q4": "unknown models, unknown datasets",
}

Json = Mapping[str, Any]


def render_results(folder: Path, page: Path) -> int:
    """Render all sections of ``folder`` to ``page`` with their pictures beside it, and return how many there are.

    Args:
        folder: Folder of section files.
        page: Markdown file to write; pictures go to ``<folder>/figures``.

    Raises:
        ItemError: If a file isn't a section.
    """
    sections = [(path, read_section(path)) for path in sorted(folder.glob("*.json"))]
    sections.sort(key=lambda item: (item[1].get("order", 99), item[0].name))
    parts = [
        "# Results\n",
        "This page is generated from the files in `docs/results/` by `python benchmarks/results_page.py`; "
        "don't edit it by hand. Intervals are 95 % bootstrap intervals over datasets (clusters: base tasks, families "
        "for unknown datasets).\n",
    ]
    for path, section in sections:
        pictures = _draw(section, folder / "figures", path.stem, page.parent)
        parts.append(section_text(section, pictures))
    with atomic_path(page) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")
    return len(sections)


def read_section(path: Path) -> dict[str, Any]:
    """One section's file.

    Raises:
        ItemError: If it lacks something or its kind is unknown.
    """
    with explained(str(path), "is no JSON file ({reason}).", "Run the benchmark again."):
        section = json.loads(path.read_text(encoding="utf-8"))
    if missing := [name for name in REQUIRED if name not in section or not section[name]]:
        raise ItemError(str(path), f"lacks {', '.join(missing)}.", f"A section names {', '.join(REQUIRED)}.")
    if section["kind"] not in _RENDERERS:
        raise ItemError(str(path), f"has unknown kind {section['kind']!r}.", f"Known: {', '.join(_RENDERERS)}.")
    return dict(section)


def section_text(section: Json, pictures: Sequence[str] = ()) -> str:
    """One section as Markdown."""
    head = [
        f"## {section['title']}\n",
        f"Command: `{section['command']}` · device: {section['device']} · date: {section['date']}\n",
    ]
    if section.get("text"):
        head.append(f"{section['text']}\n")
    images = [f"![{Path(picture).stem.replace('-', ' ')}]({picture})\n" for picture in pictures]
    return "\n".join([*head, *_RENDERERS[section["kind"]](section["data"]), *images])


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown; bars in cells are escaped."""
    lines = [list(columns), ["---", *["---:" for _ in columns[1:]]], *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines) + "\n"


def interval_text(entry: Json | None, digits: int = 3) -> str:
    """``mean [low, high]``, a dash where there is no figure."""
    if entry is None or entry.get("mean") is None:
        return "–"
    text = f"{entry['mean']:.{digits}f}"
    if entry.get("low") is not None and entry.get("high") is not None:
        text += f" [{entry['low']:.{digits}f}, {entry['high']:.{digits}f}]"
    return text


def _evaluation(data: Json) -> list[str]:
    parts = []
    if ceiling := data.get("noise_ceiling"):
        ceilings = "; ".join(f"{name.replace('_', ' ')} {interval_text(entry)}" for name, entry in ceiling.items())
        parts.append(f"Noise ceiling (weighted tau between repeats of the same measurement): {ceilings}.\n")
    for quadrant, methods in data["quadrants"].items():
        parts.append(f"### {quadrant}: {_QUADRANTS.get(quadrant, '')}\n")
        parts.append(_method_table(methods))
        if rivals := data.get("paired_all", {}).get(quadrant):
            rival = max(rivals, key=lambda name: methods[name]["weighted_tau"]["mean"] or -2.0)
            parts.append(
                f"Paired difference to {rival}, the strongest of all other methods here: "
                f"weighted tau {interval_text(rivals[rival]['weighted_tau'])}.\n"
            )
        own = methods.get("recommender", {}).get("weighted_tau", {}).get("mean")
        top = data.get("noise_ceiling", {}).get("linear_probe", {}).get("mean")
        if own and top:
            parts.append(f"Recommender: {own / top:.0%} of the measured ceiling.\n")
    for group, entry in data.get("groups", {}).items():
        taus = by_method(entry, "weighted_tau")
        parts += _grid(f"Weighted tau on {group} datasets", "method", taus, data["quadrants"])
    if found := data.get("calibration"):
        shown = ("coverage", "width", "interval_score")
        rows = [
            [quadrant, method, *(interval_text(entry.get(key)) for key in shown)]
            for quadrant, methods in found.items()
            for method, entry in methods.items()
        ]
        columns = ["quadrant", "method", "coverage", "width", "interval score"]
        parts += _part("90 % intervals of predicted values", columns, rows)
    if frontier := data.get("probing", {}).get("frontier"):
        regrets = {policy: {n: one["regret@1"] for n, one in entry.items()} for policy, entry in frontier.items()}
        parts += _by_number("Probing: regret@1 after a number of candidates was really run", regrets)
    if cost := data.get("cost_seconds"):
        rows = [[name, f"{seconds:.2g}"] for name, seconds in cost.items() if seconds is not None]
        parts += _part("Seconds to rank all candidates for one dataset", ["method", "seconds"], rows)
    return parts


def _part(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    return [f"### {title}\n", markdown_table(columns, rows)]


def _grid(title: str, corner: str, found: Mapping[str, Json], columns: Iterable[str], digits: int = 3) -> list[str]:
    """A table of intervals by name and column."""
    shown = list(columns)
    rows = [[name, *(interval_text(entry.get(key), digits) for key in shown)] for name, entry in found.items()]
    return _part(title, [corner, *shown], rows)


def _by_number(title: str, policies: Mapping[str, Json]) -> list[str]:
    """A table of policies by numbers of runs."""
    numbers = sorted({number for entry in policies.values() for number in entry}, key=int)
    return _grid(title, "policy", {name.replace("_", " "): entry for name, entry in policies.items()}, numbers, 4)


def _external(data: Json) -> list[str]:
    parts = [
        f"{data['models']} models, {data['datasets']} datasets; targets, each left out in turn: "
        f"{', '.join(data['targets'])}.\n",
        _method_table(data["methods"]),
    ]
    if paired := data.get("paired", {}):
        found = {name: {"difference": entry.get("weighted_tau")} for name, entry in paired.items()}
        parts += _grid(f"Paired difference in weighted tau to {data['baseline']}", "method", found, ["difference"], 4)
    within = {f"{group.capitalize()} targets": entry for group, entry in data.get("groups", {}).items()}
    within |= {f"Within {zoo.replace('_', ' ')}": entry for zoo, entry in data.get("sub_zoos", {}).items()}
    for title, entry in within.items():
        parts += [f"### {title}\n", _method_table(entry, ("weighted_tau", "regret@1"))]
    if left_out := data.get("source_left_out"):
        found = {method: {"weighted tau": entry} for method, entry in left_out.items()}
        parts += _grid("All models of one source left out", "method", found, ["weighted tau"])
    if quadrants := data.get("quadrants"):
        names = dict.fromkeys(name for methods in quadrants.values() for name in methods)
        found = {name: {q: methods.get(name) for q, methods in quadrants.items()} for name in names}
        parts += _grid("Quadrants with folds of models, weighted tau", "method", found, quadrants)
    if probes := data.get("probes"):
        title = f"Regret after real runs (without any: {interval_text(probes['without'], 4)})"
        parts += _by_number(title, probes["policies"])
    return parts


def _lines(data: Json) -> list[str]:
    return [markdown_table(["figure", "value"], [[name, _number(value)] for name, value in _flat(data)])]


_RENDERERS: dict[str, Callable[[Json], list[str]]] = {
    "evaluation": _evaluation,
    "external": _external,
    "table": lambda data: [markdown_table(data["columns"], data["rows"])],
    "lines": _lines,
}


def _method_table(methods: Json, only: Sequence[str] = ()) -> str:
    shown = [(key, label) for key, label in _METRICS if not only or key in only]
    order = sorted(methods, key=lambda name: -(methods[name].get("weighted_tau", {}).get("mean") or -2.0))
    rows = [[name, *(interval_text(methods[name].get(key)) for key, _ in shown)] for name in order]
    # The interval of the first figure, of the others their means.
    short = [[name, first, *(text.partition(" ")[0] for text in others)] for name, first, *others in rows]
    return markdown_table(["method", *(label for _, label in shown)], short)


def _flat(data: Json, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(value: Any) -> str:
    return "–" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def _draw(section: Json, folder: Path, stem: str, base: Path) -> list[str]:
    """Draw a section's pictures and give their paths relative to the page."""
    if section["kind"] == "evaluation":
        charts = evaluation_charts(section["data"])
    elif section["kind"] == "external":
        charts = {"methods": external_chart(section["data"])}
    else:
        return []
    found = []
    for name, chart in charts.items():
        target = folder / f"{stem}-{name}.png"
        with atomic_path(target) as temporary:
            # Without the date and version that Matplotlib writes, the same figures give the same bytes.
            draw(chart).savefig(temporary, dpi=110, bbox_inches="tight", metadata={"Software": None})
        found.append(Path(os.path.relpath(target, base)).as_posix())
    return found


def main() -> None:
    """Render ``docs/results.md``."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    count = render_results(PROJECT / "docs" / "results", PROJECT / "docs" / "results.md")
    logging.info("docs/results.md: %d sections", count)


if __name__ == "__main__":
    main()
