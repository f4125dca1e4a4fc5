"""A bundle's folder, small enough to be shipped: embeddings and weights as float16, tokens as 8-bit integers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.files import atomic_path, load_arrays, save_arrays, sha256_file, write_json
from thesis_rec.recommendation.bundle import Bundle, ResidualCovariance
from thesis_rec.recommendation.model_table import model_table
from thesis_rec.thesis.ranking_data import ModelTable, TaskTokens

#: Files of a bundle's folder.
MODELS, TOKENS, RANKER, ENCODER = "models.npz", "dataset_tokens.npz", "ranker.pt", "encoder.pt"
PERFORMANCE, COVARIANCE, DESCRIPTION = "performance.parquet", "residual_covariance.npz", "bundle.json"


def write_bundle(bundle: Bundle, folder: Path, autoencoder: dict[str, Any] | None = None) -> None:
    """Write what can't be made from the zoo's own tables to a folder: embeddings, tokens, ranker, encoder, covariance.

    It is meant to be shipped, so that it is small: embeddings and weights as float16, tokens as 8-bit integers (each
    with its own scale; a cosine changes by less than 1e-3), performance on the datasets whose tokens are there.

    Args:
        bundle: The bundle.
        folder: Where to.
        autoencoder: Checkpoint that embeds new models; its decoder may be left out.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {
        "model_ids": np.array(bundle.models.model_ids),
        "embedding": bundle.models.embedding.astype(np.float16),
        "n_parameters": np.asarray(bundle.models.n_parameters, dtype=np.float64),
    }
    if bundle.models.responses is not None:
        arrays["responses"] = bundle.models.responses.astype(np.float32)
    if bundle.models.reference is not None:
        arrays["reference"] = bundle.models.reference.astype(np.float32)
    if bundle.models.subtasks is not None:
        arrays["subtasks"] = bundle.models.subtasks.astype(np.float16)
    save_arrays(folder / MODELS, arrays)
    save_arrays(folder / TOKENS, pack_tokens(bundle.tokens))
    if bundle.covariance is not None:
        matrix = bundle.covariance.matrix.astype(np.float32)
        save_arrays(folder / COVARIANCE, {"model_ids": np.array(bundle.covariance.model_ids), "matrix": matrix})
    checkpoints = {RANKER: halved(bundle.ranker), **({ENCODER: autoencoder} if autoencoder else {})}
    for name, content in checkpoints.items():
        with atomic_path(folder / name) as temporary:
            torch.save(content, temporary)
    known = bundle.performance["dataset_id"].isin(bundle.tokens)
    with atomic_path(folder / PERFORMANCE) as temporary:
        table = bundle.performance[known].astype({"value": "float32"})
        table.to_parquet(temporary, index=False, compression="zstd")
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != DESCRIPTION)
    description = {
        "encoder_id": bundle.encoder_id,
        "models": len(bundle.models),
        "datasets": len(bundle.tokens),
        "sha256": {path.name: sha256_file(path) for path in files if not path.name.startswith(".")},
    }
    write_json(folder / DESCRIPTION, description)


@dataclass(frozen=True)
class StoredBundle:
    """What :func:`write_bundle` wrote, before it is joined with the zoo's tables."""

    models: dict[str, NDArray[Any]]
    tokens: dict[str, TaskTokens]
    ranker: dict[str, Any]
    performance: pd.DataFrame
    covariance: ResidualCovariance | None
    autoencoder: dict[str, Any] | None

    def model_table(self, manifest: pd.DataFrame) -> ModelTable:
        """The stored models that the manifest lists."""
        embeddings = pd.DataFrame(self.models["embedding"].astype(np.float32))
        embeddings.insert(0, "model_id", [str(model) for model in self.models["model_ids"]])
        counts = dict(zip(embeddings["model_id"], self.models["n_parameters"].tolist(), strict=True))
        responses = self.models if "responses" in self.models else None
        table = model_table(embeddings, manifest, counts, responses)
        place = {str(model): i for i, model in enumerate(self.models["model_ids"])}
        rows = [place[model] for model in table.model_ids]
        reference, subtasks = (
            self.models[name][rows].astype(np.float32) if name in self.models else None
            for name in ("reference", "subtasks")
        )
        return replace(table, reference=reference, subtasks=subtasks)


def read_bundle(folder: Path) -> StoredBundle:
    """Read the folder that :func:`write_bundle` wrote.

    Raises:
        ConfigurationError: If a file is missing.
    """
    import torch

    needed = [MODELS, TOKENS, RANKER, PERFORMANCE]
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise ConfigurationError(
            f"There is no trained ranker: {folder} lacks {', '.join(missing)}. Run `kedro run` first, which trains one."
        )
    covariance = None
    if (folder / COVARIANCE).is_file():
        content = load_arrays(folder / COVARIANCE)
        covariance = ResidualCovariance([str(m) for m in content["model_ids"]], content["matrix"].astype(np.float64))

    def checkpoint(name: str) -> dict[str, Any]:
        return dict(torch.load(folder / name, weights_only=True, map_location="cpu"))

    return StoredBundle(
        models=load_arrays(folder / MODELS),
        tokens=unpack_tokens(load_arrays(folder / TOKENS)),
        ranker=checkpoint(RANKER),
        performance=pd.read_parquet(folder / PERFORMANCE),
        covariance=covariance,
        autoencoder=checkpoint(ENCODER) if (folder / ENCODER).is_file() else None,
    )


def halved(content: Any) -> Any:
    """The same content with float32 matrices as float16, which the readers turn back."""
    import torch

    if isinstance(content, Mapping):
        return {key: halved(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [halved(value) for value in content]
    if isinstance(content, torch.Tensor) and content.dtype is torch.float32 and content.ndim >= 2:
        return content.half()
    return content


def pack_tokens(tokens: Mapping[str, TaskTokens]) -> dict[str, NDArray[Any]]:
    """Tokens of all datasets as a few arrays.

    Returns:
        ``features`` (rows, D) int8, to be scaled to length 1; ``shape`` (N, 2) batches and classes of each dataset;
        names as JSON; ``encoder_id``; ``landmarks`` (N, L) float16, NaN where a dataset has none.
    """
    items = list(tokens.values())
    n_landmarks = max((len(item.landmarks) for item in items if item.landmarks is not None), default=0)
    landmarks = np.full((len(items), n_landmarks), np.nan, dtype=np.float16)
    for row, item in enumerate(items):
        if item.landmarks is not None:
            landmarks[row] = item.landmarks
    parts = [item.features.reshape(-1, item.features.shape[-1]) for item in items]
    rows = np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
    scale = np.abs(rows).max(axis=1, initial=1e-12, keepdims=True) / 127
    names = [{"id": i.dataset_id, "classes": i.class_names, "n_images": i.n_images} for i in items]
    return {
        "features": np.rint(rows / scale).astype(np.int8),
        "shape": np.array([item.features.shape[:2] for item in items], dtype=np.int64).reshape(-1, 2),
        "names": np.array(json.dumps(names)),
        "encoder_id": np.array(items[0].encoder_id if items else ""),
        "landmarks": landmarks,
    }


def unpack_tokens(arrays: Mapping[str, NDArray[Any]]) -> dict[str, TaskTokens]:
    """What :func:`pack_tokens` packed, L2-normalised again after the rounding."""
    found: dict[str, TaskTokens] = {}
    start = 0
    names = json.loads(str(arrays["names"]))
    landmarks = arrays.get("landmarks", np.full((len(names), 0), np.nan)).astype(np.float32)
    for (batches, classes), name, values in zip(arrays["shape"].tolist(), names, landmarks, strict=True):
        # The scale drops out of the normalisation.
        rows = arrays["features"][start : start + batches * classes].astype(np.float32)
        start += batches * classes
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        features = rows.reshape(batches, classes, -1)
        found[name["id"]] = TaskTokens(
            name["id"],
            features,
            name["classes"],
            int(name["n_images"]),
            str(arrays["encoder_id"]),
            values if len(values) and np.isfinite(values).all() else None,
        )
    return found
