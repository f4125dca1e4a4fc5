"""Nodes of the pipeline recommendation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from thesis_rec.images.encoders.image_encoder import EncoderConfig
from thesis_rec.recommendation.request import Request


class RecommendationParameters(Request):
    """What ``conf/base/parameters/recommendation.yml`` holds: a request, and where its images and artefacts are."""

    encoder: EncoderConfig
    models_root: str = Field(min_length=1)
    hub_cache: str = Field(min_length=1)
    zoo: str = "starter"
    images: str | None = None
    dataset: str | None = None

    @property
    def request(self) -> Request:
        """The request alone."""
        return Request(**{name: getattr(self, name) for name in Request.model_fields})


def collect_artefacts(**made: Any) -> dict[str, Any]:
    """What this run has made, by name; nothing that was stored before counts."""
    return {**made, "stored": None}


def assemble_bundle(
    model_manifest: pd.DataFrame,
    dataset_manifest: pd.DataFrame,
    recommendation_artefacts: dict[str, Any],
    parameters: RecommendationParameters,
) -> Any:
    """Join manifests and artefacts to the bundle that a recommendation reads."""
    from thesis_rec.recommendation.bundle import assemble

    bundle = assemble(model_manifest, dataset_manifest, recommendation_artefacts, parameters.zoo)
    encoder, root = parameters.encoder.model_dump(), Path(parameters.models_root).expanduser()
    return replace(bundle, encoder=encoder, models_root=root, hub_cache=parameters.hub_cache)


def recommend_models(
    recommendation_bundle: Any, parameters: RecommendationParameters
) -> tuple[pd.DataFrame, dict[str, Any], str]:
    """Answer one request.

    Returns:
        The ranked models, the answer as a document, and the report as an HTML page.
    """
    from thesis_rec.recommendation.asking import recommend_images, recommend_known
    from thesis_rec.recommendation.report import render_report

    if parameters.images is None:
        found = recommend_known(parameters.dataset, recommendation_bundle, parameters.request)
    else:
        found = recommend_images(parameters.images, recommendation_bundle, parameters.request)
    return found.table, found.to_dict(), render_report(found)
