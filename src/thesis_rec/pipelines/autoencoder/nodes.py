"""Nodes of the pipeline autoencoder."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from thesis_rec.catalog.files import Partitions
from thesis_rec.training.settings import AutoEncoderPlan


class AutoencoderParameters(AutoEncoderPlan):
    """What ``conf/base/parameters/autoencoder.yml`` holds; each knob is explained there."""

    input: Literal["kmeans", "spectra", "both"] = "spectra"
    neighbours: int = Field(default=3, ge=1)
    map: Literal["pca", "tsne"] = "tsne"
    rolling_window: int = Field(default=10, ge=1)
    runs_folder: str = Field(min_length=1)


def train_autoencoder(
    model_vectors: Partitions,
    model_manifest: pd.DataFrame,
    zoo_sides: dict[str, list[str]],
    parameters: AutoencoderParameters,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train on the vectors of known models.

    Returns:
        The checkpoint and the history, one row per epoch.
    """
    from thesis_rec.training import autoencoder
    from thesis_rec.training.fit import fingerprint

    vectors = _inputs(model_vectors, model_manifest, parameters.input)
    known = autoencoder.split_known(sorted(vectors), zoo_sides, _families(model_manifest))
    runs = Path(parameters.runs_folder) / "autoencoder"
    checkpoint = autoencoder.train_autoencoder(vectors, known, parameters, runs)
    # Codes of different weights can't be compared.
    told = {"input": parameters.input, "autoencoder_id": fingerprint(checkpoint["network"])[:16]}
    return {**checkpoint, **told}, checkpoint["history"]


def draw_autoencoder_losses(autoencoder_history: list[dict[str, Any]], parameters: AutoencoderParameters) -> Any:
    """Loss curves."""
    from thesis_rec.evaluation.charts import draw, loss_chart

    return draw(loss_chart(autoencoder_history, "Autoencoder: reconstruction loss", parameters.rolling_window))


def embed_models(
    model_vectors: Partitions, model_manifest: pd.DataFrame, autoencoder_checkpoint: dict[str, Any]
) -> pd.DataFrame:
    """The code of every model, known or not: ``model_id`` and ``e000``, ``e001``, ...; and what made it."""
    from thesis_rec.models.auto_encoder import embed_vectors
    from thesis_rec.thesis.thesis_artefacts import embeddings_table

    vectors = _inputs(model_vectors, model_manifest, autoencoder_checkpoint.get("input", "kmeans"))
    ids = sorted(vectors)
    codes = embed_vectors(autoencoder_checkpoint, np.stack([vectors[model] for model in ids]))
    table = embeddings_table(dict(zip(ids, codes, strict=True)), "model_vectors")
    table.attrs["autoencoder_id"] = str(autoencoder_checkpoint.get("autoencoder_id", ""))
    return table


def evaluate_autoencoder(
    model_vectors: Partitions,
    model_manifest: pd.DataFrame,
    autoencoder_checkpoint: dict[str, Any],
    parameters: AutoencoderParameters,
) -> dict[str, Any]:
    """Reconstruction error of held-out models, and each model's neighbours."""
    from thesis_rec.training import autoencoder

    vectors = _inputs(model_vectors, model_manifest, autoencoder_checkpoint.get("input", "kmeans"))
    families = _families(model_manifest)
    return autoencoder.evaluate_autoencoder(autoencoder_checkpoint, vectors, families, parameters.neighbours)


def draw_embedding_map(
    model_embeddings: pd.DataFrame, autoencoder_evaluation: dict[str, Any], parameters: AutoencoderParameters
) -> Any:
    """All models on a map of their codes."""
    from thesis_rec.training.autoencoder import embedding_map

    codes = model_embeddings.set_index("model_id")
    models = pd.DataFrame.from_dict(autoencoder_evaluation["models"], orient="index").loc[codes.index]
    return embedding_map(codes.to_numpy(dtype=np.float32), models, parameters.map, parameters.seed)


def _inputs(model_vectors: Partitions, model_manifest: pd.DataFrame, kind: str) -> dict[str, Any]:
    """What the autoencoder reads of the manifest's models."""
    from thesis_rec.models.auto_encoder import autoencoder_input

    listed = set(model_manifest["model_id"].astype(str))
    return {model: autoencoder_input(read(), kind, model) for model, read in model_vectors.items() if model in listed}


def _families(model_manifest: pd.DataFrame) -> dict[str, str]:
    return dict(zip(model_manifest["model_id"].astype(str), model_manifest["family"].astype(str), strict=True))
