"""Which model for these images on this hardware: the recommendation as a pure function over a bundle of artefacts.

:func:`recommend_for` answers for tokens that are given; :func:`recommend_images` reads images first. Node, command line
and notebooks all call these; :func:`thesis_rec.recommend` is the door for Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.hardware.budget import Budget, closest_relaxations, feasible
from thesis_rec.hardware.pareto import pareto_front
from thesis_rec.recommendation.answer import COLUMNS, Options, Recommendation
from thesis_rec.recommendation.bundle import Bundle
from thesis_rec.recommendation.candidates import (
    Measure,
    confirmed,
    cost_figures,
    measured_here,
    ranked_candidates,
    resolve_device,
)
from thesis_rec.recommendation.neighbours import dataset_map, nearest_datasets, reasons
from thesis_rec.thesis.ranking_data import ModelTable, Prediction, TaskTokens

if TYPE_CHECKING:
    from thesis_rec.knowledge.active_probing import ProbeBudget
    from thesis_rec.recommendation.request import ProbeStep

__all__ = ["Options", "Recommendation", "recommend_for", "recommend_images", "recommend_known"]

Predict = Callable[[ModelTable, TaskTokens], Prediction]


def recommend_for(
    bundle: Bundle,
    tokens: TaskTokens,
    budget: Budget | None = None,
    options: Options | None = None,
    *,
    predict: Predict | None = None,
    measure: Measure | None = None,
    here: str = "",
) -> Recommendation:
    """Rank the models that fit a budget by their predicted performance on a dataset.

    Args:
        bundle: What is known.
        tokens: The dataset, (B, C, D).
        budget: Limits; none by default.
        options: How the answer is made.
        predict: Ranks models for tokens; the bundle's ranker by default.
        measure: Measures a model on the present device and gives its profile rows, None if it can't. Used for the best
            candidates when a limit needs a clock and the device is the present one.
        here: Identifier of the present device.

    Returns:
        The answer; its table is empty when nothing fits.

    Raises:
        ConfigurationError: If the dataset was encoded by another encoder than the known ones, the device is unknown,
            or the bundle has no models.
    """
    budget, options = budget or Budget(), options or Options()
    if not len(bundle.models):
        raise ConfigurationError("No model has an embedding. Run `kedro run --pipeline=model_extraction` first.")
    if bundle.encoder_id and tokens.encoder_id and tokens.encoder_id != bundle.encoder_id:
        raise ConfigurationError(
            f"The images were encoded by {tokens.encoder_id}, the known datasets by {bundle.encoder_id}. "
            "Run `kedro run --pipeline=dataset_features` and similarity_training with the present encoder."
        )
    device = resolve_device(budget.device, bundle.profiles, here)
    prediction = (predict or ranker_of(bundle))(bundle.models, tokens)
    table = ranked_candidates(bundle, prediction, options)
    nearest = nearest_datasets(tokens, bundle.tokens, bundle.datasets)
    profiles = bundle.profiles
    notes: list[str] = []
    if measure is not None and budget.needs_clock and device == here:
        profiles, notes = measured_here(table, profiles, device, budget=budget, options=options, measure=measure)
    table = table.merge(cost_figures(table, profiles, device, budget), on="model_id", how="left")
    keeps, limits = feasible(table, budget)
    relaxations = [] if keeps.any() else closest_relaxations(table, budget)
    excluded = pd.DataFrame({"model_id": table["model_id"][~keeps], "limits": limits[~keeps]}).reset_index(drop=True)
    chosen = table[keeps].reset_index(drop=True)
    chosen["rank"] = np.arange(1, len(chosen) + 1)
    chosen["on_pareto_front"] = pareto_front(chosen["latency_ms"], chosen["predicted_value"])
    chosen["reason"] = reasons(chosen["model_id"].tolist(), nearest.head(options.neighbours), bundle)
    chosen["probed_value"] = np.nan
    return Recommendation(
        dataset_id=tokens.dataset_id,
        table=chosen.reindex(columns=COLUMNS),
        excluded=excluded,
        relaxations=relaxations,
        nearest=nearest.head(options.neighbours).reset_index(drop=True),
        places=dataset_map(tokens, bundle.tokens, bundle.datasets),
        device=device,
        budget=budget,
        options=options,
        dataset={"classes": len(tokens.class_names), "images": tokens.n_images, "class_names": tokens.class_names},
        sources=dict(bundle.sources),
        notes=tuple(notes),
    )


def ranker_of(bundle: Bundle) -> Predict:
    """The bundle's trained ranker as a function."""
    from thesis_rec.knowledge.recommender import Recommender

    return Recommender.from_checkpoint(bundle.ranker, in_use=True).predict


def recommend_images(
    source: str | Path,
    bundle: Bundle,
    budget: Budget | None = None,
    options: Options | None = None,
    *,
    measure: bool = True,
    probes: ProbeBudget | None = None,
    on_probe: Callable[[ProbeStep], None] | None = None,
) -> Recommendation:
    """Recommend a model for a folder of labelled images or an NPZ file.

    Args:
        source: Folder ``class_name/*.png`` (or with ``train`` and ``test`` folders), or NPZ file.
        bundle: What is known.
        budget: Limits.
        options: How the answer is made.
        measure: Whether candidates are measured here when a limit needs a clock and the device is the present one.
        probes: If given, feasible candidates are really tried on the images until this budget is spent.
        on_probe: Called after each probe.

    Returns:
        The answer.

    Raises:
        ItemError: If the images can't be used.
        ConfigurationError: If the limits or the artefacts are unusable.
    """
    from thesis_rec.recommendation import request

    options = options or Options()
    asked = request.read_images(Path(source), bundle.encoder, options)
    device, here = request.present_device()
    found = recommend_for(
        bundle,
        asked.tokens,
        budget,
        options,
        measure=request.measurer(bundle, budget or Budget(), device) if measure else None,
        here=here,
    )
    dataset = found.dataset | {"images": asked.tokens.n_images + asked.n_held_out}
    found = replace(found, dataset=dataset, sample=asked.sample, notes=(*found.notes, *asked.notes))
    if probes is None or found.table.empty:
        return found
    found = request.sharpen(found, bundle, asked, probes, device=device, on_probe=on_probe)
    if measure and found.budget.needs_clock and found.device == here:
        # Probes have changed the order: what is on top now is measured as well.
        return confirmed(found, request.measurer(bundle, found.budget, device))
    return found


def recommend_known(
    dataset_id: str | None,
    bundle: Bundle,
    budget: Budget | None = None,
    options: Options | None = None,
    *,
    measure: bool = True,
) -> Recommendation:
    """Recommend for a dataset whose tokens are known, as if nothing had been measured on it.

    Its measurements neither give reasons nor appear on the map; the ranker may have been trained on it.

    Args:
        dataset_id: Which dataset; the bundle's last by default.
        bundle: What is known.
        budget: Limits.
        options: How the answer is made.
        measure: As for :func:`recommend_images`.

    Raises:
        ConfigurationError: If there is no such dataset.
    """
    from thesis_rec.recommendation import request

    name = dataset_id or next(reversed(bundle.tokens), "")
    if name not in bundle.tokens:
        some = ", ".join(list(bundle.tokens)[:5])
        raise ConfigurationError(f"There are no tokens of the dataset {name!r}; there are {some}.")
    others = {key: tokens for key, tokens in bundle.tokens.items() if key != name}
    unmeasured = bundle.performance[bundle.performance["dataset_id"] != name]
    known = replace(bundle, tokens=others, performance=unmeasured)
    device, here = request.present_device()
    measurer = request.measurer(bundle, budget or Budget(), device) if measure else None
    return recommend_for(known, bundle.tokens[name], budget, options, measure=measurer, here=here)
