"""``kedro bundle``: what one's own runs have learned, as a small folder that recommends elsewhere."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--env", "-e", "environment", default=None, help="Kedro environment, such as hub.")
@click.pass_context
def bundle(context: click.Context, folder: Path, environment: str | None) -> None:
    """Write embeddings, tokens, knowledge and encoder half of one's own runs to FOLDER.

    A project whose starter bundle is this folder recommends at once, before anything is run there.
    """
    from thesis_rec.base.errors import ConfigurationError
    from thesis_rec.commands.artefacts import FEW, find_project, load_bundle, read_configuration
    from thesis_rec.models.auto_encoder import encoder_half
    from thesis_rec.recommendation.bundle import write_bundle

    project = find_project(getattr(context.obj, "project_path", None))
    # Answers are of real models by default, runs of another zoo.
    zoo = read_configuration(project, environment, None, **FEW).zoo_of_runs
    found = load_bundle(project, environment, zoo)
    if found.sources.get("knowledge") != "own":
        why = next((note for note in found.notes if note.startswith("Your own runs lack")), "Run `kedro run` first.")
        raise ConfigurationError(f"There is no knowledge of one's own to bundle. {why}")
    autoencoder = found.autoencoder()
    write_bundle(found, folder, autoencoder and encoder_half(autoencoder))
    size = sum(path.stat().st_size for path in folder.iterdir())
    click.echo(f"{len(found.models)} models and {len(found.tokens)} datasets in {size / 2**20:.1f} MiB: {folder}")
