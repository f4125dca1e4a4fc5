"""Which names of libraries and published tables mean the same weights.

The table (``data/01_raw/hub/model_aliases.csv``) has one row per name: ``model_id`` of the manifest, ``source`` (a
library such as ``timm`` or a table such as ``mieb``), ``name`` there, and ``pretrained`` where the source tells
checkpoints of one name apart by it. A name that is absent is of no model of the manifest.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from thesis_rec.base.errors import ConfigurationError

COLUMNS = ("model_id", "source", "name", "pretrained")


#: The manifest's ``model_id`` by (source, name, pretrained), the last one empty where a source has none.
Aliases = Mapping[tuple[str, str, str], str]


def read_aliases(path: str | Path) -> Aliases:
    """Read the alias table.

    Args:
        path: CSV file.

    Raises:
        ConfigurationError: If columns are missing or one name is given to two models.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if missing := [name for name in COLUMNS if name not in table]:
        raise ConfigurationError(f"{path} lacks the columns {', '.join(missing)}.")
    by_name: dict[tuple[str, str, str], str] = {}
    for model_id, source, name, pretrained in table[list(COLUMNS)].itertuples(index=False):
        key = (source, name, pretrained)
        if by_name.setdefault(key, model_id) != model_id:
            text = f"{path} gives {source}'s {' '.join(key[1:]).strip()} to {by_name[key]} and to {model_id}."
            raise ConfigurationError(f"{text} Keep one of the two rows.")
    return by_name


def same_weights(manifest: pd.DataFrame, aliases: Aliases) -> dict[str, str]:
    """By model of a manifest that a library loads by its name, the model whose weights these are under another name.

    Of rows of one library with one repository the first is the model.

    Args:
        manifest: Rows of model_id, loader and source.
        aliases: The alias table.
    """
    found, first = {}, dict[tuple[str, str], str]()
    for model_id, loader, source in manifest[["model_id", "loader", "source"]].astype(str).itertuples(index=False):
        name = source.removeprefix("hf-hub:")
        same = first.setdefault((loader, source), model_id) if source != name else model_id
        twin = aliases.get((loader, name.removeprefix("timm/") if loader == "timm" else name, ""), same)
        if twin != model_id:
            found[model_id] = twin
    return found
