"""Accuracies and similarities that the earlier thesis code left behind, and the proxy that it made of them.

The **proxy** of that code is no measurement: a model's accuracy on the dataset it was trained on, times a hand-entered
similarity of that dataset to the target, plus one where both are the same. It is offered for those who have nothing
else, under the protocol ``proxy``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_rec.base.errors import ItemError
from thesis_rec.thesis.performance_imports import records_frame, scale_of

#: Keys under which an entry of the performance file may hold its model and its number.
_MODEL_KEYS = ("model_name", "model", "model_id")
_VALUE_KEYS = ("accuracy", "value", "performance", "similarity")


def import_thesis_performance(path: Path) -> pd.DataFrame:
    """``dataset_model_performance.json``: dataset -> list of ``{"model_name": ..., "accuracy": ...}``.

    A dataset may also hold an object, model -> accuracy (or object with ``accuracy``); values above 1.5 are percent.

    Raises:
        ItemError: If the file can't be read or holds something else.
    """
    rows = list(_pairs(_json(path), str(path)))
    scale = scale_of([value for *_, value in rows])
    scaled = [(model, dataset, value / scale) for dataset, model, value in rows]
    return records_frame(scaled, "imported:thesis", "accuracy", "thesis")


def read_similarity(path: Path) -> dict[str, dict[str, float]]:
    """``dataset_similarity.json``: target dataset -> dataset -> similarity 0..1.

    A pair that is given in one direction only holds in both; where both are given and differ, each keeps its own.

    Raises:
        ItemError: If a similarity is outside 0..1.
    """
    found: dict[str, dict[str, float]] = {}
    for first, second, value in _pairs(_json(path), str(path)):
        if not 0.0 <= value <= 1.0:
            raise ItemError(str(path), f"similarity of {first} and {second} is {value}.", "Similarities are 0..1.")
        found.setdefault(first, {})[second] = value
    given = {(_normalised(first), _normalised(second)) for first, row in found.items() for second in row}
    for first, row in list(found.items()):
        for second, value in list(row.items()):
            if (_normalised(second), _normalised(first)) not in given:
                found.setdefault(second, {})[first] = value
    return found


def proxy_performance(
    performance: pd.DataFrame, similarity: Mapping[str, Mapping[str, float]], source: str = "thesis"
) -> pd.DataFrame:
    """The proxy of every model for every dataset: own accuracy times similarity, or own accuracy plus one.

    The proxy lies in 0..2 and is halved, which keeps its order and makes it a fraction. A model that was trained on
    several datasets takes the largest of its proxies. Datasets are matched whether their names are written with blanks,
    dashes or underscores, small or large, as the thesis code did.

    Args:
        performance: Records of models on the datasets they were trained on.
        similarity: Target -> dataset -> similarity.
        source: Name for the records.

    Returns:
        Performance records with protocol ``proxy`` and metric ``proxy``; none where no similarity is known.
    """
    names: dict[str, str] = {}
    inner = {target for row in similarity.values() for target in row}
    for name in sorted(set(performance["dataset_id"].astype(str))) + sorted({*similarity, *inner}):
        names.setdefault(_normalised(name), name)
    known = {
        _normalised(target): {_normalised(other): value for other, value in row.items()}
        for target, row in similarity.items()
    }
    best: dict[tuple[str, str], float] = {}
    for model, dataset, value in zip(
        performance["model_id"].astype(str), performance["dataset_id"].astype(str), performance["value"], strict=True
    ):
        own = _normalised(dataset)
        for target, name in names.items():
            # The target's row counts, and the other direction where it is silent.
            near = known.get(target, {}).get(own, known.get(own, {}).get(target))
            if target == own:
                proxy = float(value) + 1.0
            elif near is not None:
                proxy = float(value) * near
            else:
                continue
            best[model, name] = max(proxy / 2.0, best.get((model, name), 0.0))
    rows = [(model, target, value) for (model, target), value in sorted(best.items())]
    return records_frame(rows, "proxy", "proxy", source)


def _normalised(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _pairs(content: Any, where: str) -> Iterable[tuple[str, str, float]]:
    """(outer key, inner key or model, number) of an object of objects, or of an object of lists of entries."""
    shape = "Give an object of objects of numbers, or of lists of {model_name, accuracy}."
    if not isinstance(content, dict):
        raise ItemError(where, "is no JSON object.", shape)
    for outer, row in content.items():
        if isinstance(row, list):
            entries = [(_first_of(entry, _MODEL_KEYS), entry) for entry in row]
            if any(name is None for name, _ in entries):
                raise ItemError(where, f"has an entry without model_name under {outer!r}.", shape)
        elif isinstance(row, dict):
            entries = list(row.items())
        else:
            raise ItemError(where, f"has {type(row).__name__} under {outer!r}.", shape)
        for inner, entry in entries:
            value = _first_of(entry, _VALUE_KEYS) if isinstance(entry, dict) else entry
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ItemError(where, f"has no number under {outer!r}, {inner!r}.", "Give a number there.")
            yield str(outer), str(inner), float(value)


def _first_of(entry: Any, keys: Iterable[str]) -> Any:
    return next((entry[key] for key in keys if key in entry), None) if isinstance(entry, dict) else None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ItemError(str(path), f"can't be read as JSON ({error}).", "Check the path and the file.") from error
