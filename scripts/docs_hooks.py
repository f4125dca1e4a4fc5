"""What MkDocs fills in when it builds the documentation: diagrams, tables of the catalog.

In a page, ``<!-- pipeline: NAME -->`` stands for the diagram, the steps and the outputs of a pipeline,
``<!-- layers -->`` for the legend, ``<!-- rooms -->`` for the rooms,
``<!-- catalog -->`` for all entries of the catalog and ``<!-- baselines -->`` for
the list of baselines; ``<!-- starter-models -->`` and ``<!-- starter-tasks -->`` count what the embedded zoo has.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pipeline_diagrams import contracts, diagram, legend, outputs, steps
from room_diagram import rooms_svg

STARTER = Path(__file__).resolve().parents[1] / "data" / "01_raw" / "starter"
_PIPELINE = re.compile(r"<!-- pipeline: (\w+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what stands in comments."""
    markdown = _PIPELINE.sub(lambda match: _pipeline(match[1]), markdown)
    for name, fill in FILLS.items():
        mark = f"<!-- {name} -->"
        if mark in markdown:
            markdown = markdown.replace(mark, fill())
    return markdown


def _pipeline(name: str) -> str:
    return f"{diagram(name)}\n\n{steps(name)}\n\nIt writes:\n\n{outputs(name)}\n"


def _catalog() -> str:
    parts = []
    for layer, entries in contracts().items():
        parts += [f"### {layer}", "", "| Name | Content |", "|---|---|"]
        parts += [f"| `{name}` | {description} |" for name, description in sorted(entries)]
        parts.append("")
    return "\n".join(parts)


def _baselines() -> str:
    from thesis_rec.evaluation.baselines import BASELINES, baseline

    rows = ["| Name | What it is |", "|---|---|"]
    for name in BASELINES:
        summary = (baseline(name).__doc__ or "").strip().split("\n\n", 1)[0]
        rows.append(f"| `{name}` | {' '.join(summary.split())} |")
    return "\n".join(rows)


def _starter_models() -> str:
    import pandas as pd

    models = pd.read_csv(STARTER / "model_manifest.csv")
    unknown = set(json.loads((STARTER / "sides.json").read_text(encoding="utf-8"))["model_families"])
    rows = ["| Family | Library | Models | Weights | |", "|---|---|---|---|---|"]
    for (family, loader), group in models.groupby(["family", "loader"]):
        least, most = group["n_parameters"].min(), group["n_parameters"].max()
        side = "unknown" if family in unknown else ""
        rows.append(f"| `{family}` | {loader} | {len(group)} | {least:,} to {most:,} | {side} |")
    families, sources = models["family"].nunique(), models["pretraining"].nunique()
    return f"{len(models)} models of {families} families, pre-trained on {sources} sources:\n\n" + "\n".join(rows)


def _starter_tasks() -> str:
    import pandas as pd

    datasets = pd.read_csv(STARTER / "dataset_manifest.csv", dtype=str, keep_default_na=False)
    base = datasets[datasets["parent"] == ""]
    unknown = set(json.loads((STARTER / "sides.json").read_text(encoding="utf-8"))["dataset_families"])
    counts = base["domain"].value_counts(sort=False)
    named = [f"`{name}` ({count})" for name, count in counts.items() if name not in unknown]
    hidden = [f"`{name}` ({count})" for name, count in counts.items() if name in unknown]
    return (
        f"{len(base)} base tasks of {base['domain'].nunique()} families and {len(datasets) - len(base)} sub-tasks.\n\n"
        f"Known families: {', '.join(named)}.\n\nUnknown families: {', '.join(hidden)}."
    )


FILLS = {
    "rooms": rooms_svg,
    "layers": legend,
    "catalog": _catalog,
    "baselines": _baselines,
    "starter-models": _starter_models,
    "starter-tasks": _starter_tasks,
}
