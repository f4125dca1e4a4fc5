"""Nodes of the pipeline recommendation."""

from pathlib import Path
from typing import Any

import pandas as pd

from thesis_rec.pipelines.recommendation.parameters import RecommendationParameters


def collect_artefacts(
    knowledge: dict[str, Any],
    model_embeddings: pd.DataFrame,
    model_metadata: pd.DataFrame,
    dataset_tokens: dict[str, Any],
    *,
    performance: pd.DataFrame,
    hardware_profiles: pd.DataFrame,
    model_responses: dict[str, Any],
    model_spectra: dict[str, Any],
) -> dict[str, Any]:
    """The artefacts of this run, by name."""
    return {
        "knowledge": knowledge,
        "model_embeddings": model_embeddings,
        "model_metadata": model_metadata,
        "dataset_tokens": dataset_tokens,
        "performance": performance,
        "hardware_profiles": hardware_profiles,
        "model_responses": model_responses,
        "model_spectra": model_spectra,
        "stored": None,
    }


def assemble_bundle(
    model_manifest: pd.DataFrame,
    dataset_manifest: pd.DataFrame,
    artefacts: dict[str, Any],
    parameters: RecommendationParameters,
) -> Any:
    """Join manifests and artefacts to the bundle that a recommendation reads."""
    from thesis_rec.recommendation.bundle import assemble

    return assemble(
        model_manifest,
        dataset_manifest,
        artefacts,
        encoder=parameters.encoder.model_dump(),
        models_root=Path(parameters.models_root).expanduser(),
        hub_cache=parameters.hub_cache,
        zoo=parameters.zoo,
    )


def recommend_models(bundle: Any, parameters: RecommendationParameters) -> tuple[pd.DataFrame, dict[str, Any], str]:
    """Answer one request.

    Returns:
        The ranked models, the answer as a document, and the report as an HTML page.
    """
    from thesis_rec.recommendation.asking import recommend_images, recommend_known
    from thesis_rec.recommendation.report import render_report

    if parameters.images is None:
        found = recommend_known(parameters.dataset, bundle, parameters.request)
    else:
        found = recommend_images(parameters.images, bundle, parameters.request)
    return found.table, found.to_dict(), render_report(found)
