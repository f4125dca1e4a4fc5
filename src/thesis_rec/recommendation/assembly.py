"""From the artefacts of runs, or of a stored bundle, to the bundle that a recommendation reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.recommendation.bundle import Bundle, ResidualCovariance, mean_performance, residuals
from thesis_rec.recommendation.model_table import add_models, model_table, with_responses
from thesis_rec.recommendation.stored_bundle import StoredBundle
from thesis_rec.thesis.ranking_data import ModelTable, TaskTokens

PROTOCOL = "linear_probe"


def assemble(
    manifest: pd.DataFrame,
    datasets: pd.DataFrame,
    artefacts: Mapping[str, Any],
    *,
    encoder: Mapping[str, Any],
    models_root: Path = Path(),
    hub_cache: str = "",
) -> Bundle:
    """Join manifests and artefacts.

    Args:
        manifest: The model manifest.
        datasets: The dataset manifest.
        artefacts: By catalog name; ``stored`` is a :class:`~thesis_rec.recommendation.stored_bundle.StoredBundle`, or
            None when embeddings, tokens, ranker and performance are among the others.
        encoder: Configuration of the image encoder.
        models_root: Folder to which the manifest's sources are relative.
        hub_cache: Folder of hub downloads.
    """
    stored: StoredBundle | None = artefacts["stored"]
    responses = artefacts.get("model_responses") or None
    if stored is None:
        models, tokens = _own_models(manifest, artefacts, responses), _own_tokens(datasets, artefacts)
        ranker, performance = artefacts["similarity_checkpoint"], artefacts["performance"]
        origin, autoencoder = "own", artefacts.get("autoencoder_checkpoint")
    else:
        models, tokens = stored.model_table(manifest), stored.tokens
        ranker, performance = stored.ranker, stored.performance
        origin, autoencoder = "starter", stored.autoencoder
    sources = dict.fromkeys(("ranker", "model embeddings", "dataset tokens", "performance"), origin)
    if autoencoder is not None and "model_vectors" in artefacts:
        models, new = add_models(models, manifest, artefacts["model_vectors"], embedder(autoencoder))
        if new:
            shown = ", ".join(new[:3]) + (f" and {len(new) - 3} more" if len(new) > 3 else "")
            sources["models added without training"] = shown
    models = with_responses(models, responses)
    profiles, known_from = _profiles(artefacts)
    sources["hardware profiles"] = known_from
    bundle = Bundle(
        manifest=manifest,
        models=models,
        tokens=tokens,
        ranker=ranker,
        performance=mean_performance(performance, PROTOCOL),
        datasets=datasets,
        profiles=profiles,
        covariance=stored.covariance if stored is not None else None,
        encoder=dict(encoder),
        models_root=models_root,
        hub_cache=hub_cache,
        sources=sources,
    )
    if stored is not None:
        return bundle
    if content := artefacts.get("residual_covariance"):
        names = [str(model) for model in content["model_ids"]]
        return replace(bundle, covariance=ResidualCovariance(names, np.asarray(content["matrix"], dtype=np.float64)))
    if "splits" in artefacts:
        return replace(bundle, covariance=validation_covariance(bundle, artefacts["splits"]))
    return bundle


def validation_covariance(bundle: Bundle, splits: pd.DataFrame, at_least: int = 5) -> ResidualCovariance | None:
    """How the ranker's errors on its validation datasets went together, over the models measured there.

    Validation datasets chose the ranker but weren't trained on; test datasets stay untouched.

    Args:
        bundle: The bundle.
        splits: Which dataset has the role ``validation``.
        at_least: Datasets below which nothing is learned.
    """
    from thesis_rec.knowledge.recommender import Recommender
    from thesis_rec.knowledge.residuals import rbf_kernel, residual_covariance

    rows = splits[(splits["kind"] == "dataset") & (splits["role"] == "validation")]
    names = [name for name in rows["id"].astype(str) if name in bundle.tokens]
    measured = set(bundle.performance.loc[bundle.performance["dataset_id"].isin(names), "model_id"].astype(str))
    keep = [i for i, model in enumerate(bundle.models.model_ids) if model in measured]
    if len(names) < at_least or len(keep) < 2:
        return None
    models = bundle.models.select(keep)
    found = Recommender.from_checkpoint(bundle.ranker).predict_many(models, [bundle.tokens[name] for name in names])
    predictions = {name: np.asarray(one.value, dtype=np.float64) for name, one in zip(names, found, strict=True)}
    errors = residuals(predictions, bundle.performance, models.model_ids)
    return ResidualCovariance(models.model_ids, residual_covariance(errors, rbf_kernel(models.embedding)))


def embedder(autoencoder: Mapping[str, Any]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The encoder half of an autoencoder's checkpoint as a function of (K, 8192) vectors."""
    from thesis_rec.models.auto_encoder import embed_vectors

    return lambda vectors: embed_vectors(autoencoder, vectors)


def _own_models(
    manifest: pd.DataFrame, artefacts: Mapping[str, Any], responses: Mapping[str, NDArray[Any]] | None
) -> ModelTable:
    counts: dict[str, float] = {}
    for name in ("published_hardware_profiles", "hardware_profiles", "model_metadata"):
        table = artefacts.get(name)
        if table is not None and len(table):
            known = table.dropna(subset=["n_parameters"])
            counts |= dict(zip(known["model_id"].astype(str), known["n_parameters"].astype(float), strict=True))
    return model_table(artefacts["model_embeddings"], manifest, counts, responses)


def _own_tokens(datasets: pd.DataFrame, artefacts: Mapping[str, Any]) -> dict[str, TaskTokens]:
    from thesis_rec.images.manifest import base_rows, read_dataset_manifest
    from thesis_rec.images.tokens import load_task_tokens

    return load_task_tokens(artefacts["dataset_tokens"], base_rows(read_dataset_manifest(datasets)[0]))


def _profiles(artefacts: Mapping[str, Any]) -> tuple[pd.DataFrame, str]:
    """Hardware profiles of all sources, one's own last, and where they are from."""
    parts = {
        "own": artefacts.get("hardware_profiles"),
        "starter": artefacts.get("published_hardware_profiles"),
    }
    present = {name: table for name, table in parts.items() if table is not None and len(table)}
    if not present:
        from thesis_rec.hardware.profiling import COLUMNS

        return pd.DataFrame(columns=COLUMNS), "none"
    joined = pd.concat([present[name] for name in ("starter", "own") if name in present], ignore_index=True)
    key = ["model_id", "device", "precision", "batch_size"]
    return joined.drop_duplicates(key, keep="last", ignore_index=True), " and ".join(sorted(present))
