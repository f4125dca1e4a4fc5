"""``kedro import-config``: the thesis code's ``config.ini`` as a parameters file."""

from pathlib import Path

import click


@click.command(name="import-config")
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), default=Path("conf/local/parameters_thesis.yml"),
    show_default=True, help="File to write; one that exists is never overwritten.",
)  # fmt: skip
def import_config(config: Path, output: Path) -> None:
    """Turn CONFIG, a config.ini of the thesis code, into a parameters file of this project.

    Settings that have no counterpart are listed in the file, as comments.
    """
    from thesis_rec.base.errors import ConfigurationError
    from thesis_rec.thesis.thesis_config import as_yaml, translate

    if output.exists():
        raise ConfigurationError(f"{output} exists already: move it away, or name another file with --output.")
    parameters, left_out = translate(config)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(as_yaml(parameters, left_out, config.name), encoding="utf-8")
    click.echo(f"Parameters of {', '.join(parameters)} are in {output}.")
    if left_out:
        click.echo(f"{len(left_out)} settings have no counterpart; they are listed there.")
