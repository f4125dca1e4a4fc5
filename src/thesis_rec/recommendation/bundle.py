"""What a recommendation is made of: models, what is known of them, a trained ranker, and the tokens of known datasets.

A bundle is put together from the artefacts of one's own runs or read from a folder that was written earlier; the
starter zoo ships such a folder, so a fresh clone can recommend before anything was run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.thesis.ranking_data import ModelTable, TaskTokens


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
