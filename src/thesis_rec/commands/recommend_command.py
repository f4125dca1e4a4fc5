"""``kedro recommend``: which model for these images on this hardware."""

import json
import logging.config
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from thesis_rec.base.errors import ConfigurationError, printable, without_formulas
from thesis_rec.base.files import atomic_path
from thesis_rec.hardware.budget import option_name
from thesis_rec.recommendation.answer import Recommendation
from thesis_rec.recommendation.report import PROTOCOLS, next_command, render_report, shown_number
from thesis_rec.recommendation.request import Request, asked

#: Exit status when no model keeps the limits.
NOTHING_FITS = 2


def option_of(name: str, field: FieldInfo) -> click.Option:
    """One wish as an option of the command line: its name, type, default and help are the field's.

    What a value must be beyond its type is checked where the request is made, for callers in Python too.
    """
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    flag = str(extra.get("option", f"--{name.replace('_', '-')}"))
    # What may be left open is a union of its type with None.
    kind = get_args(field.annotation)[0] if type(None) in get_args(field.annotation) else field.annotation
    arguments: dict[str, Any] = {"help": field.description, "default": field.default}
    if get_origin(kind) is Literal:
        arguments["type"] = click.Choice(list(get_args(kind)))
    elif get_origin(kind) is tuple:
        arguments |= {"multiple": True, "type": str}
    elif kind is bool:
        # A wish that may be left open has three states; click keeps None when neither form is given.
        flag = f"{flag}/--no-{flag.removeprefix('--')}" if field.default is None else flag
        arguments["is_flag"] = True
    else:
        arguments["type"] = kind
    shown = field.default not in (None, (), False, PydanticUndefined)
    return click.Option([flag, name], show_default=shown, **arguments)


@click.command()
@click.argument("images", type=click.Path(path_type=Path))
@click.option("--zoo", help="hub (real models), starter (tiny ones, for trying things out), ...  [default: hub]")
@click.option("--format", "shape", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Folder for report, table and document.")
@click.option("--env", "-e", "environment", default=None, help="Kedro environment, such as hub.")
@click.pass_context
def recommend(
    context: click.Context,
    /,
    images: Path,
    zoo: str | None,
    shape: str,
    output: Path | None,
    environment: str | None,
    **wishes: Any,
) -> None:
    """Rank the models that fit your hardware by their predicted accuracy on your IMAGES.

    IMAGES is a folder with one folder of images per class, an NPZ file with images and labels, or a folder of the
    library datasets (saved by it, or with Parquet files). Nothing is trained, and no model is run on the images unless
    --probe or --probe-seconds asks for it; Ctrl-C ends trying early and keeps what was learned. Exit status 2 says that
    no model keeps the limits; the smallest changes are named.
    """
    from thesis_rec.commands.artefacts import load_bundle
    from thesis_rec.recommendation.asking import recommend_images

    request = asked(**wishes)
    project = getattr(context.obj, "project_path", None)
    if project:
        _keep_apart(project, shape)
    bundle = load_bundle(project, environment, zoo)
    if sys.stderr.isatty():  # standard output belongs to the answer
        doing = f"looking at your images with {bundle.encoder_id}" if bundle.tokens else "reading your images"
        click.echo(f"{doing} ...", err=True)
    found = recommend_images(images.expanduser(), bundle, request)
    # The answer first: what fails after it never destroys it.
    click.echo({"table": as_table, "json": as_json, "csv": as_csv}[shape](found))
    if output is not None:
        try:
            write_answer(found, output.expanduser())
        except Exception as error:
            raise ConfigurationError(f"Nothing was written to {output}: {error}") from error
        click.echo(f"written to {output}", err=True)
    if found.table.empty:
        context.exit(NOTHING_FITS)


for _name, _field in Request.model_fields.items():
    recommend.params.append(option_of(_name, _field))


def _keep_apart(project: Path, shape: str) -> None:
    """Turn messages away from standard output, where Kedro sends them, with a first one, outside the project's folder.

    Raises:
        ConfigurationError: If a program is to read the answer there.
    """
    streams = (getattr(getattr(h, "console", h), "file", getattr(h, "stream", None)) for h in logging.root.handlers)
    if not any(stream is sys.stdout for stream in streams):
        return
    settings = project / "conf" / "logging.yml"
    if shape != "table":
        raise ConfigurationError(
            f"Kedro has already written to standard output, as it finds no conf/logging.yml in {Path.cwd()}: for "
            f"--format {shape} change to {project}, or set KEDRO_LOGGING_CONFIG={settings}."
        )
    if settings.is_file():
        logging.config.dictConfig(yaml.safe_load(settings.read_text(encoding="utf-8")))


def write_answer(found: Recommendation, folder: Path) -> None:
    """The answer as ``recommendation.html``, ``.parquet`` and ``.json`` in a folder: all of them or none."""
    page, document = render_report(found), as_json(found)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        atomic_path(folder / "recommendation.parquet") as table_file,
        atomic_path(folder / "recommendation.json") as document_file,
        atomic_path(folder / "recommendation.html") as page_file,
    ):
        found.table.to_parquet(table_file, index=False)
        document_file.write_text(document, encoding="utf-8")
        page_file.write_text(page, encoding="utf-8")


def as_json(found: Recommendation) -> str:
    """The answer as a document."""
    return json.dumps(found.to_dict(), indent=2, allow_nan=False)


def as_csv(found: Recommendation) -> str:
    """The first models as comma-separated values, with the columns of the answer's table."""
    return without_formulas(found.top).to_csv(index=False).rstrip()


def as_table(found: Recommendation) -> str:
    """The answer for people: the first choice, how sure, its cost, why, what to do next; then the others."""
    from jinja2 import Environment, PackageLoader

    # Whatever is filled in stays on its line.
    environment = Environment(
        loader=PackageLoader("thesis_rec.recommendation"),
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(str(value)),
    )
    environment.filters |= {"cost": _cost, "download": _download, "option": option_name}
    percent, top = f"{100 * found.options.level:.6g} %", found.top
    size = f"{found.dataset.get('classes')} classes, {found.dataset.get('images')} images"
    columns = {
        "#": top["rank"].map(str),
        "model": top["model_id"],
        "accuracy": top["predicted_value"].map("{:.2f}".format),
        percent: top["value_low"].map("{:.2f}-".format) + top["value_high"].map("{:.2f}".format),
        "ms": top["latency_ms"].map(shown_number),
        "basis": top["basis"],
        "MiB": top["memory_mb"].map(shown_number),
        "download": top["download_mb"].map(lambda size: _download(size).removesuffix(" to download")),
        "licence": top["licence"],
    }
    if top["probed_value"].notna().any():
        columns["tried"] = top["probed_value"].map(shown_number)
    text = environment.get_template("recommendation.txt").render(
        found=found,
        first=next(iter(top.to_dict("records")), None),
        # How the images were read comes first, so that a misreading is seen.
        read_as=found.dataset.get("read_as") or [size],
        percent=percent,
        protocol=PROTOCOLS[found.options.protocol],
        command=next_command(found),
        table=_aligned(columns),
    )
    return text.rstrip()


def _cost(model: Any) -> str:
    return f"{shown_number(model['latency_ms'])} ms and {shown_number(model['memory_mb'])} MiB"


def _download(mebibytes: float) -> str:
    if math.isnan(mebibytes):
        return "size unknown"
    return "nothing to download" if mebibytes == 0 else f"{mebibytes:.0f} MiB to download"


def _aligned(columns: Mapping[str, Iterable[str]]) -> list[str]:
    """A table's lines: numbers to the right, names to the left."""
    padded = []
    for name, cells in columns.items():
        lines = [name, *cells]
        width, align = max(map(len, lines)), str.ljust if name in ("model", "basis", "licence") else str.rjust
        padded.append([align(line, width) for line in lines])
    return ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]
