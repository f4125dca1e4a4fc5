"""What a recommendation is made of: models, what is known of them, a trained ranker, and the tokens of known datasets.

A bundle is put together from the artefacts of one's own runs or read from a folder that was written earlier; the
starter zoo ships such a folder, so a fresh clone can recommend before anything was run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.errors import ConfigurationError
from thesis_rec.files import atomic_path, sha256_file, write_json
from thesis_rec.ranking.data import ModelTable, TaskTokens

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]

#: Files of a bundle's folder.
MODELS, TOKENS, RANKER, ENCODER = "models.npz", "dataset_tokens.npz", "ranker.pt", "encoder.pt"
PERFORMANCE, COVARIANCE, DESCRIPTION = "performance.parquet", "residual_covariance.npz", "bundle.json"


@dataclass(frozen=True)
class ResidualCovariance:
    """How the ranker's errors on earlier tasks went together: ``matrix`` (K, K) between ``model_ids`` (K,)."""

    model_ids: list[str]
    matrix: NDArray[np.float64]


@dataclass(frozen=True)
class Bundle:
    """Everything that one recommendation reads.

    Attributes:
        manifest: The model manifest: ``model_id``, ``family``, ``licence`` and so on, as strings.
        models: The models that have an embedding.
        tokens: Tokens of known datasets, by id.
        ranker: Checkpoint of the trained ranker.
        performance: ``model_id, dataset_id, protocol, value``: what was measured.
        datasets: The dataset manifest: ``dataset_id``, ``domain``, ``group``.
        profiles: ``hardware_profiles`` of any devices.
        covariance: Of the ranker's errors, for probing; None if it wasn't computed.
        encoder: Configuration of the image encoder that made the tokens.
        models_root: Folder to which the manifest's sources are relative.
        hub_cache: Folder of hub downloads.
        sources: For each artefact, where it is from: ``own`` or ``starter``.
    """

    manifest: pd.DataFrame
    models: ModelTable
    tokens: dict[str, TaskTokens]
    ranker: dict[str, Any]
    performance: pd.DataFrame
    datasets: pd.DataFrame
    profiles: pd.DataFrame
    covariance: ResidualCovariance | None = None
    encoder: dict[str, Any] = field(default_factory=dict)
    models_root: Path = Path()
    hub_cache: str = ""
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def encoder_id(self) -> str:
        """Identifier of the encoder that made the tokens."""
        return next((tokens.encoder_id for tokens in self.tokens.values()), "")


def model_table(
    embeddings: pd.DataFrame,
    manifest: pd.DataFrame,
    n_parameters: Mapping[str, float],
    responses: Mapping[str, NDArray[Any]] | None = None,
) -> ModelTable:
    """The models that are in both the manifest and the embeddings, in the manifest's order.

    Args:
        embeddings: ``model_id`` and the columns of the code.
        manifest: The model manifest.
        n_parameters: Number of weights by model; 0 where unknown.
        responses: ``responses`` (K, R), ``model_ids`` (K,) and ``names`` (R,), if measured; a model without them gets
            NaN.
    """
    row_of = {str(model): i for i, model in enumerate(embeddings["model_id"])}
    listed = manifest.drop_duplicates("model_id")
    listed = listed[listed["model_id"].astype(str).isin(row_of)]
    ids = listed["model_id"].astype(str).tolist()
    matrix = embeddings.drop(columns="model_id").to_numpy(dtype=np.float32)
    families = listed["family"].astype(str).tolist() if "family" in listed else [""] * len(ids)
    counts = np.array([float(n_parameters.get(model, 0.0)) for model in ids])
    table = ModelTable(ids, matrix[[row_of[model] for model in ids]], families, counts)
    return with_responses(table, responses)


def with_responses(models: ModelTable, responses: Mapping[str, NDArray[Any]] | None) -> ModelTable:
    """The models with what was measured of them on the reference bank; a model without keeps what it has, or gets NaN.

    Args:
        models: M models.
        responses: ``responses`` (K, R), ``model_ids`` (K,) and ``names`` (R,), or None.
    """
    if responses is None or not len(responses["responses"]):
        return models
    given = np.asarray(responses["responses"], dtype=np.float32)
    names = [str(name) for name in responses["names"]] if "names" in responses else []
    probes = [column for column, name in enumerate(names) if name.endswith("/linear_probe")]
    place = {str(model): i for i, model in enumerate(responses["model_ids"])}
    rows = [i for i, model in enumerate(models.model_ids) if model in place]
    found = given[[place[models.model_ids[i]] for i in rows]]

    def filled(table: NDArray[np.floating] | None, values: Floats) -> NDArray[np.floating] | None:
        if not values.shape[1]:
            return table
        fits = table is not None and table.shape[1] == values.shape[1]
        out = np.array(table) if fits else np.full((len(models), values.shape[1]), np.nan, dtype=np.float32)
        out[rows] = values
        return out

    responded, reference = filled(models.responses, found), filled(models.reference, found[:, probes])
    return replace(models, responses=responded, reference=reference)


def add_models(
    models: ModelTable,
    manifest: pd.DataFrame,
    vectors: Mapping[str, Callable[[], Mapping[str, Any]]],
    embed: Callable[[Floats], Floats],
) -> tuple[ModelTable, list[str]]:
    """Embed manifest models that have a parameter vector but no embedding yet: no training is needed for them.

    Args:
        models: The models that have an embedding.
        manifest: The model manifest.
        vectors: Partitions of ``model_vectors``.
        embed: (K, 8192) vectors to (K, E) embeddings, the autoencoder's encoder half.

    Returns:
        All models, and the ids of the new ones.
    """
    known = set(models.model_ids)
    rows = manifest.drop_duplicates("model_id")
    rows = rows[[model in vectors and model not in known for model in rows["model_id"].astype(str)]]
    new = rows["model_id"].astype(str).tolist()
    if not new:
        return models, []
    read = [vectors[model]() for model in new]
    embedding = embed(np.stack([np.asarray(item["parameters"], dtype=np.float32) for item in read]))
    joined = ModelTable(
        [*models.model_ids, *new],
        np.concatenate([models.embedding, embedding.astype(np.float32)]),
        [*models.families, *(rows["family"].astype(str) if "family" in rows else [""] * len(new))],
        np.concatenate([models.n_parameters, [float(item["n_parameters"]) for item in read]]),
        _with_missing_rows(models.responses, len(new)),
        _with_missing_rows(models.reference, len(new)),
    )
    return joined, new


def _with_missing_rows(table: NDArray[np.floating] | None, count: int) -> NDArray[np.floating] | None:
    """``table`` and ``count`` rows of NaN below it."""
    if table is None:
        return None
    return np.concatenate([table, np.full((count, table.shape[1]), np.nan, dtype=np.float32)])


def thinned(bundle: Bundle, batches: int | None) -> Bundle:
    """The bundle with at most ``batches`` tokens of each class."""
    if batches is None:
        return bundle
    tokens = {name: replace(item, features=item.features[:batches]) for name, item in bundle.tokens.items()}
    return replace(bundle, tokens=tokens)


def mean_performance(records: pd.DataFrame, protocol: str = "linear_probe") -> pd.DataFrame:
    """One value per model and dataset of one protocol: the mean over repeats."""
    chosen = records[records["protocol"] == protocol] if "protocol" in records else records
    means: pd.Series = chosen.groupby(["model_id", "dataset_id"], sort=False)["value"].mean()
    return means.reset_index()


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
    _save(folder / MODELS, arrays)
    _save(folder / TOKENS, pack_tokens(bundle.tokens))
    if bundle.covariance is not None:
        matrix = bundle.covariance.matrix.astype(np.float32)
        _save(folder / COVARIANCE, {"model_ids": np.array(bundle.covariance.model_ids), "matrix": matrix})
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
        if "reference" not in self.models:
            return table
        place = {str(model): i for i, model in enumerate(self.models["model_ids"])}
        return replace(table, reference=self.models["reference"][[place[model] for model in table.model_ids]])


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
        content = _load(folder / COVARIANCE)
        covariance = ResidualCovariance([str(m) for m in content["model_ids"]], content["matrix"].astype(np.float64))

    def checkpoint(name: str) -> dict[str, Any]:
        return dict(torch.load(folder / name, weights_only=True, map_location="cpu"))

    return StoredBundle(
        models=_load(folder / MODELS),
        tokens=unpack_tokens(_load(folder / TOKENS)),
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


def extend_covariance(known: ResidualCovariance, models: ModelTable) -> NDArray[np.float64]:
    """The covariance for all (M,) models: measured ones as they are, others through their most similar ones.

    A model without errors takes the weighted errors of known models, the weights falling with the distance of the
    embeddings, and variance of its own on top, so that it is as uncertain as the average known model at least.

    Args:
        known: Covariance of (K,) models.
        models: All models.

    Returns:
        (M, M), positive semi-definite.
    """
    place = {model: i for i, model in enumerate(known.model_ids)}
    row_of = {model: i for i, model in enumerate(models.model_ids)}
    shared = [model for model in known.model_ids if model in row_of]
    if not shared:
        variance = float(np.diagonal(known.matrix).mean())
        return variance * np.eye(len(models))
    embedding = models.embedding.astype(np.float64)
    spread = embedding.std(axis=0)
    embedding = (embedding - embedding.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    inner = known.matrix[np.ix_([place[m] for m in shared], [place[m] for m in shared])]
    anchors = embedding[[row_of[m] for m in shared]]
    weights = np.zeros((len(models), len(shared)))
    extra = np.zeros(len(models))
    typical = float(np.diagonal(inner).mean())
    for i, model in enumerate(models.model_ids):
        if model in place:
            weights[i, shared.index(model)] = 1.0
            continue
        distance = ((anchors - embedding[i]) ** 2).sum(axis=1)
        closeness = np.exp(-(distance - distance.min()) / max(float(np.median(distance)), 1e-12) * 8)
        weights[i] = closeness / closeness.sum()
        extra[i] = max(typical - float(weights[i] @ inner @ weights[i]), 0.25 * typical)
    return weights @ inner @ weights.T + np.diag(extra)


def with_sources(bundle: Bundle, **sources: str) -> Bundle:
    """The bundle with notes on where artefacts are from."""
    return replace(bundle, sources={**bundle.sources, **sources})


def residuals(
    predictions: Mapping[str, NDArray[np.float64]], performance: pd.DataFrame, model_ids: Sequence[str]
) -> NDArray[np.float64]:
    """Truth minus prediction on tasks that the ranker wasn't trained on.

    Args:
        predictions: (M,) predicted values by dataset.
        performance: ``model_id, dataset_id, value``.
        model_ids: M models.

    Returns:
        (T, M), NaN where not measured.
    """
    wide = performance.pivot_table(index="dataset_id", columns="model_id", values="value")
    wide = wide.reindex(index=list(predictions), columns=list(model_ids))
    return wide.to_numpy(dtype=np.float64) - np.stack(list(predictions.values()))


def _save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}
