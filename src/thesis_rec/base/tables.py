"""What several rooms read and give: rows of manifests, a task's images and tokens, and models."""

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from thesis_rec.base.errors import Failure, explained
from thesis_rec.base.files import check_id

Floats = NDArray[np.floating]

#: Length of a model's vector, which the autoencoder is made for.
VECTOR_LENGTH = 8192
#: Fields of a table of models that some or all of them may lack.
MEASURED = ("reference", "subtasks", "spectra")


def read_csv(path: Path, item: str = "", **options: Any) -> pd.DataFrame:
    """A CSV table of a user, by pandas and its options; empty fields beyond those that the header names are left out.

    Commas, semicolons, tabs or bars separate its fields, whichever are most in its header. Blanks around names and
    values of a table of texts (``dtype=str``) don't count.

    Where every row has one more, such as an empty one behind a last comma, pandas would take the first column for names
    of rows, and each other one for the column before it.

    Raises:
        ItemError: If it can't be read, such as in another encoding, or a row has more fields than the header, such as
            ``0,83``; of ``item``, or of the path.
    """
    error, hint = "can't be read as a table ({reason}).", "Check the path, and that it is CSV in UTF-8."
    with explained(item or str(path), f"{path.name} {error}" if item else error, hint):
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = max(",;\t|", key=file.readline().count)
        with warnings.catch_warnings(record=True) as longer:
            warnings.simplefilter("always", pd.errors.ParserWarning)
            table = pd.read_csv(path, index_col=False, sep=separator, encoding="utf-8-sig", **options)
        if longer:
            with path.open(encoding="utf-8-sig", newline="") as file:
                lines = csv.reader(file, delimiter=separator)
                width = len(next(lines))
                if any(any(cells[width:]) for cells in lines):
                    raise ValueError(f"line {lines.line_num}: more cells than columns. Quote a comma; 0,83 is 0.83")
        texts = options.get("dtype") in (str, "string")
        return table.rename(columns=str.strip).apply(lambda cells: cells.str.strip()) if texts else table


def unit(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """(..., D) vectors, each brought to length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def z_scores(values: Floats, least: float = 0.0) -> Floats:
    """(M, N) values standardised within each column; NaN stays NaN, a column of equal values becomes 0.

    Args:
        values: (M, N) values.
        least: Smallest standard deviation to divide by: differences of a column with a smaller one are noise.
    """
    table = pd.DataFrame(values)
    spread = table.std(ddof=0)
    return ((table - table.mean()) / spread.where(spread > 1e-12, 1.0).clip(lower=least)).to_numpy()


@dataclass(frozen=True)
class ModelTable:
    """Candidate models, one row each.

    Attributes:
        model_ids: M identifiers.
        embedding: (M, E) float32, the autoencoder's code of each model's weights.
        families: M architecture families.
        n_parameters: (M,) number of weights.
        reference: (M, Q) float32 linear-probe accuracy on each reference task (:mod:`thesis_rec.truth.responses`); NaN
            in the rows of models that were not run on them, None where none was.
        subtasks: (M, S) float32 linear-probe accuracy on sub-tasks of the reference tasks, likewise.
        spectra: (M, P) float32 what the weights show against random ones (:mod:`thesis_rec.models.spectra`); NaN in the
            rows of models whose weights weren't read, None where none were.
    """

    model_ids: list[str]
    embedding: Floats
    families: list[str]
    n_parameters: NDArray[np.floating | np.integer]
    reference: Floats | None = None
    subtasks: Floats | None = None
    spectra: Floats | None = None

    def __len__(self) -> int:
        return len(self.model_ids)

    def select(self, rows: Sequence[int] | NDArray[np.integer]) -> "ModelTable":
        """The models at ``rows``, in that order."""
        index = np.asarray(rows, dtype=int)
        return ModelTable(
            [self.model_ids[i] for i in index],
            self.embedding[index],
            [self.families[i] for i in index],
            self.n_parameters[index],
            **{name: table[index] for name in MEASURED if (table := getattr(self, name)) is not None},
        )


@dataclass(frozen=True)
class TaskTokens:
    """A dataset as an image encoder sees it: B batches with one image of each of C classes.

    Attributes:
        dataset_id: Identifier.
        features: (B, C, D) float32, L2-normalised along D.
        class_names: C names.
        n_images: Number of images the dataset has for training.
        encoder_id: Which encoder made the features; tokens of different encoders don't mix.
        landmarks: (L,) accuracy of a linear probe on each of some fixed views of the images
            (:data:`thesis_rec.views.landmarks.LANDMARKS`), above chance; None where they weren't measured.
    """

    dataset_id: str
    features: Floats
    class_names: list[str]
    n_images: int
    encoder_id: str = ""
    landmarks: Floats | None = None


@dataclass(frozen=True)
class TaskImages:
    """A base task's images.

    Attributes:
        dataset_id: Identifier.
        train_images: (N, H, W, 3) uint8 RGB, from which probes and fine-tuning draw.
        train_labels: (N,) int64 in 0..C-1.
        test_images: (T, H, W, 3) uint8 RGB.
        test_labels: (T,) int64.
        class_names: C names.
    """

    dataset_id: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: list[str]


@dataclass(frozen=True)
class MeasuredTask:
    """A task to measure: classes of one or several base tasks.

    Attributes:
        dataset_id: Identifier of the task.
        members: (base dataset id, class index there) of each of its classes, in order.
        draws: Whether every few-shot draw is a record of its own (base tasks), or only their mean (sub-tasks).
    """

    dataset_id: str
    members: tuple[tuple[str, int], ...]
    draws: bool = True


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
                " ".join([*map(str, e["loc"][:1]), "is empty" if e["type"] == "missing" else e["msg"]])
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
