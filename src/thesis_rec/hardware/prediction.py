"""Figures of models that were never measured on a device, with the side on which a budget is safe.

The logarithm of a figure is a ridge regression on the logarithms of what can be counted without a clock (parameters,
multiply-accumulates, activations, operations), on top of the model's figures in other contexts (device and precision)
where it has some. Models of a new architecture family are the hard case: everything is judged leave-one-family-out.

The margin on the safe side is the split-conformal quantile (Vovk et al., "Algorithmic Learning in a Random World",
2005) of the errors on families that were left out. Choosing among predictions concentrates their errors, and yet
choices below a limit break it in .000 to .005 of the cases on the embedded zoo (``benchmarks/hardware.py``) and in .001
to .020 on real models (``benchmarks/hub_hardware.py``). A margin that was raised until simulated choices kept the
limits, and covered most models of every family, kept .000 to .005 and .001 to .013; what fitted it cost a regret of
.105 on an H200 where this one costs .070. Choosing among subsets of the features and among penalties gave median errors
of .21 to .27 where all of them and this penalty give .20 to .26.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.tables import Floats
from thesis_rec.hardware.contexts import CONTEXT_COLUMNS, COUNTS, MIB, WEIGHT_BYTES, context_tables
from thesis_rec.hardware.device_models import FEATURES, device_model, outside
from thesis_rec.hardware.fingerprint import FACTOR, MEASURED_RATES, POWER

#: Ridge penalty, relative to the number of models.
PENALTY = 1e-2

#: Share of left-out models that the safe side may not cover.
ALPHA = 0.05


def fit_log_figure(x: Floats, target: Floats, families: NDArray[np.object_]) -> tuple[Floats, float, float]:
    """Fit the regression of one figure.

    Args:
        x: (n, F) what it is told from, and ones in the last column.
        target: (n,) log figures.
        families: (n,) architecture families; with fewer than three, folds of models take their place.

    Returns:
        (F,) coefficients; the logarithm that is added for the safe side; and the root mean square of held-out errors.
    """
    groups, errors = fold_groups(families), np.empty(len(target))
    for group in np.unique(groups):
        out = groups == group
        errors[out] = target[out] - x[out] @ _ridge(x[~out], target[~out])
    return _ridge(x, target), safe_margin(errors), float(np.sqrt(np.mean(np.square(errors))))


def _ridge(x: Floats, target: Floats) -> Floats:
    """Coefficients of standardised columns, but for the last one, which is the constant."""
    mean, scale = x[:, :-1].mean(axis=0), x[:, :-1].std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    z = (x[:, :-1] - mean) / scale
    system = z.T @ z + PENALTY * len(z) * np.eye(z.shape[1])
    weights = np.linalg.solve(system, z.T @ (target - target.mean())) / scale
    return np.append(weights, target.mean() - mean @ weights)


def fold_groups(families: NDArray[np.object_]) -> NDArray[np.int64]:
    """Groups to leave out: families, or ten folds of models where there are fewer than three families."""
    codes = np.unique(families.astype(str), return_inverse=True)[1].astype(np.int64)
    if codes.max(initial=0) >= 2:
        return codes
    return np.arange(len(families)) % min(10, len(families))


def safe_margin(errors: Floats) -> float:
    """Logarithm to add to predictions so that figures lie below with a probability of ``1 - ALPHA``; at least 0.

    Args:
        errors: (n,) log figures less held-out log predictions.
    """
    rank = min(math.ceil((len(errors) + 1) * (1 - ALPHA)), len(errors))
    return max(float(np.sort(errors)[rank - 1]), 0.0)


#: Device and precision.
Context = tuple[str, str]

#: (M,) logarithms of a figure, NaN where nothing tells it, and their margins to both sides.
Prediction = tuple[Floats, Floats]

#: Measured models that a regression needs; below that, figures of the closest context are used with a wide margin.
ENOUGH = 8

#: Margin where a context was hardly ever measured: devices of one kind differ by no more than this factor, usually.
UNKNOWN_CONTEXT_FACTOR = 4.0
#: The same of memory at one precision, which is weights and intermediate results wherever they are: of 617 models of
#: the hub on an H200 and on a CPU 99 % differ by at most 1.18, of the embedded zoo's, which hold next to nothing, 95 %
#: by at most 1.37.
UNKNOWN_MEMORY_FACTOR = 1.5


def figures(
    profiles: pd.DataFrame,
    models: pd.DataFrame,
    device: str,
    precision: str = "fp32",
    batch_size: int = 1,
    rate: float | None = None,
) -> pd.DataFrame:
    """What each model costs on a device: measured where it was, otherwise predicted.

    Args:
        profiles: ``hardware_profiles``, of any devices.
        models: One row per model with ``model_id`` and ``family``, and ``n_parameters`` where known.
        device: Device identifier as in ``profiles``.
        precision: Precision of the call.
        batch_size: Images in the call.
        rate: :func:`~thesis_rec.hardware.fingerprint.processor_rate` of the device, None where it isn't known. A
            processor that was hardly ever measured is as much faster than measured ones as its rate tells.

    Returns:
        One row per model, in their order: ``model_id``, ``latency_ms``, ``latency_ms_low``, ``latency_ms_safe``,
        ``throughput``, ``throughput_safe``, ``memory_mb``, ``memory_mb_safe``, ``n_parameters``, ``macs`` and ``basis``
        (``measured``, ``interpolated`` from other batch sizes, ``predicted``, or ``unknown``). ``_low`` and ``_safe``
        enclose the figure; ``throughput_safe`` is its lower end.
    """
    found = models[["model_id"]].astype(str).reset_index(drop=True)
    # By number: comparing thousands of names takes longer than predicting.
    rows, ids = {name: row for row, name in enumerate(found["model_id"])}, found.index
    given = models.reindex(columns=list(COUNTS)).apply(pd.to_numeric, errors="coerce").astype(float).set_axis(ids)
    # Published tables lack counts.
    profiles = profiles.reindex(columns=list(dict.fromkeys([*profiles, *COUNTS])))
    own = profiles.assign(model_id=profiles["model_id"].map(rows)).dropna(subset="model_id")
    own = _with_own_weights(own, given["n_parameters"])
    # Of any row, else as the manifest has them.
    counts = own.groupby("model_id")[list(COUNTS)].first().reindex(ids).astype(float).fillna(given)
    found[["n_parameters", "macs"]] = counts[["n_parameters", "macs"]]
    tables = {key: table.reindex(ids) for key, table in context_tables(own, batch_size).items()}
    here = tables.pop((device, precision), pd.DataFrame(index=ids, columns=CONTEXT_COLUMNS))
    features = np.log(np.maximum(counts[list(COUNTS)].to_numpy(float), 1e-6))
    families = models["family"].to_numpy(object) if "family" in models else np.full(len(ids), "", dtype=object)

    def predicted(column: str, factor: float, rate: float | None) -> Prediction:
        counted = _Counted(features, families, of_weights=column == "peak_memory_mb")
        value = here[column].to_numpy(float)
        others = {key: table[column].to_numpy(float) for key, table in tables.items()}
        if (value > 0).sum() >= ENOUGH:
            return counted.from_context(value, [*others.values()])
        return counted.from_closest(value, others, (device, precision), factor, rate)

    time = predicted("latency_ms_p50", UNKNOWN_CONTEXT_FACTOR, rate)
    if model := device_model(device, precision, batch_size):
        time = _first_of(model.predict(counts[list(FEATURES)].to_numpy(float), batch_size), time)
    least_ms = counts["macs"].to_numpy(float) * batch_size / _best_rate(profiles, device, precision, rate)
    least_mb = counts["n_parameters"].to_numpy(float) * WEIGHT_BYTES.get(precision, 4) / MIB
    latency = _estimate(here, "latency_ms_p50", time, least_ms)
    memory = _estimate(here, "peak_memory_mb", predicted("peak_memory_mb", UNKNOWN_MEMORY_FACTOR, None), least_mb)
    for name, figure in (("latency_ms", latency), ("memory_mb", memory)):
        found[[name, f"{name}_low", f"{name}_safe"]] = figure[["value", "low", "safe"]]
    found["basis"] = latency["basis"]
    found["throughput"] = 1000.0 * batch_size / found["latency_ms"]
    found["throughput_safe"] = 1000.0 * batch_size / found["latency_ms_safe"]
    return found


def _with_own_weights(profiles: pd.DataFrame, counts: pd.Series) -> pd.DataFrame:
    """Profiles whose memory holds as many weights as the model has.

    An architecture is measured once for all its checkpoints; one whose classifier knows 21,000 classes is 60 MiB larger
    than one that knows 1000.
    """
    weights = profiles["model_id"].map(counts).fillna(profiles["n_parameters"]).astype(float)
    more = (weights - profiles["n_parameters"]) * profiles["precision"].map(WEIGHT_BYTES).astype(float).fillna(4) / MIB
    memory = profiles["peak_memory_mb"] + more.fillna(0.0)
    return profiles.assign(n_parameters=weights, peak_memory_mb=memory)


def _estimate(own: pd.DataFrame, column: str, told: Prediction, floor: Floats) -> pd.DataFrame:
    """A figure of (M,) models, both ends and where it is from: measured, else predicted.

    No prediction lies below what physics allows; measurements stay, and so does what is unknown.

    Args:
        own: Figures in the very context, as :func:`~thesis_rec.hardware.contexts.context_tables` has them.
        column: Which figure.
        told: What is predicted.
        floor: (M,) least that is possible, NaN where unknown.
    """
    measured, exact = own[column].notna().to_numpy(), own["exact"].eq(True).to_numpy()
    known, (log_value, margin) = own[[column, column, f"{column}_safe"]].to_numpy(float).T, told
    value, low, safe = np.where(measured, known, np.exp([log_value, log_value - margin, log_value + margin]))
    origins = [measured & exact, measured, np.isfinite(log_value)]
    basis = np.select(origins, ["measured", "interpolated", "predicted"], "unknown")
    raised = np.isin(basis, ("predicted", "interpolated")) & np.isfinite(floor)
    # What was predicted too low is no better known at its floor.
    apart = safe / value
    value, low = (np.where(raised, np.maximum(figure, floor), figure) for figure in (value, low))
    return pd.DataFrame({"value": value, "low": low, "safe": np.where(raised, value * apart, safe), "basis": basis})


def _first_of(one: Prediction, other: Prediction) -> Prediction:
    """One prediction where it has a figure, the other where it hasn't."""
    known = np.isfinite(one[0])
    return np.where(known, one[0], other[0]), np.where(known, one[1], other[1])


class _Counted(NamedTuple):
    """What a figure of (M,) models is predicted from, besides figures that were measured.

    Attributes:
        features: (M, F) log counts.
        families: (M,) architecture families.
        of_weights: Whether the figure is largely that of the weights, so that their number tells it beyond what was
            measured, too.
    """

    features: Floats
    families: NDArray[np.object_]
    of_weights: bool

    def from_context(self, value: Floats, others: Sequence[Floats]) -> Prediction:
        """Regressions on the models with a figure tell those without one, the best-informed first.

        Args:
            value: (M,) figures in a context.
            others: (M,) figures in each of some others.
        """
        known = value > 0
        log_value = np.log(np.where(known, value, np.nan))
        found, margin = np.full((2, len(value)), np.nan)
        usable = tuple(int(i) for i in np.flatnonzero(np.isfinite(self.features[known]).mean(axis=0) > 0.9))
        # Other contexts with the most models in common first; then the counts alone; then those that a manifest tells.
        by_overlap = sorted(others, key=lambda other: -int((known & (other > 0)).sum()))
        plans: list[tuple[Floats | None, tuple[int, ...]]] = [(other, usable) for other in by_overlap]
        for other, columns in [*plans, (None, usable), (None, (0, 1)), (None, (0,))]:
            offset = np.zeros(len(value)) if other is None else np.log(np.where(other > 0, other, np.nan))
            # The figure elsewhere is a feature as well: its slope is 1 plus a weight that is shrunk to 0.
            used = self.features[:, columns]
            x = np.column_stack([used, offset, np.ones(len(value))])
            complete = np.isfinite(x).all(axis=1)
            train, new = known & complete, np.isnan(value) & np.isnan(found) & complete
            if train.sum() < ENOUGH or not new.any():
                continue
            # Beyond what was measured nobody checked the regression: the interval grows with the distance.
            beyond = outside(used, used[train].min(axis=0), used[train].max(axis=0))
            if columns == (0,) and not self.of_weights:
                # Weights alone hardly tell a time: of a network a hundred times as large, less than nothing.
                new &= beyond == 0
            weights, safe, spread = fit_log_figure(x[train], (log_value - offset)[train], self.families[train])
            found[new] = offset[new] + x[new] @ weights
            margin[new] = safe + max(safe, spread) * beyond[new]
        return found, margin

    def from_closest(
        self, value: Floats, others: Mapping[Context, Floats], target: Context, factor: float, rate: float | None
    ) -> Prediction:
        """The context that is most like the target tells, shifted by the few models measured in this one, if any.

        Args:
            value: (M,) figures in the target.
            others: (M,) figures in each other context.
            target: Device and precision.
            factor: How far apart contexts of one precision are at most.
            rate: Of a processor: those whose rate is known are apart by what both rates tell.
        """
        found: Prediction = np.full(len(value), np.nan), np.full(len(value), np.nan)
        for key in sorted(others, key=lambda key: (-_likeness(key, target), key)):
            there = others[key]
            common = (value > 0) & (there > 0)
            # Weights of another precision have another size.
            margin, shift = factor if key[1] == target[1] else UNKNOWN_CONTEXT_FACTOR, 0.0
            if rate and key[1] == target[1] and key[0] in MEASURED_RATES:
                margin, shift = FACTOR, POWER * math.log(MEASURED_RATES[key[0]] / rate)
            if common.any():
                shift = float(np.median(np.log(value[common] / there[common])))
            told: Prediction = np.log(np.where(there > 0, there, np.nan)), np.zeros(len(there))
            if (there > 0).sum() >= ENOUGH:
                # One that wasn't measured there either is as uncertain as its prediction there, and this.
                told = _first_of(told, self.from_context(there, []))
            apart = math.log(margin) / math.sqrt(1 + common.sum())
            found = _first_of(found, (told[0] + shift, np.hypot(apart, told[1])))
        return found


def _best_rate(profiles: pd.DataFrame, device: str, precision: str, processor: float | None) -> float:
    """Most multiply-accumulates in a millisecond that any call reached: on the device, else on any of its kind.

    Of a processor whose rate of matrix products is known, that of others is brought to it where theirs is known too.
    """
    rate = profiles["macs"] * profiles["batch_size"] / profiles["latency_ms_p50"]
    same = (profiles["device"] == device) & (profiles["precision"] == precision)
    kind = profiles["device"].astype(str).str.startswith(device.split("_", maxsplit=1)[0])
    # The best of a few says little of what the device can do.
    if rate[same].count() >= ENOUGH:
        best = rate[same].max()
    else:
        scale = profiles["device"].map(MEASURED_RATES).astype(float).rdiv(processor or np.nan).fillna(1.0)
        best = (rate * scale)[kind].max()
    return float(best) if best > 0 else math.inf


def _likeness(context: tuple[str, str], target: tuple[str, str]) -> int:
    same_kind = context[0].split("_")[0] == target[0].split("_")[0]
    return 4 * (context[0] == target[0]) + 2 * same_kind + (context[1] == target[1])
