"""The list of candidate models: one row says what a model is and where its weights lie."""

from __future__ import annotations

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from thesis_rec.base.errors import Failure
from thesis_rec.base.files import check_id

_REMEDY = "Correct the row in the model manifest."


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

    model_id: str
    loader: str
    source: str
    revision: str = ""
    family: str = "unknown"
    pretraining: str = "unknown"
    licence: str = "unknown"
    extractor: str = ""
    member: str = ""
    trust_remote_code: bool = False

    @field_validator("model_id", "loader", "source", mode="after")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value:
            raise ValueError("is empty")
        return value

    @field_validator("model_id", mode="after")
    @classmethod
    def _names_a_file(cls, value: str) -> str:
        check_id(value)
        return value

    @property
    def hub_id(self) -> str | None:
        """``owner/name`` on the Hugging Face hub, or None for a model on disk."""
        return self.source.removeprefix("hf-hub:") if self.source.startswith("hf-hub:") else None


def read_manifest(table: pd.DataFrame) -> tuple[list[ManifestRow], list[Failure]]:
    """The usable rows of a manifest, in their order, and what is wrong with the others.

    Of several rows with one ``model_id`` the first is used and the others are failures.

    Args:
        table: The manifest; blanks around values don't count, missing cells take the column's default.
    """
    rows: list[ManifestRow] = []
    failures: list[Failure] = []
    lines: dict[str, int] = {}
    # Line 1 of the CSV file is its header.
    whole = table.astype(object).where(table.notna(), "")
    for line, record in enumerate(whole.to_dict(orient="records"), start=2):
        cells = {str(name): text for name, value in record.items() if (text := str(value).strip())}
        identifier = str(cells.get("model_id", f"line {line}"))
        missing = {name: "" for name in ("model_id", "loader", "source") if name not in cells}
        try:
            row = ManifestRow.model_validate({**cells, **missing})
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))} {_words(e['msg'])}" for e in error.errors())
            failures.append(Failure(identifier, f"Line {line} of the model manifest is wrong: {problems}.", _REMEDY))
            continue
        if row.model_id in lines:
            text = f"Line {line} of the model manifest repeats the model_id of line {lines[row.model_id]}."
            failures.append(Failure(identifier, text, "Give each row its own model_id, or remove one of them."))
            continue
        lines[row.model_id] = line
        rows.append(row)
    return rows, failures


def _words(message: str) -> str:
    return message.removeprefix("Value error, ")
