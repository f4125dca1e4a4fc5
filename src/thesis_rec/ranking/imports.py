"""Performance and features that others measured, brought into the project's own forms.

Each importer gives rows of ``performance_records`` with the source they are from and a protocol ``imported:<source>``,
so that they are never mixed with what was measured here. The **proxy** of the earlier thesis code is no measurement at
all: a model's accuracy on the dataset it was trained on, times a hand-entered similarity of that dataset to the target,
plus one where both are the same. It is offered for those who have nothing else, under the protocol ``proxy``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.errors import ItemError

logger = logging.getLogger(__name__)

RECORD_COLUMNS = ["model_id", "dataset_id", "protocol", "metric", "value", "seed", "n_train", "source"]

#: Length of a model's vector and of its embedding in the earlier thesis code.
VECTOR_LENGTH, CODE_LENGTH = 8192, 512


def records_frame(rows: Iterable[tuple[str, str, float]], protocol: str, metric: str, source: str) -> pd.DataFrame:
    """Rows of (model, dataset, fraction) as performance records.

    Raises:
        ItemError: If there are none, or a value is no fraction.
    """
    table = pd.DataFrame(rows, columns=["model_id", "dataset_id", "value"])
    if table.empty:
        raise ItemError(source, "holds no performance.", "Check that the file is the one meant and isn't empty.")
    value = pd.to_numeric(table["value"], errors="coerce").astype("float64")
    bad = ~value.between(0.0, 1.0)
    if bad.any():
        first = table.loc[bad].iloc[0].to_dict()
        raise ItemError(source, f"has values outside 0..1, e.g. {first}.", "Name the unit: fraction or percent.")
    table["value"] = value
    return table.assign(protocol=protocol, metric=metric, seed=0, n_train=np.nan, source=source)[RECORD_COLUMNS].astype(
        {"model_id": "string", "dataset_id": "string", "protocol": "string", "metric": "string", "source": "string"}
    )


def scale_of(values: Iterable[float], unit: str = "auto") -> float:
    """What a value of 1 means: 1 for fractions, 100 for percent.

    Args:
        values: Accuracies.
        unit: ``fraction``, ``percent``, or ``auto``: percent if any value is above 1.5.

    Raises:
        ValueError: If the unit is unknown.
    """
    if unit not in ("auto", "fraction", "percent"):
        raise ValueError(f"unknown unit {unit!r}; choose fraction, percent or auto")
    if unit == "auto":
        finite = [v for v in values if np.isfinite(v)]
        return 100.0 if finite and max(finite) > 1.5 else 1.0
    return 100.0 if unit == "percent" else 1.0


def import_wide_csv(path: Path, unit: str = "auto", source: str = "") -> pd.DataFrame:
    """A table of models (rows, the first column their ids) by datasets (the other columns).

    Args:
        path: CSV file.
        unit: See :func:`scale_of`.
        source: Name for the records, by default the file's.
    """
    table = _csv(path)
    name = source or path.stem
    if table.shape[1] < 2:
        raise ItemError(str(path), "has fewer than two columns.", "Give models as rows and datasets as columns.")
    ids = table.iloc[:, 0].astype(str)
    if ids.duplicated().any():
        raise ItemError(str(path), f"names {ids[ids.duplicated()].iloc[0]!r} twice.", "Keep one row per model.")
    numbers = table.iloc[:, 1:].apply(pd.to_numeric, errors="coerce")
    scale = scale_of(numbers.to_numpy(dtype=float).ravel(), unit)
    rows = [
        (model, str(dataset), float(value) / scale)
        for model, line in zip(ids, numbers.to_numpy(dtype=float), strict=True)
        for dataset, value in zip(numbers.columns, line, strict=True)
        if np.isfinite(value)
    ]
    return records_frame(rows, f"imported:{name}", "accuracy", name)


def import_transfergraph(path: Path) -> pd.DataFrame:
    """TransferGraph's records: ``records.csv`` of the repository, or a long table ``model_id, dataset_id, value``."""
    table = _csv(path)
    # The repository's own names first, then this project's.
    columns = {
        "model_id": _first(table, ("model", "model_id", "model_identifier")),
        "dataset_id": _first(table, ("finetuned_dataset", "dataset_id", "dataset")),
        "value": _first(table, ("eval_accuracy", "test_accuracy", "value", "accuracy")),
    }
    if missing := [name for name, found in columns.items() if found is None]:
        raise ItemError(
            str(path), f"has no column for {', '.join(missing)}.", f"Its columns: {', '.join(table.columns)}."
        )
    chosen = pd.DataFrame({name: table[found] for name, found in columns.items()})
    chosen["value"] = pd.to_numeric(chosen["value"], errors="coerce")
    # The last of several runs of a cell is the one that its authors kept.
    chosen = chosen.dropna().drop_duplicates(["model_id", "dataset_id"], keep="last")
    rows = list(chosen.astype({"model_id": str, "dataset_id": str}).itertuples(index=False, name=None))
    return records_frame(rows, "imported:transfergraph", "accuracy", "transfergraph")


def import_timm_results(path: Path, dataset_id: str | None = None) -> pd.DataFrame:
    """A results file of timm (``results-imagenet.csv`` and so on): ``model, top1, ...`` in percent.

    Args:
        path: CSV file.
        dataset_id: What the models were tested on, by default what the file's name says.
    """
    table = _csv(path)
    if not {"model", "top1"} <= set(table.columns):
        raise ItemError(str(path), "has no columns 'model' and 'top1'.", "Take a results-*.csv file of timm.")
    dataset = dataset_id or path.stem.removeprefix("results-")
    table = table.drop_duplicates("model").dropna(subset=["top1"])
    rows = [(str(m), dataset, float(v) / 100.0) for m, v in zip(table["model"], table["top1"], strict=True)]
    return records_frame(rows, "imported:timm", "top1", "timm")


def import_thesis_performance(path: Path) -> pd.DataFrame:
    """``dataset_model_performance.json`` of the thesis repository: dataset -> model -> accuracy.

    An entry may be a number, or an object with ``accuracy``, ``value`` or ``performance``; values above 1.5 are taken
    as percent.
    """
    content = _json(path)
    rows = list(_pairs(content, str(path)))
    scale = scale_of([value for *_, value in rows])
    scaled = [(model, dataset, value / scale) for dataset, model, value in rows]
    return records_frame(scaled, "imported:thesis", "accuracy", "thesis")


def read_similarity(path: Path) -> dict[str, dict[str, float]]:
    """``dataset_similarity.json`` of the thesis repository: dataset -> dataset -> similarity 0..1.

    A pair that is given in one direction only holds in both; where both are given and differ, each keeps its own.

    Raises:
        ItemError: If a similarity is outside 0..1.
    """
    found: dict[str, dict[str, float]] = {}
    for first, second, value in _pairs(_json(path), str(path)):
        if not 0.0 <= value <= 1.0:
            raise ItemError(str(path), f"similarity of {first} and {second} is {value}.", "Similarities are 0..1.")
        found.setdefault(first, {})[second] = value
    for first, row in list(found.items()):
        for second, value in row.items():
            found.setdefault(second, {}).setdefault(first, value)
    return found


def proxy_performance(
    performance: pd.DataFrame, similarity: Mapping[str, Mapping[str, float]], source: str = "thesis"
) -> pd.DataFrame:
    """The proxy of every model for every dataset: own accuracy times similarity, plus one on the own dataset.

    The proxy lies in 0..2 and is halved, which keeps its order and makes it a fraction. A model that was trained on
    several datasets takes the largest of its proxies.

    Args:
        performance: Records of models on the datasets they were trained on.
        similarity: Similarity of datasets.
        source: Name for the records.

    Returns:
        Performance records with protocol ``proxy`` and metric ``proxy``; none where no similarity is known.
    """
    best: dict[tuple[str, str], float] = {}
    inner = {target for row in similarity.values() for target in row}
    targets = sorted({*similarity, *inner, *performance["dataset_id"].astype(str)})
    for model, own, value in zip(
        performance["model_id"].astype(str), performance["dataset_id"].astype(str), performance["value"], strict=True
    ):
        for target in targets:
            if target == own:
                proxy = float(value) * similarity.get(own, {}).get(own, 1.0) + 1.0
            elif target in similarity.get(own, {}):
                proxy = float(value) * similarity[own][target]
            else:
                continue
            best[model, target] = max(proxy / 2.0, best.get((model, target), 0.0))
    rows = [(model, target, value) for (model, target), value in sorted(best.items())]
    return records_frame(rows, "proxy", "proxy", source)


def import_arrays(folder: Path) -> tuple[dict[str, dict[str, NDArray[Any]]], pd.DataFrame, dict[str, dict[str, Any]]]:
    """NPZ files of the thesis repository: vectors (``parameters``), embeddings (``embedding``), tokens (``features``).

    A file may hold any of the three. Tokens may be (C, D), (B, C, D) or (N, D) and become one shard (B, C, D),
    L2-normalised; their class names are read from ``class_names`` or ``labels`` where there are any.

    Args:
        folder: Folder with NPZ files; a file's name is the model's or dataset's id.

    Returns:
        Vectors by model, in the form of ``model_vectors``; embeddings as ``model_embeddings`` (empty without any);
        token shards by ``<dataset>/train/00000``.

    Raises:
        ItemError: If the folder holds no such file, or a file is of another shape.
    """
    from thesis_rec.files import decode_id

    vectors: dict[str, dict[str, NDArray[Any]]] = {}
    embeddings: dict[str, NDArray[np.float32]] = {}
    shards: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.npz")):
        name = decode_id(path.stem)
        try:
            with np.load(path, allow_pickle=False) as content:
                arrays = {key: content[key] for key in content.files}
        except (ValueError, OSError, KeyError) as error:
            raise ItemError(str(path), f"can't be read ({error}).", "Write it anew with numpy.savez.") from error
        if "parameters" in arrays:
            vectors[name] = _vector(arrays["parameters"], path)
        if "embedding" in arrays:
            code = np.asarray(arrays["embedding"], dtype=np.float32).ravel()
            if not code.size or not np.isfinite(code).all():
                raise ItemError(str(path), "has an embedding that is empty or not finite.", "Extract the model again.")
            embeddings[name] = code
        if "features" in arrays:
            shards[f"{name}/train/00000"] = _shard(arrays, path)
    if not (vectors or embeddings or shards):
        raise ItemError(str(folder), "holds no NPZ file with parameters, embedding or features.", "Check the folder.")
    lengths = {len(code) for code in embeddings.values()}
    if len(lengths) > 1:
        raise ItemError(str(folder), f"has embeddings of lengths {sorted(lengths)}.", "Embed all models alike.")
    table = pd.DataFrame(np.stack(list(embeddings.values())) if embeddings else np.zeros((0, 1), np.float32))
    table.columns = [f"e{i:03d}" for i in range(table.shape[1])]
    table.insert(0, "model_id", pd.Series(list(embeddings), dtype="string"))
    return vectors, table, shards


def _vector(values: NDArray[Any], path: Path) -> dict[str, NDArray[Any]]:
    vector = np.asarray(values, dtype=np.float32).ravel()
    if len(vector) > VECTOR_LENGTH or not np.isfinite(vector).all() or not vector.any():
        raise ItemError(
            str(path), f"has parameters that aren't a finite vector of {VECTOR_LENGTH}.", "Extract the model again."
        )
    padded = np.zeros(VECTOR_LENGTH, dtype=np.float32)
    padded[: len(vector)] = vector
    # How many weights the model had isn't in the file.
    return {"parameters": padded, "n_parameters": np.array(0), "sha256": np.array("")}


def _shard(arrays: Mapping[str, NDArray[Any]], path: Path) -> dict[str, Any]:
    features = np.asarray(arrays["features"], dtype=np.float32)
    if features.ndim == 2:
        features = features[None]
    if features.ndim != 3 or not features.size or not np.isfinite(features).all():
        raise ItemError(str(path), f"has features of shape {features.shape}.", "Give (batches, classes, dimensions).")
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    if (length == 0).any():
        raise ItemError(str(path), "has a feature that is all zero.", "Encode the dataset again.")
    classes = features.shape[1]
    found = next((arrays[key] for key in ("class_names", "labels") if key in arrays), None)
    names = [str(name) for name in np.asarray(found).ravel()] if found is not None else []
    if len(names) != classes:
        names = [f"class {i}" for i in range(classes)]
    return {
        "features": (features / length).astype(np.float16),
        "class_ids": np.arange(classes, dtype=np.int64),
        "class_names": np.array(names),
        "n_images": np.int64(features.shape[0] * classes),
        "encoder_id": np.array(str(arrays["encoder_id"]) if "encoder_id" in arrays else "imported"),
        "settings_hash": np.array("imported"),
        "shard": np.int64(0),
        "n_shards": np.int64(1),
    }


def _pairs(content: Any, where: str) -> Iterable[tuple[str, str, float]]:
    """(outer key, inner key, number) of a nested object."""
    if not isinstance(content, dict):
        raise ItemError(where, "is no JSON object.", "Give an object of objects of numbers.")
    for outer, row in content.items():
        if not isinstance(row, dict):
            raise ItemError(
                where, f"has {type(row).__name__} under {outer!r}.", "Give an object of objects of numbers."
            )
        for inner, entry in row.items():
            value = entry
            if isinstance(entry, dict):
                value = next(
                    (entry[key] for key in ("accuracy", "value", "performance", "similarity") if key in entry), None
                )
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ItemError(where, f"has no number under {outer!r}, {inner!r}.", "Give a number there.")
            yield str(outer), str(inner), float(value)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ItemError(str(path), f"can't be read as JSON ({error}).", "Check the path and the file.") from error


def _csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ItemError(str(path), f"can't be read as CSV ({error}).", "Check the path and the file.") from error


def _first(table: pd.DataFrame, names: Iterable[str]) -> str | None:
    return next((name for name in names if name in table.columns), None)
