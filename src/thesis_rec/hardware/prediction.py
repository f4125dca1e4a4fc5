"""Figures of models that were never measured on a device, with the side on which a budget is safe.

The logarithm of a figure is a ridge regression on the logarithms of what can be counted without a clock (parameters,
multiply-accumulates, activations, operations), on top of the model's figures in other contexts (device and precision)
where it has some. Models of a new architecture family are the hard case: everything is judged leave-one-family-out.

Choosing among predictions concentrates their errors: whoever takes the best model below a limit takes those whose cost
was underestimated. The safe side is therefore calibrated on the choice itself: the margin is raised until choices
among held-out families break at most ``alpha`` of the budgets, in the manner of conformal risk control (Angelopoulos et
al., ICLR 2024), and is never below the split-conformal quantile (Vovk et al., 2005).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

#: What can be counted without a clock; ``n_operations`` and ``activation_mb`` are absent from published tables.
COUNTS = ("n_parameters", "macs", "activation_mb", "n_operations")

#: Measured models that a regression needs; below that, figures of the closest context are used with a wide margin.
ENOUGH = 8

#: Margin where a context was hardly ever measured: devices of one kind differ by no more than this factor, usually.
UNKNOWN_CONTEXT_FACTOR = 4.0

#: A machine is never quite as quiet again: measured latencies have this margin against a limit.
REPEATABILITY = 1.05

#: Ridge penalties that are tried, relative to the number of models.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)

#: Budgets that choices are simulated at, as quantiles of the measured figures.
BUDGET_QUANTILES = tuple(np.round(np.arange(0.1, 0.95, 0.05), 2))

#: Share of each family's models that the safe side covers at least.
FAMILY_QUANTILE = 0.75

#: Models that a simulated choice takes.
CHOSEN = 5

FIGURES = {"latency_ms": "latency_ms_p50", "memory_mb": "peak_memory_mb"}


@dataclass(frozen=True)
class Fit:
    """A fitted regression of log figures.

    Attributes:
        columns: Positions of the features that are used; F is the figure in the other context.
        mean: (K,) of the used features.
        scale: (K,) of the used features.
        weights: (K,) of the standardised features.
        intercept: Of the target.
        held_out: (n,) leave-one-family-out predictions for the models that it was fitted on.
        margin: Logarithm that is added for the safe side.
        spread: Standard deviation of the held-out errors.
    """

    columns: tuple[int, ...]
    mean: Floats
    scale: Floats
    weights: Floats
    intercept: float
    held_out: Floats
    margin: float
    spread: float

    def predict(self, features: Floats, offset: Floats) -> Floats:
        """Log figures of (M, F) features, all columns, and (M,) log figures in another context, or zeros."""
        z = (np.column_stack([features, offset])[:, self.columns] - self.mean) / self.scale
        return offset + self.intercept + z @ self.weights


def figures(
    profiles: pd.DataFrame,
    models: pd.DataFrame,
    device: str,
    precision: str = "fp32",
    batch_size: int = 1,
    *,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """What each model costs on a device: measured where it was, otherwise predicted.

    Args:
        profiles: ``hardware_profiles``, of any devices.
        models: One row per model with ``model_id`` and ``family``, and ``n_parameters`` where known.
        device: Device identifier as in ``profiles``.
        precision: Precision of the call.
        batch_size: Images in the call.
        alpha: Share of budgets that choices on the safe side may break.

    Returns:
        One row per model, in their order: ``model_id``, ``latency_ms``, ``latency_ms_low``, ``latency_ms_safe``,
        ``throughput``, ``throughput_safe``, ``memory_mb``, ``memory_mb_safe``, ``n_parameters``, ``macs`` and ``basis``
        (``measured``, ``interpolated`` between batch sizes, ``predicted``, or ``unknown``). ``_low`` and ``_safe``
        enclose the figure; ``throughput_safe`` is its lower end.
    """
    ids = models["model_id"].astype(str).tolist()
    counts = count_table(profiles, models)
    found = counts[["n_parameters", "macs"]].assign(model_id=ids)
    contexts = context_tables(profiles, batch_size)
    features = np.log(np.maximum(counts[list(COUNTS)].to_numpy(float), 1e-6))
    families = models["family"].to_numpy(object) if "family" in models else np.full(len(ids), "", dtype=object)
    target = device, precision
    for name, column in FIGURES.items():
        others = {key: table[column].reindex(ids).to_numpy(float) for key, table in contexts.items() if key != target}
        estimate = _estimate(contexts, column, ids, target, _Known(features, others, families, alpha))
        found[name], found[f"{name}_low"], found[f"{name}_safe"] = estimate.value, estimate.low, estimate.safe
        if name == "latency_ms":
            found["basis"] = estimate.basis
    found["throughput"] = 1000.0 * batch_size / found["latency_ms"]
    found["throughput_safe"] = 1000.0 * batch_size / found["latency_ms_safe"]
    return found


def count_table(profiles: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """What is known without a clock of each of the (M,) models, from any row of ``profiles``; NaN where unknown.

    A number of parameters in ``models`` fills gaps.
    """
    ids = models["model_id"].astype(str)
    present = [name for name in COUNTS if name in profiles]
    first = profiles.groupby("model_id")[present].first() if len(profiles) else pd.DataFrame(columns=list(COUNTS))
    table = first.reindex(ids).reindex(columns=list(COUNTS)).astype(float).reset_index(drop=True)
    if "n_parameters" in models:
        given = pd.to_numeric(models["n_parameters"], errors="coerce").astype(float).reset_index(drop=True)
        table["n_parameters"] = table["n_parameters"].fillna(given)
    return table


def context_tables(profiles: pd.DataFrame, batch_size: int) -> dict[tuple[str, str], pd.DataFrame]:
    """Figures of every context at one batch size, by model.

    A batch size between measured ones is interpolated linearly, beyond them extrapolated linearly; the safe side is the
    next larger measured batch, or proportional growth.

    Returns:
        For each (device, precision): a table by ``model_id`` with ``latency_ms_p50``, ``peak_memory_mb``, their safe
        sides ``…_safe`` and ``exact``.
    """
    found: dict[tuple[str, str], pd.DataFrame] = {}
    for (device, precision), rows in profiles.groupby(["device", "precision"], sort=True):
        exact = rows[rows["batch_size"] == batch_size].drop_duplicates("model_id", keep="last").set_index("model_id")
        upper = exact.get("latency_ms_p50_high", exact["latency_ms_p50"]).fillna(exact["latency_ms_p50"])
        upper = upper.clip(lower=REPEATABILITY * exact["latency_ms_p50"])
        table = pd.DataFrame(
            {
                "latency_ms_p50": exact["latency_ms_p50"],
                "latency_ms_p50_safe": upper,
                "peak_memory_mb": exact["peak_memory_mb"],
                "peak_memory_mb_safe": exact["peak_memory_mb"],
                "exact": True,
            }
        )
        others = rows[~rows["model_id"].isin(exact.index)]
        made = [
            {"model_id": model_id, "exact": False}
            | _at_batch(group, batch_size, "latency_ms_p50")
            | _at_batch(group, batch_size, "peak_memory_mb")
            for model_id, group in others.groupby("model_id")
        ]
        if made:
            table = pd.concat([table, pd.DataFrame(made).set_index("model_id")])
        found[str(device), str(precision)] = table
    return found


def _at_batch(rows: pd.DataFrame, batch_size: int, column: str) -> dict[str, float]:
    known = rows.dropna(subset=[column]).drop_duplicates("batch_size", keep="last").sort_values("batch_size")
    sizes, values = known["batch_size"].to_numpy(float), known[column].to_numpy(float)
    if not len(sizes):
        return {column: math.nan, f"{column}_safe": math.nan}
    larger = values[sizes >= batch_size]
    proportional = values[-1] * max(batch_size / sizes[-1], 1.0)
    safe = float(larger.max()) if len(larger) else float(proportional)
    if len(sizes) == 1:
        return {column: float(proportional), f"{column}_safe": safe}
    right = int(np.clip(np.searchsorted(sizes, batch_size), 1, len(sizes) - 1))
    slope = (values[right] - values[right - 1]) / (sizes[right] - sizes[right - 1])
    line = values[right - 1] + slope * (batch_size - sizes[right - 1])
    value = float(max(line, 0.05 * values.min()))
    return {column: value, f"{column}_safe": max(safe, value)}


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

    def fill(self, rows: NDArray[np.bool_], log_value: Floats, margin: float) -> None:
        self.value[rows] = np.exp(log_value)
        self.low[rows], self.safe[rows] = np.exp(log_value - margin), np.exp(log_value + margin)
        self.basis[rows] = "predicted"


@dataclass(frozen=True)
class _Known:
    """What predictions are made from: (M, F) log counts, (M,) figures in other contexts and (M,) families."""

    features: Floats
    others: dict[tuple[str, str], Floats]
    families: NDArray[np.object_]
    alpha: float


def _estimate(
    contexts: dict[tuple[str, str], pd.DataFrame],
    column: str,
    ids: Sequence[str],
    target: tuple[str, str],
    given: _Known,
) -> _Estimate:
    """One figure of all models in the target context."""
    found = _Estimate.empty(len(ids))
    own = contexts.get(target)
    if own is not None:
        rows = own.reindex(list(ids))
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


def _predict_from_context(found: _Estimate, known: NDArray[np.bool_], given: _Known) -> None:
    """Fill the unmeasured models by regressions on the measured ones, the best-informed regression first."""
    log_value = np.log(np.where(known, found.value, np.nan))
    left = np.isnan(found.value)
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
        fit = fit_log_figure(
            given.features[train],
            log_value[train],
            offset[train],
            given.families[train],
            columns=columns,
            alpha=given.alpha,
        )
        found.fill(new, fit.predict(given.features[new], offset[new]), fit.margin)
        left &= ~new


def _predict_from_closest(found: _Estimate, known: NDArray[np.bool_], target: tuple[str, str], given: _Known) -> None:
    """Fill from the context that is most like the target, shifted by the few models measured there, if any."""
    left = np.isnan(found.value)
    for key in sorted(given.others, key=lambda key: (-_likeness(key, target), key)):
        there = _Estimate.empty(len(left))
        there.value = given.others[key].copy()
        measured = there.value > 0
        if measured.sum() >= ENOUGH:
            _predict_from_context(there, measured, replace(given, others={}))
        common = known & (there.value > 0)
        shift = float(np.median(np.log(found.value[common] / there.value[common]))) if common.any() else 0.0
        new = left & (there.value > 0)
        margin = math.log(UNKNOWN_CONTEXT_FACTOR) / math.sqrt(1 + common.sum())
        found.fill(new, np.log(there.value[new]) + shift, margin)
        left &= ~new


def _likeness(context: tuple[str, str], target: tuple[str, str]) -> int:
    same_kind = context[0].split("_")[0] == target[0].split("_")[0]
    return 4 * (context[0] == target[0]) + 2 * same_kind + (context[1] == target[1])


def fit_log_figure(
    features: Floats,
    log_value: Floats,
    offset: Floats,
    families: NDArray[np.object_],
    *,
    columns: tuple[int, ...],
    alpha: float = 0.05,
) -> Fit:
    """Fit the regression of one figure; features, penalty and margin are chosen leave-one-family-out.

    Args:
        features: (n, F) log counts.
        log_value: (n,) log figures.
        offset: (n,) log figures in another context, or 0.
        families: (n,) architecture families; with fewer than three, folds of models take their place.
        columns: Features that may be used.
        alpha: Share of budgets that choices on the safe side may break.
    """
    # The figure elsewhere is a feature as well: its slope is 1 plus a weight that is shrunk to 0.
    joined = np.column_stack([features, offset])
    usable = (*columns, features.shape[1]) if np.ptp(offset) > 0 else tuple(columns)
    groups = fold_groups(families)
    folds = [groups == group for group in np.unique(groups)]
    target = log_value - offset
    best: tuple[float, tuple[int, ...], float, Floats] | None = None
    # Few features, so that every subset can be tried: what helps within families may mislead between them.
    for size in range(len(usable) + 1):
        for subset in combinations(usable, size):
            x = joined[:, subset]
            for penalty in PENALTIES if subset else PENALTIES[:1]:
                held_out = np.empty(len(x))
                for test in folds:
                    mean, scale, weights, intercept = _ridge(x[~test], target[~test], penalty)
                    held_out[test] = offset[test] + intercept + (x[test] - mean) / scale @ weights
                error = float(np.sqrt(np.mean((log_value - held_out) ** 2)))
                if best is None or error < best[0] - 1e-9:
                    best = error, subset, penalty, held_out
    assert best is not None
    error, subset, penalty, held_out = best
    mean, scale, weights, intercept = _ridge(joined[:, subset], target, penalty)
    return Fit(
        subset, mean, scale, weights, intercept, held_out, safe_margin(held_out, log_value, alpha, groups), error
    )


def _ridge(x: Floats, y: Floats, penalty: float) -> tuple[Floats, Floats, Floats, float]:
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    z = (x - mean) / scale
    intercept = float(y.mean())
    system = z.T @ z + penalty * len(z) * np.eye(z.shape[1])
    return mean, scale, np.linalg.solve(system, z.T @ (y - intercept)), intercept


def fold_groups(families: NDArray[np.object_], folds: int = 10) -> NDArray[np.int64]:
    """Groups to leave out: families, or folds of models where there are fewer than three families."""
    codes = np.unique(families.astype(str), return_inverse=True)[1].astype(np.int64)
    if codes.max(initial=0) >= 2:
        return codes
    return np.arange(len(families)) % min(folds, len(families))


def safe_margin(
    predicted: Floats, actual: Floats, alpha: float = 0.05, groups: NDArray[np.int64] | None = None
) -> float:
    """Logarithm to add to predictions so that choices below a limit break it at most ``alpha`` of the time.

    The split-conformal quantile keeps single predictions honest. Choices are simulated on top of it: at each budget of
    ``BUDGET_QUANTILES``, the ``CHOSEN`` admitted models that come closest to it, by prediction and by the margin left
    (the worst a user who wants large models can do). The margin is the smallest from which on the share of broken
    budgets, with one imagined break more as conformal risk control asks for, stays at most ``alpha``.

    Args:
        predicted: (n,) held-out log predictions.
        actual: (n,) log figures.
        alpha: Allowed share.
        groups: (n,) families that were left out together. Errors of one family go together, so that a new family is
            the unit that may go wrong: the margin covers most models of every family.

    Returns:
        The margin; at least 0.
    """
    errors = np.sort(actual - predicted)
    n = len(errors)
    rank = min(math.ceil((n + 1) * (1 - alpha)), n)
    start = max(float(errors[rank - 1]), 0.0)
    if groups is not None:
        of_group = [np.quantile((actual - predicted)[groups == group], FAMILY_QUANTILE) for group in np.unique(groups)]
        start = max(start, float(max(of_group)))
    budgets = np.quantile(actual, BUDGET_QUANTILES)
    candidates = [start, *errors[errors > start]]
    margin = candidates[-1]
    # From above: the share isn't monotone in the margin, because the choice changes with it.
    for candidate in reversed(candidates):
        broken = chosen = 0
        for budget in budgets:
            admitted = np.flatnonzero(predicted + candidate <= budget)
            closest = admitted[np.argsort(-predicted[admitted], kind="stable")[:CHOSEN]]
            broken += int((actual[closest] > budget + 1e-12).sum())
            chosen += len(closest)
        if chosen and (broken + 1) / (chosen + 1) > alpha:
            break
        margin = candidate
    return float(max(margin, start))
