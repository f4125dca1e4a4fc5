"""Entry point of the installed package: ``thesis-rec`` runs pipelines as ``kedro run`` does, from any folder."""

import sys
from pathlib import Path
from typing import Any

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main(*args: Any, **kwargs: Any) -> Any:
    """Run a pipeline of the packaged project.

    The configuration is named by ``--conf-source``, for example the archive that ``kedro package`` makes.
    """
    configure_project(Path(__file__).parent.name)
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")
    run = find_run_command(Path(__file__).parent.name)
    return run(*args, **kwargs)


if __name__ == "__main__":
    main()
