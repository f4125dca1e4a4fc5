"""What a pipeline works on: the models that have a network, or those of them that are asked for by name."""

from collections.abc import Iterable, Sequence

import pandas as pd

from thesis_rec.base.errors import ConfigurationError, did_you_mean
from thesis_rec.models.model_manifest import ManifestRow, read_manifest


def networks(model_manifest: pd.DataFrame, names: Sequence[str], knob: str) -> list[ManifestRow]:
    """The models of the manifest that have a network; those of these names, if there are any names.

    Raises:
        ConfigurationError: If a named one isn't among them.
    """
    rows = {row.model_id: row for row in read_manifest(model_manifest)[0] if row.loader != "local"}
    check_names(names, rows, knob, "model of the manifest that has a network (those of the loader local have none)")
    return [rows[name] for name in names or rows]


def check_names(names: Iterable[str], known: Iterable[str], knob: str, what: str) -> None:
    """Refuse names that nothing has, before any work is done.

    Raises:
        ConfigurationError: With the first of them, and the nearest known name.
    """
    there = set(known)
    for name in names:
        if name not in there:
            raise ConfigurationError(f"{knob}: {name} is no {what}.{did_you_mean(name, there)} Correct it.")
