"""What a pipeline works on: which of the manifest's models, where their files lie, and which slice is this job's."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from pydantic import Field

from thesis_rec.base.errors import ConfigurationError, did_you_mean
from thesis_rec.base.settings import Settings, Shard
from thesis_rec.models.model_manifest import ManifestRow, read_manifest
from thesis_rec.models.model_sources import hub_cache_folder


class ModelStep(Settings):
    """What all steps take that read models.

    Attributes:
        models_root: Folder to which the manifest's sources are relative.
        hub_cache: Hugging Face home with downloaded models; None for the library's own.
        strict: Whether one failed item fails the run.
        shard: Slice of the models that this job works on.
    """

    models_root: str = Field(min_length=1)
    hub_cache: str | None = None
    strict: bool = False
    shard: Shard = Shard()

    @property
    def files(self) -> tuple[Path, Path | None]:
        """Where models lie: the folder of the manifest's sources, and that of hub downloads."""
        return Path(self.models_root).expanduser(), hub_cache_folder(self.hub_cache)


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
