"""``kedro bundle``: what one's own runs have learned, as a small folder that recommends elsewhere."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--batches", type=click.IntRange(min=1), help="Batches of tokens kept; all by default.")
@click.option("--env", "-e", "environment", default=None, help="Kedro environment, such as hub.")
@click.pass_context
def bundle(context: click.Context, folder: Path, batches: int | None, environment: str | None) -> None:
    """Write embeddings, tokens, knowledge and encoder half of one's own runs to FOLDER.

    A project whose starter bundle is this folder recommends at once, before anything is run there.
    """
    from thesis_rec.base.errors import ConfigurationError
    from thesis_rec.commands.artefacts import load_autoencoder, load_bundle
    from thesis_rec.recommendation.bundle import thinned, write_bundle

    project = getattr(context.obj, "project_path", None)
    found = load_bundle(project, environment)
    if found.sources.get("knowledge") != "own":
        raise ConfigurationError("There is no knowledge of one's own to bundle. Run `kedro run` first.")
    write_bundle(thinned(found, batches), folder, load_autoencoder(project, environment))
    size = sum(path.stat().st_size for path in folder.iterdir())
    click.echo(f"{len(found.models)} models and {len(found.tokens)} datasets in {size / 2**20:.1f} MiB: {folder}")
