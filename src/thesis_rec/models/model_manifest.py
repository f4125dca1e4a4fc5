"""The list of candidate models, and which names of libraries and published tables mean the same weights.

One row of the manifest says what a model is and where its weights lie. The table of names
(``data/01_raw/hub/model_aliases.csv``) has one row per name: ``model_id`` of the manifest, ``source`` (a library such
as ``timm`` or a table such as ``mieb``), ``name`` there, and ``pretrained`` where the source tells checkpoints of one
name apart by it. A name that is absent is of no model of the manifest.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from thesis_rec.base.errors import ConfigurationError, Failure
from thesis_rec.base.tables import Identifier, read_rows


class ManifestRow(BaseModel):
    """One candidate model.

    Further columns of the manifest (a reference, a parameter count ...) are kept as they are.

    Attributes:
        model_id: Name of the model everywhere in the project; unique.
        loader: Name in :data:`thesis_rec.models.loaders.LOADERS`: the library that builds the network, or ``local`` for
            a bare state dict that can be read but not run.
        source: ``hf-hub:<owner>/<name>`` for the Hugging Face hub, otherwise a folder or file, relative to the zoo's
            root folder (or absolute).
        revision: Branch, tag or commit on the hub; empty for the default branch.
        family: Architecture family, e.g. ``resnet``.
        pretraining: What the model was trained on.
        licence: Licence of the weights, or ``unknown``.
        extractor: Name in :data:`thesis_rec.models.model_extraction.EXTRACTORS`; empty for the loader's usual one.
        member: Which network of a file that holds several, such as ``teacher``; empty where there is one.
    """

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    model_id: Identifier
    loader: str = Field(min_length=1)
    source: str = Field(min_length=1)
    revision: str = ""
    family: str = "unknown"
    pretraining: str = "unknown"
    licence: str = "unknown"
    extractor: str = ""
    member: str = ""

    @property
    def hub_id(self) -> str | None:
        """``owner/name`` on the Hugging Face hub, or None for a model on disk."""
        return self.source.removeprefix("hf-hub:") if self.source.startswith("hf-hub:") else None


def read_manifest(table: pd.DataFrame) -> tuple[list[ManifestRow], list[Failure]]:
    """The usable rows of a manifest and what is wrong with the others, as :func:`read_rows` tells."""
    return read_rows(table, ManifestRow, "model")


def open_clip_name(model_id: str) -> tuple[str, str]:
    """Architecture and weights as open_clip names them: ``ViT-B-32, openai`` for ``open_clip/ViT-B-32.openai``."""
    architecture, _, weights = model_id.removeprefix("open_clip/").partition(".")
    return architecture, weights


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
