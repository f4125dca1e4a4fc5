"""The project's commands, and ``kedro run`` without tracebacks for known errors.

Kedro finds the group ``cli`` here, and the command ``run`` in it replaces its own.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from thesis_rec.base.errors import ThesisRecError

#: Commands by name: module and attribute, imported when asked for.
COMMANDS = {
    "bundle": "thesis_rec.commands.bundle",
    "import-config": "thesis_rec.commands.import_config",
    "recommend": "thesis_rec.commands.recommend_command",
    "submit": "thesis_rec.commands.submit",
}


def known_error(error: BaseException) -> ThesisRecError | None:
    """The error that a user can act on, if one is behind ``error``."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ThesisRecError):
            return cause
        cause = cause.__cause__
    return None


class FriendlyCommand(click.Command):
    """A command that prints a known error as one message and exits with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            known = known_error(error)
            if known is None:
                raise
            click.secho(f"Error: {known}", fg="red", err=True)
            sys.exit(1)


def friendly(command: click.Command) -> FriendlyCommand:
    """The same command, friendly."""
    return FriendlyCommand(
        name=command.name,
        callback=command.callback,
        params=command.params,
        help=command.help,
        short_help=command.short_help,
        context_settings=command.context_settings,
    )


class ProjectGroup(click.Group):
    """Commands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name."""
        if cmd_name in COMMANDS:
            return friendly(getattr(import_module(COMMANDS[cmd_name]), cmd_name.replace("-", "_")))
        return super().get_command(ctx, cmd_name)


@click.group(cls=ProjectGroup, name="thesis_rec")
def cli() -> None:
    """Commands of this project."""


run = friendly(kedro_run)
cli.add_command(run)
