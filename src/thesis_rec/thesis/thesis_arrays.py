"""Vectors, embeddings and tokens that the earlier thesis code left behind as NPZ files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError, explained
from thesis_rec.base.files import decode_id
from thesis_rec.base.tables import VECTOR_LENGTH


def import_arrays(folder: Path) -> tuple[dict[str, dict[str, NDArray[Any]]], pd.DataFrame, dict[str, dict[str, Any]]]:
    """NPZ files: vectors (``parameters``), embeddings (``embedding``), tokens (``features``).

    A file may hold any of the three. Tokens may be (C, D), (B, C, D) or (N, D) and become shards (B, C, D),
    L2-normalised; their class names are read from ``class_names`` or ``labels`` where there are any. Files directly in
    the folder are named by the model or dataset; deeper ones are token shards as ``<dataset>/<split>/<shard>.npz``.

    Args:
        folder: Folder with NPZ files.

    Returns:
        Vectors by model, in the form of ``model_vectors``; embeddings as ``model_embeddings`` (empty without any);
        token shards by ``<dataset>/<split>/<number>``.

    Raises:
        ItemError: If the folder holds no such file, or a file is of another shape.
    """
    vectors: dict[str, dict[str, NDArray[Any]]] = {}
    embeddings: dict[str, NDArray[np.float32]] = {}
    shards: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(folder.rglob("*.npz")):
        arrays = _arrays(path)
        # Ends of file names that the thesis code put behind a model's name.
        name = re.sub("(_model_extracted)?(_embedding)?$", "", decode_id(path.stem))
        if "parameters" in arrays:
            vectors[name] = _vector(arrays["parameters"], path)
        if "embedding" in arrays:
            code = np.asarray(arrays["embedding"], dtype=np.float32).ravel()
            if not code.size or not np.isfinite(code).all():
                raise ItemError(str(path), "has an embedding that is empty or not finite.", "Extract the model again.")
            embeddings[name] = code
        if "features" in arrays:
            place = path.relative_to(folder).parts
            key = (place[-3], place[-2]) if len(place) >= 3 else (name, "train")
            shards.setdefault(key, []).append(_shard(arrays, path))
    if not (vectors or embeddings or shards):
        raise ItemError(str(folder), "holds no NPZ file with parameters, embedding or features.", "Check the folder.")
    return vectors, embeddings_table(embeddings, str(folder)), _numbered(shards)


def embeddings_table(embeddings: Mapping[str, NDArray[np.float32]], where: str) -> pd.DataFrame:
    """Embeddings as ``model_embeddings``.

    Raises:
        ItemError: If they differ in length.
    """
    lengths = {len(code) for code in embeddings.values()}
    if len(lengths) > 1:
        raise ItemError(where, f"has embeddings of lengths {sorted(lengths)}.", "Embed all models alike.")
    table = pd.DataFrame(np.stack(list(embeddings.values())) if embeddings else np.zeros((0, 1), np.float32))
    table.columns = [f"e{i:03d}" for i in range(table.shape[1])]
    table.insert(0, "model_id", pd.Series(list(embeddings), dtype="string"))
    return table


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file that hold numbers or text; pickled objects are left out, and refused where they matter."""
    arrays = {}
    with explained(str(path), "can't be read ({reason}).", "Write it anew with numpy.savez."), np.load(path) as content:
        for key in content.files:
            try:
                arrays[key] = content[key]
            except ValueError:
                # Class names were saved as pickled objects; nothing else needs to be.
                if key in ("parameters", "embedding", "features"):
                    raise
    return arrays


def _vector(values: NDArray[Any], path: Path) -> dict[str, NDArray[Any]]:
    vector = np.asarray(values, dtype=np.float32).ravel()
    if len(vector) > VECTOR_LENGTH or not np.isfinite(vector).all() or not vector.any():
        raise ItemError(
            str(path), f"has parameters that aren't a finite vector of {VECTOR_LENGTH}.", "Extract the model again."
        )
    padded = np.pad(vector, (0, VECTOR_LENGTH - len(vector)))
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
    }


def _numbered(shards: Mapping[tuple[str, str], list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Shards by ``<dataset>/<split>/<number>``, each knowing how many there are and of how many images."""
    from thesis_rec.views.shards import shard_key

    found = {}
    for (dataset, split), parts in shards.items():
        n_images = np.int64(sum(int(part["n_images"]) for part in parts))
        for number, part in enumerate(parts):
            counted = {"n_images": n_images, "shard": np.int64(number), "n_shards": np.int64(len(parts))}
            found[shard_key(dataset, split, number)] = part | counted
    return found
