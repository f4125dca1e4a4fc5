"""Reading a manifest: a table whose rows are records of one kind, of which a wrong one costs no other."""

from typing import Annotated, TypeVar

import pandas as pd
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from thesis_rec.base.errors import Failure
from thesis_rec.base.files import check_id

#: What a row is called everywhere in the project, in file names too.
Identifier = Annotated[str, Field(min_length=1), AfterValidator(check_id)]
Row = TypeVar("Row", bound=BaseModel)


def read_rows(table: pd.DataFrame, kind: type[Row], what: str) -> tuple[list[Row], list[Failure]]:
    """The usable rows of a manifest, in their order, and what is wrong with the others.

    Of several rows with one identifier the first is used and the others are failures.

    Args:
        table: The manifest; blanks around values don't count, an empty or missing cell takes its column's default.
        kind: What a row is; its first field identifies it. Columns that it doesn't know are left out if it forbids any.
        what: What the manifest is of, such as ``model``.
    """
    key = next(iter(kind.model_fields))
    known = table if kind.model_config.get("extra") == "allow" else table[[n for n in table if n in kind.model_fields]]
    rows: list[Row] = []
    failures: list[Failure] = []
    lines: dict[str, int] = {}
    # Line 1 of the CSV file is its header.
    for line, values in enumerate(known.astype("string").fillna("").to_numpy().tolist(), start=2):
        cells = {str(name): text for name, value in zip(known, values, strict=True) if (text := value.strip())}
        item, where = cells.get(key, f"line {line}"), f"Line {line} of the {what} manifest"
        try:
            row = kind.model_validate(cells)
        except ValidationError as error:
            problems = "; ".join(
                " ".join([*map(str, e["loc"]), "is empty" if e["type"] == "missing" else e["msg"]])
                for e in error.errors()
            ).replace("Value error, ", "")
            failures.append(Failure(item, f"{where} is wrong: {problems}.", f"Correct the row in the {what} manifest."))
            continue
        if item in lines:
            text = f"{where} repeats the {key} of line {lines[item]}."
            failures.append(Failure(item, text, f"Give each row its own {key}, or remove one of them."))
            continue
        lines[item] = line
        rows.append(row)
    return rows, failures
