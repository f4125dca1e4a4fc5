"""Figures of models that were never measured on a device, with the side on which a budget is safe.

The logarithm of a figure is a ridge regression on the logarithms of what can be counted without a clock (parameters,
multiply-accumulates, activations, operations), on top of the model's figures in other contexts (device and precision)
where it has some. Models of a new architecture family are the hard case: everything is judged leave-one-family-out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.hardware.contexts import COUNTS, WEIGHT_BYTES, context_tables, count_table
from thesis_rec.hardware.counts import MIB
from thesis_rec.hardware.device_models import FEATURES, device_model, outside
from thesis_rec.hardware.regression import fit_log_figure

Floats = NDArray[np.float64]

#: Measured models that a regression needs; below that, figures of the closest context are used with a wide margin.
ENOUGH = 8

#: Margin where a context was hardly ever measured: devices of one kind differ by no more than this factor, usually.
UNKNOWN_CONTEXT_FACTOR = 4.0

FIGURES = {"latency_ms": "latency_ms_p50", "memory_mb": "peak_memory_mb"}


def figures(
    profiles: pd.DataFrame,
    models: pd.DataFrame,
    device: str,
    precision: str = "fp32",
    batch_size: int = 1,
) -> pd.DataFrame:
    """What each model costs on a device: measured where it was, otherwise predicted.

    Args:
        profiles: ``hardware_profiles``, of any devices.
        models: One row per model with ``model_id`` and ``family``, and ``n_parameters`` where known.
        device: Device identifier as in ``profiles``.
        precision: Precision of the call.
        batch_size: Images in the call.

    Returns:
        One row per model, in their order: ``model_id``, ``latency_ms``, ``latency_ms_low``, ``latency_ms_safe``,
        ``throughput``, ``throughput_safe``, ``memory_mb``, ``memory_mb_safe``, ``n_parameters``, ``macs`` and ``basis``
        (``measured``, ``interpolated`` from other batch sizes, ``predicted``, or ``unknown``). ``_low`` and ``_safe``
        enclose the figure; ``throughput_safe`` is its lower end.
    """
    found = models[["model_id"]].astype(str).reset_index(drop=True)
    # By number: comparing thousands of names takes longer than predicting.
    rows, ids = {name: row for row, name in enumerate(found["model_id"])}, found.index
    own = profiles.assign(model_id=profiles["model_id"].map(rows)).dropna(subset="model_id")
    counts = count_table(own, models.assign(model_id=ids))
    found[["n_parameters", "macs"]] = counts[["n_parameters", "macs"]]
    contexts = context_tables(own, batch_size)
    features = np.log(np.maximum(counts[list(COUNTS)].to_numpy(float), 1e-6))
    families = models["family"].to_numpy(object) if "family" in models else np.full(len(ids), "", dtype=object)
    target = device, precision
    for name, column in FIGURES.items():
        others = {key: table[column].reindex(ids).to_numpy(float) for key, table in contexts.items() if key != target}
        estimate = _estimate(contexts, column, ids, target, _Known(features, others, families))
        if name == "latency_ms":
            _predict_from_published(estimate, counts, target, batch_size)
            floor = counts["macs"].to_numpy(float) * batch_size / _best_rate(profiles, device, precision)
        else:
            floor = counts["n_parameters"].to_numpy(float) * WEIGHT_BYTES.get(precision, 4) / MIB
        estimate.raise_to(floor)
        found[name], found[f"{name}_low"], found[f"{name}_safe"] = estimate.value, estimate.low, estimate.safe
        if name == "latency_ms":
            found["basis"] = estimate.basis
    found["throughput"] = 1000.0 * batch_size / found["latency_ms"]
    found["throughput_safe"] = 1000.0 * batch_size / found["latency_ms_safe"]
    return found


@dataclass
class _Estimate:
    """One figure of (M,) models, with both ends and where it is from."""

    value: Floats
    low: Floats
    safe: Floats
    basis: NDArray[np.object_]

    @classmethod
    def empty(cls, size: int) -> _Estimate:
        value, low, safe = (np.full(size, np.nan) for _ in range(3))
        return cls(value, low, safe, np.full(size, "unknown", dtype=object))

    def raise_to(self, floor: Floats) -> None:
        """No prediction lies below what physics allows; measurements stay, and so does what is unknown."""
        rows = (self.basis == "predicted") & np.isfinite(floor)
        margin = self.safe[rows] / self.value[rows]
        for values in (self.value, self.low):
            values[rows] = np.maximum(values[rows], floor[rows])
        # What was predicted too low is no better known at its floor.
        self.safe[rows] = self.value[rows] * margin

    def fill(self, rows: NDArray[np.bool_], log_value: Floats, margin: float | Floats) -> None:
        self.value[rows] = np.exp(log_value)
        self.low[rows], self.safe[rows] = np.exp(log_value - margin), np.exp(log_value + margin)
        self.basis[rows] = "predicted"


@dataclass(frozen=True)
class _Known:
    """What predictions are made from: (M, F) log counts, (M,) figures in other contexts and (M,) families."""

    features: Floats
    others: dict[tuple[str, str], Floats]
    families: NDArray[np.object_]


def _estimate(
    contexts: dict[tuple[str, str], pd.DataFrame],
    column: str,
    ids: pd.Index,
    target: tuple[str, str],
    given: _Known,
) -> _Estimate:
    """One figure of all models in the target context."""
    found = _Estimate.empty(len(ids))
    own = contexts.get(target)
    if own is not None:
        rows = own.reindex(ids)
        measured = rows[column].notna().to_numpy()
        found.value[measured] = found.low[measured] = rows[column].to_numpy(float)[measured]
        found.safe[measured] = rows[f"{column}_safe"].to_numpy(float)[measured]
        exact = rows["exact"].eq(True).to_numpy()
        found.basis[measured] = np.where(exact[measured], "measured", "interpolated")
    known = found.value > 0
    if known.all():
        return found
    if known.sum() >= ENOUGH:
        _predict_from_context(found, known, given)
    else:
        _predict_from_closest(found, known, target, given)
    return found


def _predict_from_published(found: _Estimate, counts: pd.DataFrame, target: tuple[str, str], batch_size: int) -> None:
    """Replace predictions by those of the device's published figures, where there are some for such calls."""
    model = device_model(*target, batch_size)
    if model is None:
        return
    log_value, margin = model.predict(counts[list(FEATURES)].to_numpy(float))
    new = ~np.isin(found.basis, ("measured", "interpolated")) & np.isfinite(log_value)
    found.fill(new, (log_value + math.log(batch_size))[new], margin[new])


def _best_rate(profiles: pd.DataFrame, device: str, precision: str) -> float:
    """Most multiply-accumulates in a millisecond that any call reached: on the device, else on any of its kind."""
    if not {"macs", "batch_size", "latency_ms_p50"} <= set(profiles.columns) or profiles.empty:
        return math.inf
    rate = profiles["macs"] * profiles["batch_size"] / profiles["latency_ms_p50"]
    same = (profiles["device"] == device) & (profiles["precision"] == precision)
    kind = profiles["device"].astype(str).str.startswith(device.split("_", maxsplit=1)[0])
    # The best of a few says little of what the device can do.
    best = rate[same].max() if rate[same].count() >= ENOUGH else rate[kind].max()
    return float(best) if best > 0 else math.inf


def _predict_from_context(
    found: _Estimate, known: NDArray[np.bool_], given: _Known, wanted: NDArray[np.bool_] | None = None
) -> None:
    """Fill the unmeasured models, or the wanted of them, by regressions on measured ones, the best-informed first."""
    log_value = np.log(np.where(known, found.value, np.nan))
    left = np.isnan(found.value) if wanted is None else np.isnan(found.value) & wanted
    usable = tuple(int(i) for i in np.flatnonzero(np.isfinite(given.features[known]).mean(axis=0) > 0.9))
    # Other contexts with the most models in common first; then the counts alone; then parameters alone.
    by_overlap = sorted(given.others, key=lambda key: -int((known & (given.others[key] > 0)).sum()))
    plans: list[tuple[Floats | None, tuple[int, ...]]] = [(given.others[key], usable) for key in by_overlap]
    for other, columns in [*plans, (None, usable), (None, (0,))]:
        offset = np.zeros(len(left)) if other is None else np.log(np.where(other > 0, other, np.nan))
        complete = np.isfinite(given.features[:, columns]).all(axis=1) & np.isfinite(offset)
        train, new = known & complete, left & complete
        if train.sum() < ENOUGH or not new.any():
            continue
        fit = fit_log_figure(given.features[train], log_value[train], offset[train], given.families[train], columns)
        # Beyond what was measured nobody checked the regression: the interval grows with the distance.
        seen = given.features[train][:, columns]
        beyond = outside(given.features[new][:, columns], seen.min(axis=0), seen.max(axis=0))
        margin = fit.margin + max(fit.margin, fit.spread) * beyond
        found.fill(new, fit.predict(given.features[new], offset[new]), margin)
        left &= ~new


def _predict_from_closest(found: _Estimate, known: NDArray[np.bool_], target: tuple[str, str], given: _Known) -> None:
    """Fill from the context that is most like the target, shifted by the few models measured there, if any."""
    left = np.isnan(found.value)
    for key in sorted(given.others, key=lambda key: (-_likeness(key, target), key)):
        if not left.any():
            return
        there = _Estimate.empty(len(left))
        there.value = given.others[key].copy()
        measured = there.value > 0
        if measured.sum() >= ENOUGH:
            _predict_from_context(there, measured, replace(given, others={}), left)
        common = known & (there.value > 0)
        shift = float(np.median(np.log(found.value[common] / there.value[common]))) if common.any() else 0.0
        new = left & (there.value > 0)
        margin = math.log(UNKNOWN_CONTEXT_FACTOR) / math.sqrt(1 + common.sum())
        found.fill(new, np.log(there.value[new]) + shift, margin)
        left &= ~new


def _likeness(context: tuple[str, str], target: tuple[str, str]) -> int:
    same_kind = context[0].split("_")[0] == target[0].split("_")[0]
    return 4 * (context[0] == target[0]) + 2 * same_kind + (context[1] == target[1])
