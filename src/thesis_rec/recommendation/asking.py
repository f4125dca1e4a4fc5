"""Which model for these images on this hardware: request → bundle → posterior → candidates → answer, never back up.

:func:`recommend_images` reads images and :func:`recommend_for` answers for a task that is given. Node, command line and
notebooks all call these; :func:`thesis_rec.recommend` is the door for Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.tables import TaskTokens
from thesis_rec.hardware.budget import closest_relaxations, feasible, pareto_front, unknown_figures, unknown_values
from thesis_rec.hardware.fingerprint import FACTOR, present_device
from thesis_rec.knowledge.knowledge import Knowledge
from thesis_rec.knowledge.posterior import SCORE, TARGET, Cell, Posterior, with_strangers
from thesis_rec.recommendation import candidates, trying
from thesis_rec.recommendation.answer import COLUMNS, Recommendation, load_line
from thesis_rec.recommendation.bundle import PROTOCOL, Bundle, PublishedBeliefs, under_protocol
from thesis_rec.recommendation.by_weights import told_by_weights, with_untrained
from thesis_rec.recommendation.neighbours import dataset_map, far_notes, nearest_datasets, reasons
from thesis_rec.recommendation.request import Request, read_images

__all__ = ["Recommendation", "Request", "believed", "recommend_for", "recommend_images", "recommend_known"]


def recommend_images(source: str | Path, bundle: Bundle, request: Request) -> Recommendation:
    """Recommend a model for a folder of labelled images or an NPZ file.

    Args:
        source: Folder ``class_name/*.png`` (or with ``train`` and ``test`` folders), or NPZ file.
        bundle: What is known.
        request: Limits, and how the answer is made.

    Returns:
        The answer.

    Raises:
        ItemError: If the images can't be used.
        ConfigurationError: If the limits or the artefacts are unusable.
    """
    if request.score is not None and request.protocol == "zero_shot":
        raise ConfigurationError("LogME says nothing of zero-shot accuracy: leave out --score or --protocol zero_shot.")
    bundle = under_protocol(bundle, request.protocol, request.domain)
    asked = read_images(Path(source), bundle.encoder if bundle.tokens else None, request)
    earlier, unread = trying.read_tries(bundle.tries, asked, bundle.weights_of)
    own, told_of_own = trying.measured_before(bundle, asked, earlier)
    # What was learned from the images' own cells is left out, as these count by themselves.
    name = min(trying.known_as(bundle, asked)[0], default=asked.tokens.dataset_id)
    posterior = believed(bundle, replace(asked.tokens, dataset_id=name), [*own, *earlier])
    device, here = present_device(request.runs_models)
    measure = trying.measurer(bundle, request, device)
    found = recommend_for(bundle, asked.tokens, request, posterior=posterior, measure=measure, here=here)
    told: list[str] = []
    if request.runs_models and len(found.table):
        posterior, told = trying.try_models(found, bundle, asked, posterior, device=device)
        # Tries change the order: what is on top then is measured as well.
        found = recommend_for(bundle, asked.tokens, request, posterior=posterior, measure=measure, here=here)
    # The source as it was given: from here the next command finds the images again.
    facts = {"images": asked.n_images, "read_as": list(asked.read_as), "source": str(source)}
    notes = (*found.notes, *told, *asked.notes, *told_of_own, *unread)
    return replace(found, dataset=found.dataset | facts, sample=asked.sample, notes=notes)


def recommend_for(
    bundle: Bundle,
    tokens: TaskTokens,
    request: Request,
    *,
    posterior: Posterior | None = None,
    measure: candidates.Measure | None = None,
    here: str = "",
    tried_is: str = "tried",
) -> Recommendation:
    """Rank the models that fit a budget by what is believed of them on a dataset.

    Args:
        bundle: What is known.
        tokens: The dataset, (B, C, D); with B = 0 its images were not looked at.
        request: Limits, and how the answer is made.
        posterior: What is believed; the bundle's own knowledge by default.
        measure: Measures a model on the present device and gives its profile rows, None if it can't. Used for the best
            candidates when a limit needs a clock and the device is the present one.
        here: Identifier of the present device.
        tried_is: What was done with the models of which a cell is given.

    Returns:
        The answer; its table is empty when nothing fits.

    Raises:
        ConfigurationError: If the device is unknown, or :func:`believed` raises it.
    """
    device = candidates.resolve_device(request.device, bundle.profiles, here)
    posterior = posterior or believed(bundle, tokens)
    table = candidates.ranked_candidates(posterior, bundle.manifest, bundle.models, request.level)
    table.loc[table["model_id"].isin(bundle.on_this_machine()), "download_mb"] = 0.0
    nearest = nearest_datasets(tokens, bundle.tokens, bundle.datasets)
    profiles = bundle.profiles
    notes: list[str] = []
    able = table["holds_text"] | (request.protocol != "zero_shot")
    rate = candidates.rate_here(device, profiles, request.precision) if device == here else None
    if measure is not None and request.needs_clock and device == here:
        profiles, notes = candidates.measured_here(table[able], profiles, device, request, measure, rate)
    # Of all models: a prediction learns from the cost of those that the protocol leaves out, too.
    table = candidates.with_costs(table, profiles, device, request, rate)
    table, unable = table[able].reset_index(drop=True), table[~able]
    of_time = request.max_latency_ms is not None or request.min_throughput is not None
    if rate and of_time and not (profiles["device"] == device).any():
        notes.append(
            f"This processor wasn't measured: times are told by its rate of matrix products ({rate:g} GFLOP/s), and "
            f"their safe side, up to {FACTOR:g} times as long, has to keep the limit. `--measure` "
            "measures the best candidates."
        )
    if not rate and (of_time or device != here):
        notes += candidates.told_by_another(device, profiles, request)
    notes += [*unknown_values(table, request), *unknown_figures(table, request)]
    if isinstance(bundle.knowledge, Knowledge):  # what was published is the same for any images
        notes += far_notes(nearest)
    if len(unable):
        notes.append(f"{len(unable)} models have no text encoder, which zero-shot needs: they were left out.")
    keeps, limits = feasible(table, request)
    relaxations = [] if keeps.any() else closest_relaxations(table, request)
    broken = pd.DataFrame({"model_id": table["model_id"][~keeps], "limits": limits[~keeps]})
    excluded = pd.concat([broken, unable[["model_id"]].assign(limits="protocol")], ignore_index=True)
    chosen = table[keeps].reset_index(drop=True)
    chosen["rank"] = np.arange(1, len(chosen) + 1)
    chosen["on_pareto_front"] = pareto_front(chosen["latency_ms"], chosen["predicted_value"])
    if device == here and request.max_memory_mb is None:
        notes += candidates.too_large(chosen, here)
    ids = chosen["model_id"].tolist()
    told, strange = told_by_weights(bundle.models, set(bundle.knowledge.model_ids))
    why = reasons(ids, nearest.head(request.neighbours), bundle, posterior.tried)
    chosen["reason"] = [" ".join([reason, *told.get(model, ())]) for model, reason in zip(ids, why, strict=True)]
    chosen["probed_value"] = chosen["model_id"].map(posterior.tried).astype(float)
    first = bundle.manifest[bundle.manifest["model_id"].isin(ids[:1])]
    return Recommendation(
        dataset_id=tokens.dataset_id,
        table=chosen.reindex(columns=COLUMNS),
        excluded=excluded,
        relaxations=relaxations,
        nearest=nearest.head(request.neighbours).reset_index(drop=True),
        places=dataset_map(tokens, bundle.tokens, bundle.datasets),
        device=device,
        options=request,
        dataset={"classes": len(tokens.class_names), "images": tokens.n_images, "class_names": tokens.class_names},
        rests_on=_rests_on(bundle.rests_on(bool(len(tokens.features))), request, posterior.cells, tried_is),
        load=load_line(first.iloc[0].to_dict(), bundle.models_root) if len(first) else "",
        zoo=bundle.zoo,
        sources=dict(bundle.sources),
        notes=(*bundle.notes, *notes, *strange),
    )


def recommend_known(dataset_id: str | None, bundle: Bundle, request: Request) -> Recommendation:
    """Recommend for a dataset whose tokens are known: what is believed of it without its cells, given its cells.

    Its measurements neither give reasons nor appear on the map.

    Args:
        dataset_id: Which dataset; the bundle's last by default.
        bundle: What is known.
        request: Limits, and how the answer is made.

    Raises:
        ConfigurationError: If there is no such dataset.
    """
    bundle = under_protocol(bundle, request.protocol, request.domain)
    name = dataset_id or next(reversed(bundle.tokens), "")
    if name not in bundle.tokens:
        some = ", ".join(list(bundle.tokens)[:5])
        raise ConfigurationError(f"There are no tokens of the dataset {name!r}; there are {some}.")
    others = {key: tokens for key, tokens in bundle.tokens.items() if key != name}
    measured = bundle.performance["dataset_id"] == name
    cells = trying.repeated_cells(bundle.performance[measured])
    known = replace(bundle, tokens=others, performance=bundle.performance[~measured])
    tokens = bundle.tokens[name]
    posterior = believed(known, tokens, cells)
    device, here = present_device(request.runs_models)
    measure = trying.measurer(bundle, request, device)
    done = "measured on this dataset"
    return recommend_for(known, tokens, request, posterior=posterior, measure=measure, here=here, tried_is=done)


def believed(bundle: Bundle, tokens: TaskTokens, cells: Iterable[Cell] = ()) -> Posterior:
    """What is believed of all models of a bundle on a dataset.

    Args:
        bundle: What is known.
        tokens: The dataset.
        cells: What was measured on it.

    Raises:
        ConfigurationError: If the dataset was encoded by another encoder than the known ones, or the bundle has no
            models.
    """
    if not len(bundle.models):
        raise ConfigurationError("No model has an embedding. Run `kedro run --pipelines=model_extraction` first.")
    if bundle.encoder_id and tokens.encoder_id and tokens.encoder_id != bundle.encoder_id:
        raise ConfigurationError(
            f"The images were encoded by {tokens.encoder_id}, the known datasets by {bundle.encoder_id}. "
            "Run `kedro run --pipelines=dataset_features` and similarity_training with the present encoder."
        )
    known, measured = bundle.knowledge, set(bundle.knowledge.model_ids)
    belief, protocol = known.posterior(bundle.models, tokens), TARGET
    if isinstance(known, PublishedBeliefs):
        protocol = trying.protocol_of_tries(known.protocol)
    else:
        of_another_size, otherwise = (np.isin(belief.model_ids, list(which)) for which in bundle.unlike_measured)
        belief = with_strangers(belief, otherwise & ~of_another_size, np.isin(belief.model_ids, list(measured)))
        belief = with_strangers(belief, of_another_size)
    belief = with_untrained(belief, bundle.models, measured)
    return belief.given(replace(cell, protocol=protocol) for cell in cells)


def _rests_on(known: str, request: Request, cells: Sequence[Cell], tried_is: str) -> str:
    """What the predictions rest on: a sentence on what is known before, and what was tried and scored."""
    scored = sum(cell.protocol == SCORE for cell in cells)
    tried = len({cell.model_id for cell in cells if cell.protocol != SCORE})
    how = ", by linear probes" if tried and request.protocol != PROTOCOL else ""
    text = f"{known} {tried} {'candidate was' if tried == 1 else 'candidates were'} {tried_is}{how}."
    return f"{text} {scored} were scored by LogME." if scored else text
