"""Candidates and their cost: ranked by prediction, measured on the present device where a limit needs a clock."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.devices import memory_mb
from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.tables import ModelTable
from thesis_rec.hardware.budget import Budget, feasible
from thesis_rec.hardware.device_models import device_model, device_models, published_of
from thesis_rec.hardware.fingerprint import MEASURED_RATES, processor_rate
from thesis_rec.hardware.prediction import ENOUGH, UNKNOWN_CONTEXT_FACTOR, figures
from thesis_rec.knowledge.posterior import Posterior
from thesis_rec.recommendation.request import Request

Measure = Callable[[str], "pd.DataFrame | None"]

#: Model types that transformers lists for zero-shot image classification. Importing its list imports torch, which takes
#: longer than all else of an answer.
IMAGE_TEXT_TYPES = frozenset({
    "align", "altclip", "blip", "blip-2", "chinese_clip", "clip", "clipseg", "metaclip_2", "siglip", "siglip2",
    "tipsv2", "videoprism",
})  # fmt: skip

_NOT_SPELLING = re.compile(r"[^a-z0-9]")


def resolve_device(name: str, profiles: pd.DataFrame, here: str = "") -> str:
    """The identifier of a device from a part of it.

    Args:
        name: ``here``, an identifier, or a part of exactly one in ``profiles``, such as ``h200``.
        profiles: ``hardware_profiles``.
        here: Identifier of the present device.

    Raises:
        ConfigurationError: If it fits no device or several.
    """
    known = sorted({*profiles["device"].astype(str), *(model.device for model in device_models())})
    if name in ("here", here) and here:
        return here
    if name in known:
        return name
    # However it is spaced: `RTX 4090`, `i9-10940X`.
    part = _NOT_SPELLING.sub("", name.lower())
    fitting = [device for device in known if part and part in _NOT_SPELLING.sub("", device.lower())]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(["here", *(fitting or known)])
    problem = "fits several devices" if fitting else "is no device that was measured"
    elsewhere = "" if fitting else " Of any other machine, ask there."
    raise ConfigurationError(f"The device {name!r} {problem}. Choose one of: {listed}.{elsewhere}")


def ranked_candidates(posterior: Posterior, manifest: pd.DataFrame, models: ModelTable, level: float) -> pd.DataFrame:
    """All models by falling expectation, with the interval of their predicted value and the manifest's facts.

    ``holds_text`` says which can tell classes by their names: open_clip's, and those that transformers lists.
    """
    low, high = posterior.interval(level)
    one = posterior.interval(0.6827)
    expected = posterior.value()
    table = pd.DataFrame(
        {
            "model_id": posterior.model_ids,
            "score": posterior.mean,
            "predicted_value": expected,
            "predicted_std": (one[1] - one[0]) / 2,
            # An improbable interval may lie beside the expectation of a skewed distribution.
            "value_low": np.minimum(low, expected),
            "value_high": np.maximum(high, expected),
        }
    )
    counts = dict(zip(models.model_ids, np.asarray(models.n_parameters, dtype=float), strict=True))
    # 0 is no number of weights: whoever's nobody counted keeps no limit on them.
    table["n_parameters"] = table["model_id"].map(counts).replace(0.0, np.nan)
    columns = ["licence", "family", "pretraining", "macs", "bytes", "loader", "source"]
    rows = manifest.drop_duplicates("model_id").set_index("model_id")
    facts = rows.reindex(index=table["model_id"], columns=columns).reset_index(drop=True)
    for name in ("licence", "family", "pretraining"):
        table[name] = facts[name].fillna("unknown").replace("", "unknown")
    table["macs"] = pd.to_numeric(facts["macs"], errors="coerce").astype(float)
    listed = facts["loader"].eq("transformers") & facts["family"].isin(IMAGE_TEXT_TYPES)
    table["holds_text"] = facts["loader"].eq("open_clip") | listed
    # Where nobody counted bytes the number of weights tells; an image-text model's is that of its image half: its file
    # is larger by who knows how much.
    counted = (4 * table["n_parameters"]).mask(table["holds_text"])
    size = pd.to_numeric(facts["bytes"], errors="coerce").fillna(counted) / 2**20
    table["download_mb"] = size.where(facts["source"].astype(str).str.startswith("hf-hub:"), 0.0)
    return table.sort_values(["score", "model_id"], ascending=[False, True], kind="stable").reset_index(drop=True)


def with_costs(
    table: pd.DataFrame, profiles: pd.DataFrame, device: str, budget: Budget, rate: float | None = None
) -> pd.DataFrame:
    """Candidates and what they cost on a device, as :func:`thesis_rec.hardware.prediction.figures` has it."""
    models = table[["model_id", "family", "n_parameters", "macs"]]
    found = figures(profiles, models, device, budget.precision, budget.batch_size, rate)
    # The number of parameters is the candidates' own; their operations may have been counted with the profile only.
    return table.drop(columns="macs").merge(found.drop(columns="n_parameters"), on="model_id", how="left")


def rate_here(device: str, profiles: pd.DataFrame, precision: str) -> float | None:
    """This machine's rate of matrix products, where it tells more than was measured of the device, its processor."""
    devices = profiles["device"]
    others = devices.isin(MEASURED_RATES) & (profiles["precision"] == precision)
    told = device.startswith("cpu_") and others.any() and (devices == device).sum() < ENOUGH
    return processor_rate(device) if told else None


def told_by_another(device: str, profiles: pd.DataFrame, budget: Budget) -> list[str]:
    """A note where nothing was measured or published of a device for calls as they are asked for."""
    measured = (profiles["device"] == device) & (profiles["precision"] == budget.precision)
    known = profiles.loc[measured, "model_id"].nunique() >= ENOUGH
    if known or profiles.empty or device_model(device, budget.precision, budget.batch_size):
        return []
    ways = [f"{way.precision} with {way.min_batch} images per call or more" for way in published_of(device)]
    there = f" Known of it is {' or '.join(ways)}." if ways else ""
    return [
        f"Hardly anything is known of {device} in {budget.precision}, {budget.batch_size} per call: its times are "
        f"those of the device most like it, and up to {UNKNOWN_CONTEXT_FACTOR:g} times as long has to keep a limit."
        f"{there}"
    ]


def too_large(table: pd.DataFrame, here: str) -> list[str]:
    """A note where the first model of a table needs more memory than the present machine has."""
    there = memory_mb(here.partition("_")[0])
    if there is None or table.empty or not table["memory_mb"].iloc[0] > there:
        return []
    large = int((table["memory_mb"] > there).sum())
    return [
        f"{large} of these models, the first one among them, need more memory than this machine's {there:.0f} MiB: "
        f"--max-memory-mb {there:.0f} leaves them out."
    ]


def measured_here(
    table: pd.DataFrame, profiles: pd.DataFrame, device: str, request: Request, measure: Measure, rate: float | None
) -> tuple[pd.DataFrame, list[str]]:
    """Measure candidates here, best first, until the best that keep the limits are all measured; and what to tell.

    Candidates that break a rule, or whose most favourable prediction breaks a limit, aren't measured; every measurement
    tells more of the others. When nothing fits, the cheapest are measured, so that the advice what to relax rests on
    measurements. The time for measuring begins after the first, which imports the libraries.
    """
    fitting, until, tried = set[str](), float("inf"), dict[str, bool]()
    rules = request.model_copy(update=dict.fromkeys(("max_latency_ms", "min_throughput", "max_memory_mb")))

    def allowed() -> pd.DataFrame:
        costs = with_costs(table, profiles, device, request, rate)
        return costs[feasible(costs, rules)[0]]

    def next_of(candidates: pd.DataFrame) -> str | None:
        left = ~candidates["model_id"].isin(tried)
        # Measuring one changes what is predicted of others: of those that are shown none is left to a prediction.
        better = candidates["model_id"].isin(fitting).cumsum() < request.top
        return next(iter(candidates.loc[left & better, "model_id"]), None)

    now = allowed()
    hopeful, cheapest = now[~_hopeless(now, request)], now.nsmallest(3, "latency_ms")
    while model_id := next_of(hopeful) or (None if fitting else next_of(cheapest)):
        if time.monotonic() >= until:
            break
        rows = measure(model_id)
        tried[model_id] = rows is not None
        until = min(until, time.monotonic() + request.measure_seconds)
        if rows is None:
            continue
        profiles = pd.concat([profiles, rows], ignore_index=True)
        one = table[table["model_id"] == model_id]
        if feasible(with_costs(one, rows, device, request), request)[0].all():
            fitting.add(model_id)
        now = allowed()
        hopeful = now[~_hopeless(now, request)]
    measured = sum(tried.values())
    counted = "1 candidate was" if measured == 1 else f"{measured} candidates were"
    notes = [f"{counted} measured on this machine."] if measured else []
    if model_id:
        notes.append("The time for measuring was up: further figures are predictions, on their safe side.")
    return profiles, notes


def _hopeless(table: pd.DataFrame, budget: Budget) -> NDArray[np.bool_]:
    """Models whose most favourable figures break a limit: not worth measuring."""
    best = table.assign(
        latency_ms_safe=table["latency_ms_low"],
        memory_mb_safe=table["memory_mb_low"],
        throughput_safe=1000.0 * budget.batch_size / table["latency_ms_low"],
    )
    # Unknown figures are no reason to give up.
    best = best.fillna({"latency_ms_safe": 0.0, "memory_mb_safe": 0.0, "throughput_safe": np.inf})
    return ~feasible(best, budget)[0]
