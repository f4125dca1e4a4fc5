"""The project's commands, and ``kedro run`` without tracebacks for known errors.

Kedro finds the group ``cli`` here, and the command ``run`` in it replaces its own.
"""

import errno
import re
import sys
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from thesis_rec.base.errors import ConfigurationError, ThesisRecError, did_you_mean, printable
from thesis_rec.commands.bundle import bundle
from thesis_rec.commands.import_config import import_config
from thesis_rec.commands.submit import submit
from thesis_rec.pipeline_registry import pipeline_name

#: A full, read-only or forbidden place says all that there is to say.
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.EIO})


def known_error(error: BaseException) -> str | None:
    """What to tell a user instead of a traceback; None if the error is of no kind that they can act on.

    These are the project's own errors, also behind one of Kedro's, and what Kedro says of parameters and files.
    """
    from kedro.io import DatasetError
    from kedro.validation.exceptions import ParameterValidationError
    from yaml.parser import ParserError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ThesisRecError) or (isinstance(cause, OSError) and cause.errno in _DISK):
            return str(cause)
        cause = cause.__cause__
    if isinstance(error, ParameterValidationError):
        return "; ".join(_refused(str(error))) or " ".join(str(error).split())
    # Kedro raises the first for a file of configuration, and names it.
    known = isinstance(error, ParserError | DatasetError) or str(error).startswith(_NOTHING_TO_RUN)
    return " ".join(str(error).split()) if known else None


#: What Kedro says of filters that leave no node, or none that makes what isn't kept in files, and of unknown runners.
_NOTHING_TO_RUN = (
    "Pipeline contains no nodes",
    "Pipeline does not contain",
    "Pipeline input(s)",
    "module 'kedro.runner' has no",
)


def _check_filters(given: dict[str, Any]) -> None:
    """Refuse names of nodes and tags that the pipelines to run don't have, with the nearest one."""
    options = {"node": ("node_names", "from_nodes", "to_nodes"), "tag": ("tags",)}
    asked = {what: [name for option in names for name in given[option] or ()] for what, names in options.items()}
    if not any(asked.values()):
        return
    from thesis_rec.pipeline_registry import register_pipelines

    made, chosen = register_pipelines(), given["pipelines"] or ["__default__"]
    nodes = [node for name in chosen for node in made[name].nodes]
    known = {"node": {node.name for node in nodes}, "tag": {tag for node in nodes for tag in node.tags}}
    for what, names in asked.items():
        for name in names:
            if name not in known[what]:
                raise ConfigurationError(
                    f"{', '.join(chosen)} has no {what} {name!r}.{did_you_mean(name, known[what])} "
                    f"There are {', '.join(sorted(known[what])) or 'none'}."
                )


def _refused(message: str) -> list[str]:
    """``autoencoder.fit.epochs: Input should be a valid integer`` for each refused parameter of Kedro's message."""
    found, parameter = [], ""
    pattern = r"Failed to instantiate \w+ for parameter '([\w.]+)'|^(\S+)\n  (.+?) \[type="
    for name, field, reason in re.findall(pattern, message, re.MULTILINE):
        parameter = name or parameter
        if reason:
            found.append(f"{parameter}.{field}: {reason}")
    return found


class FriendlyCommand(click.Command):
    """A command that prints a known error as one message and exits with status 1."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As of click, but wrong usage has the status of other errors: 2 is of an answer in which nothing fits."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.show()
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; ``--pipeline`` is taken as ``--pipelines`` with one name, as Kedro wants it."""
        try:
            if {"pipeline", "pipelines"} <= set(ctx.params):
                names = [ctx.params["pipeline"], *ctx.params["pipelines"]]
                ctx.params |= {"pipeline": None, "pipelines": [pipeline_name(name) for name in names if name]}
                _check_filters(ctx.params)
            return super().invoke(ctx)
        except Exception as error:
            known = known_error(error)
            if known is None:
                raise
            shown = "\n".join(printable(line) for line in known.splitlines())
            click.secho(f"Error: {shown}", fg="red", err=True)
            sys.exit(1)


def friendly(command: click.Command) -> FriendlyCommand:
    """The same command, friendly."""
    kept = ("name", "callback", "params", "help", "short_help", "context_settings")
    return FriendlyCommand(**{name: getattr(command, name) for name in kept})


class ProjectGroup(click.Group):
    """Commands of which ``recommend`` is made when it is asked for: its options take their time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted([*super().list_commands(ctx), "recommend"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name."""
        if cmd_name != "recommend":
            return super().get_command(ctx, cmd_name)
        from thesis_rec.commands.recommend_command import recommend

        return friendly(recommend)


@click.group(cls=ProjectGroup, name="thesis_rec")
def cli() -> None:
    """Commands of this project."""


run = friendly(kedro_run)
for command in (run, *map(friendly, (bundle, import_config, submit))):
    cli.add_command(command)
