"""Published tables of performance, brought into the project's own form.

Each importer gives rows of ``performance_records`` with the source they are from and a protocol ``imported:<source>``,
so that they are never mixed with what was measured here. Arrays and networks of the earlier thesis code are read by
:mod:`~thesis_rec.thesis.thesis_artefacts`.

The **proxy** of that code is no measurement: a model's accuracy on the dataset it was trained on, times a hand-entered
similarity of that dataset to the target, plus one where both are the same. It is offered for those who have nothing
else, under the protocol ``proxy``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from thesis_rec.base.errors import ItemError, explained
from thesis_rec.base.tables import read_csv
from thesis_rec.truth.performance_records import RECORD_COLUMNS

Unit = Literal["auto", "fraction", "percent"]


def records_frame(
    rows: Iterable[tuple[str, str, float]] | pd.DataFrame, protocol: str, metric: str, source: str
) -> pd.DataFrame:
    """Rows of (model, dataset, fraction) as performance records.

    Raises:
        ItemError: If there are none, or a value is no fraction.
    """
    table = pd.DataFrame(rows, columns=["model_id", "dataset_id", "value"])
    if table.empty:
        raise ItemError(source, "holds no performance.", "Check that the file is the one meant and isn't empty.")
    bad = table[~table["value"].between(0.0, 1.0)]
    if len(bad):
        raise ItemError(
            source, f"has values outside 0..1, e.g. {bad.iloc[0].to_dict()}.", "Name the unit: fraction or percent."
        )
    table = table.assign(protocol=protocol, metric=metric, seed=0, n_train=np.nan, source=source)[RECORD_COLUMNS]
    words = dict.fromkeys(("model_id", "dataset_id", "protocol", "metric", "source"), "string")
    return table.astype(words | {"value": "float64"})


def scale_of(values: Iterable[float], source: str, unit: Unit = "auto") -> float:
    """What a value of 1 means: 1 for fractions, 100 for percent.

    Args:
        values: Accuracies.
        source: Where they are from, for an error.
        unit: ``fraction``, ``percent``, or ``auto``: percent if any value is above 1.5.

    Raises:
        ItemError: If the unit isn't named, and more than a tenth of percentages look like fractions.
    """
    if unit != "auto":
        return 100.0 if unit == "percent" else 1.0
    above = [value for value in values if value > 0]
    percent = any(value > 1.5 for value in above)
    small = [value for value in above if value <= 1]
    if percent and len(small) > 0.1 * len(above):
        error = f"mixes fractions and percentages, e.g. {small[0]:g} and {max(above):g}."
        raise ItemError(source, error, "Write all values in one unit, or name it: import_artefacts.unit=percent.")
    return 100.0 if percent else 1.0


def import_wide_csv(path: Path, unit: Unit = "auto") -> pd.DataFrame:
    """A table of models (rows, the first column their ids) by datasets (the other columns).

    Args:
        path: CSV file.
        unit: See :func:`scale_of`.
    """
    table = read_csv(path)
    if table.shape[1] < 2:
        raise ItemError(str(path), "has fewer than two columns.", "Give models as rows and datasets as columns.")
    ids = table.iloc[:, 0].astype(str)
    if ids.duplicated().any():
        raise ItemError(str(path), f"names {ids[ids.duplicated()].iloc[0]!r} twice.", "Keep one row per model.")
    numbers = table.iloc[:, 1:].apply(_numbers, path=path).set_index(ids.rename("model_id"))
    numbers = numbers / scale_of(numbers.to_numpy(dtype=float).ravel(), str(path), unit)
    cells = numbers.melt(ignore_index=False, var_name="dataset_id").dropna().reset_index()
    return records_frame(cells, f"imported:{path.stem}", "accuracy", path.stem)


def import_transfergraph(path: Path) -> pd.DataFrame:
    """TransferGraph's records: ``records.csv`` of the repository, or a long table ``model_id, dataset_id, value``."""
    # The repository's own names first, then this project's.
    cells = _columns(
        path,
        model_id=("model", "model_id", "model_identifier"),
        dataset_id=("finetuned_dataset", "dataset_id", "dataset"),
        value=("eval_accuracy", "test_accuracy", "value", "accuracy"),
    )
    # The last of several runs of a cell is the one that its authors kept.
    cells = cells.dropna().drop_duplicates(["model_id", "dataset_id"], keep="last")
    return records_frame(cells, "imported:transfergraph", "accuracy", "transfergraph")


def import_timm_results(path: Path) -> pd.DataFrame:
    """A results file of timm (``results-imagenet.csv`` and so on): ``model, top1, ...`` in percent.

    What the models were tested on is what the file's name says.
    """
    cells = _columns(path, model_id=("model",), value=("top1",)).drop_duplicates("model_id").dropna()
    cells = cells.assign(dataset_id=path.stem.removeprefix("results-"), value=cells["value"] / 100)
    return records_frame(cells, "imported:timm", "top1", "timm")


def _columns(path: Path, **names: tuple[str, ...]) -> pd.DataFrame:
    """Columns of a table by our names, each the first of some that the table has; ``value`` as numbers."""
    table = read_csv(path)
    columns = {ours: _first_of(table, theirs) for ours, theirs in names.items()}
    if missing := [f"{ours} ({' or '.join(names[ours])})" for ours, found in columns.items() if found is None]:
        raise ItemError(
            str(path), f"has no column for {', '.join(missing)}.", f"Its columns: {', '.join(table.columns)}."
        )
    return pd.DataFrame(columns | {"value": _numbers(columns["value"], path)})


def _numbers(column: pd.Series[Any], path: Path) -> pd.Series[Any]:
    """A column of accuracies; NaN where nothing, or a dash, stands.

    Raises:
        ItemError: If a cell holds something else, such as ``83,4`` or ``83 %``.
    """
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    texts = column[numbers.isna() & column.notna()].astype(str).str.strip(" -–—")
    if len(texts := texts[texts != ""]):
        error = f"has {texts.iloc[0]!r} under {column.name!r}, which is no number."
        hint = "Write numbers such as 83.4, nothing where none is known, and leave out columns of other things."
        raise ItemError(str(path), error, hint)
    return numbers


#: Keys under which an entry of the performance file may hold its model and its number.
_MODEL_KEYS = ("model_name", "model", "model_id")
_VALUE_KEYS = ("accuracy", "value", "performance", "similarity")


def import_thesis_performance(path: Path, unit: Unit = "auto") -> pd.DataFrame:
    """``dataset_model_performance.json``: dataset -> list of ``{"model_name": ..., "accuracy": ...}``.

    A dataset may also hold an object, model -> accuracy (or object with ``accuracy``).

    Args:
        path: The file.
        unit: Of its values; by default percent if any is above 1.5.

    Raises:
        ItemError: If the file can't be read or holds something else.
    """
    rows = list(_pairs(path))
    scale = scale_of([value for *_, value in rows], str(path), unit)
    scaled = [(model, dataset, value / scale) for dataset, model, value in rows]
    return records_frame(scaled, "imported:thesis", "accuracy", "thesis")


def read_similarity(path: Path) -> dict[str, dict[str, float]]:
    """``dataset_similarity.json``: target dataset -> dataset -> similarity 0..1.

    Raises:
        ItemError: If a similarity is outside 0..1.
    """
    found: dict[str, dict[str, float]] = {}
    for first, second, value in _pairs(path):
        if not 0.0 <= value <= 1.0:
            raise ItemError(str(path), f"similarity of {first} and {second} is {value}.", "Similarities are 0..1.")
        found.setdefault(first, {})[second] = value
    return found


def proxy_performance(performance: pd.DataFrame, similarity: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """The proxy of every model for every dataset: own accuracy times similarity, or own accuracy plus one.

    The proxy lies in 0..2 and is halved, which keeps its order and makes it a fraction. A model that was trained on
    several datasets takes the largest of its proxies. Datasets are matched whether their names are written with blanks,
    dashes or underscores, small or large, as the thesis code did. A similarity that is given in one direction only
    holds in both; where both are given and differ, the target's row counts.

    Args:
        performance: Records of models on the datasets they were trained on.
        similarity: Target -> dataset -> similarity.

    Returns:
        Performance records with protocol ``proxy`` and metric ``proxy``; where no similarity is known those of models
        for the datasets they were trained on.

    Raises:
        ItemError: If ``performance`` has no rows.
    """
    given = {
        (_normalised(target), _normalised(other)): value
        for target, row in similarity.items()
        for other, value in row.items()
    }
    trained = performance["dataset_id"].astype(str)
    listed = {*similarity, *(name for row in similarity.values() for name in row)}
    # A dataset bears the name by which performance was measured, where it was.
    names = {_normalised(name): name for name in [*sorted(listed), *sorted(trained.unique())]}
    both = {(other, target): value for (target, other), value in given.items()} | given
    factors = {pair: (value, 0.0) for pair, value in both.items()} | {(name, name): (1.0, 1.0) for name in names}
    rows = [(names[target], own, *factor) for (target, own), factor in factors.items()]
    near = pd.DataFrame(rows, columns=["dataset_id", "own", "factor", "more"])
    proxies = performance[["model_id", "value"]].assign(own=trained.map(_normalised)).merge(near, on="own")
    proxies["value"] = (proxies["value"] * proxies["factor"] + proxies["more"]) / 2
    best = proxies.groupby(["model_id", "dataset_id"])["value"].max()
    return records_frame(best.reset_index(), "proxy", "proxy", "thesis")


def _normalised(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _pairs(path: Path) -> Iterable[tuple[str, str, float]]:
    """(outer key, inner key or model, number) of a JSON object of objects, or of an object of lists of entries."""
    where, shape = str(path), "Give an object of objects of numbers, or of lists of {model_name, accuracy}."
    with explained(where, "can't be read as JSON ({reason}).", "Check the path and the file."):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ItemError(where, "is no JSON object.", shape)
    for outer, row in content.items():
        if isinstance(row, list):
            entries = [(_first_of(entry, _MODEL_KEYS), entry) for entry in row]
        elif isinstance(row, dict):
            entries = list(row.items())
        else:
            raise ItemError(where, f"has {type(row).__name__} under {outer!r}.", shape)
        if any(name is None for name, _ in entries):
            raise ItemError(where, f"has an entry without model_name under {outer!r}.", shape)
        for inner, entry in entries:
            value = _first_of(entry, _VALUE_KEYS) if isinstance(entry, dict) else entry
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ItemError(where, f"has no number under {outer!r}, {inner!r}.", "Give a number there.")
            yield str(outer), str(inner), float(value)


def _first_of(entry: Any, keys: Iterable[str]) -> Any:
    """What an object or table has under the first of the keys that it has; None without any."""
    return next((entry[key] for key in keys if key in entry), None) if hasattr(entry, "keys") else None
