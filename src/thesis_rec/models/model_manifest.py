"""The list of candidate models: one row says what a model is and where its weights lie."""

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from thesis_rec.base.errors import Failure
from thesis_rec.base.manifest_rows import Identifier, read_rows


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
        extractor: Name in :data:`thesis_rec.models.extractors.EXTRACTORS`; empty for the loader's usual one.
        member: Which network of a file that holds several, such as ``teacher``; empty where there is one.
        trust_remote_code: Whether Python code that comes with the model may run; only transformers' models have any.
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
    trust_remote_code: bool = False

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
