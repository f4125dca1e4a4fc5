"""``kedro recommend``: which model for these images on this hardware."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from thesis_rec.recommendation.answer import Recommendation
    from thesis_rec.recommendation.request import ProbeStep

#: Exit status when no model keeps the limits.
NOTHING_FITS = 2


@click.command()
@click.argument("images", type=click.Path(path_type=Path))
@click.option("--device", default="here", show_default=True, help="This machine, or part of a device's name.")
@click.option("--max-latency-ms", type=click.FloatRange(min=0, min_open=True), help="Milliseconds of one call.")
@click.option("--min-throughput", type=click.FloatRange(min=0, min_open=True), help="Images per second.")
@click.option("--max-memory-mb", type=click.FloatRange(min=0, min_open=True), help="MiB of weights and one call.")
@click.option("--max-parameters", type=click.FloatRange(min=0, min_open=True), help="Number of weights, such as 5e6.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Images in a call.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True)
@click.option("--licence", "licences", multiple=True, help="Allowed licence; several times for several.")
@click.option("--family", "families", multiple=True, help="Allowed architecture family; several times for several.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Models to show.")
@click.option("--probe", type=click.IntRange(min=1), help="Really try this many candidates on the images.")
@click.option("--probe-seconds", type=click.FloatRange(min=0, min_open=True), help="Try candidates for so long.")
@click.option("--measure/--no-measure", default=True, help="Measure the best candidates here where a limit needs it.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the choice of images.")
@click.option("--format", "shape", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Folder for report, table and document.")
@click.option("--env", "-e", "environment", default=None, help="Kedro environment, such as hub.")
@click.pass_context
def recommend(context: click.Context, /, images: Path, shape: str, output: Path | None, **given: Any) -> None:
    """Rank the models that fit your hardware by their predicted accuracy on your IMAGES.

    IMAGES is a folder with one folder of images per class, or an NPZ file with images and labels. Nothing is trained,
    and no model is run on the images unless --probe or --probe-seconds asks for it; Ctrl-C ends probing early and
    keeps what was learned. Exit status 2 says that no model keeps the limits; the smallest changes are named.
    """
    from thesis_rec.commands.artefacts import load_bundle
    from thesis_rec.hardware.budget import Budget
    from thesis_rec.knowledge.active_probing import ProbeBudget
    from thesis_rec.recommendation.answer import Options
    from thesis_rec.recommendation.asking import recommend_images

    # Standard output belongs to the answer.
    logging.getLogger("thesis_rec.catalog").setLevel(logging.WARNING)
    limits = (
        "max_latency_ms", "min_throughput", "max_memory_mb", "max_parameters", "device", "batch_size", "precision",
        "licences", "families",
    )  # fmt: skip
    probe, seconds = given["probe"], given["probe_seconds"]
    bundle = load_bundle(getattr(context.obj, "project_path", None), given["environment"])
    found = recommend_images(
        images.expanduser(),
        bundle,
        Budget(**{name: given[name] for name in limits}),
        Options(top=given["top"], seed=given["seed"]),
        measure=given["measure"],
        probes=None if probe is None and seconds is None else ProbeBudget(probe, seconds),
        on_probe=_show_probe,
    )
    # The answer first: a folder that can't be written must not take it away.
    click.echo({"table": as_table, "json": as_json, "csv": as_csv}[shape](found))
    if output is not None:
        write_answer(found, output.expanduser())
        click.echo(f"written to {output}", err=True)
    if found.table.empty:
        context.exit(NOTHING_FITS)


def write_answer(found: Recommendation, folder: Path) -> None:
    """The answer as ``recommendation.html``, ``.parquet`` and ``.json`` in a folder: all of them or none.

    Raises:
        ItemError: If they can't be written.
    """
    from thesis_rec.base.errors import ItemError
    from thesis_rec.base.files import atomic_path
    from thesis_rec.recommendation.report import render_report

    try:
        # Nested: the first file appears when the last one is written.
        with (
            atomic_path(folder / "recommendation.json") as document,
            atomic_path(folder / "recommendation.parquet") as table,
            atomic_path(folder / "recommendation.html") as page,
        ):
            document.write_text(as_json(found) + "\n", encoding="utf-8")
            found.table.to_parquet(table, index=False)
            page.write_text(render_report(found), encoding="utf-8")
    except (OSError, ValueError) as error:
        hint = "The answer above is complete; give another folder."
        raise ItemError(str(folder), f"the answer can't be written ({error}).", hint) from error


def as_json(found: Recommendation) -> str:
    """The answer as a document."""
    return json.dumps(found.to_dict(), indent=2, allow_nan=False)


def as_csv(found: Recommendation) -> str:
    """The first models as comma-separated values."""
    from thesis_rec.base.text import without_formulas

    return without_formulas(found.top).to_csv(index=False).rstrip()


def as_table(found: Recommendation) -> str:
    """The answer for people."""
    from thesis_rec.base.text import printable
    from thesis_rec.hardware.budget import option_name
    from thesis_rec.recommendation.report import shown_number as number

    lines = [f"{found.dataset_id}: {found.dataset.get('classes')} classes, {found.dataset.get('images')} images"]
    if found.table.empty:
        lines.append("No model keeps all limits.")
        changes = [f"  {relaxation}" for relaxation in found.relaxations]
        lines += ["The smallest changes:", *changes] if changes else ["No change of one limit lets a model in."]
    else:
        near = ", ".join(
            f"{name} ({similarity:.2f})"
            for name, similarity in zip(found.nearest["dataset_id"], found.nearest["similarity"], strict=True)
        )
        lines.append(f"nearest known datasets: {near}")
        percent = f"{100 * found.options.level:.0f} %"
        header = ["#", "model", "accuracy", percent, "ms", "basis", "images/s", "MiB", "parameters", "licence"]
        probed = found.top["probed_value"].notna().any()
        rows = [
            [
                str(row["rank"]),
                row["model_id"],
                f"{row['predicted_value']:.3f}",
                f"{row['value_low']:.2f}-{row['value_high']:.2f}",
                number(row["latency_ms"]),
                row["basis"],
                number(row["throughput"]),
                number(row["memory_mb"]),
                number(row["n_parameters"]),
                row["licence"],
                *([number(row["probed_value"])] if probed else []),
            ]
            for row in found.top.to_dict("records")
        ]
        lines += ["", *_aligned([[*header, *(["tried"] if probed else [])], *rows]), ""]
        lines.append(f"why {found.top['model_id'].iloc[0]}: {found.top['reason'].iloc[0]}")
    if len(found.excluded):
        counts = found.excluded["limits"].str.split(", ").explode().value_counts()
        by = ", ".join(f"{count} by {option_name(str(name))}" for name, count in counts.items())
        lines.append(f"excluded: {len(found.excluded)} models ({by})")
    lines.append(f"figures for {found.device}, {found.budget.precision}, {found.budget.batch_size} per call")
    lines.append("from: " + ", ".join(f"{name} {source}" for name, source in found.sources.items()))
    return "\n".join(printable(line) for line in [*lines, *(f"note: {note}" for note in found.notes)])


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    # Numbers to the right; names to the left.
    left = {1, 5, 9}
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _show_probe(step: ProbeStep) -> None:
    reached = "failed" if step.value != step.value else f"{step.value:.3f}"
    best = f"best so far {step.best} ({step.best_value:.3f})"
    click.echo(f"tried {step.model_id}: {reached}; {best}, probe {step.tried} after {step.seconds:.1f} s", err=True)
