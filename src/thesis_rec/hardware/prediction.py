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
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.tables import Floats
from thesis_rec.hardware.contexts import COUNTS, MIB, WEIGHT_BYTES, context_tables, count_table
from thesis_rec.hardware.device_models import FEATURES, DeviceModel, device_model, outside
from thesis_rec.hardware.fingerprint import FACTOR, MEASURED_RATES, POWER

#: Ridge penalty, relative to the number of models.
PENALTY = 1e-2

#: Share of left-out models that the safe side may not cover.
ALPHA = 0.05


class Fit(NamedTuple):
    """A fitted regression of log figures.

    Attributes:
        coefficients: (F + 2,) of the features, of the figure in another context, and the constant.
        margin: Logarithm that is added for the safe side.
        spread: Root mean square of the held-out errors.
    """

    coefficients: Floats
    margin: float
    spread: float

    def predict(self, features: Floats, offset: Floats) -> Floats:
        """Log figures of (M, F) features and (M,) log figures in another context, or zeros."""
        return offset + _columns(features, offset) @ self.coefficients


def _columns(features: Floats, offset: Floats) -> Floats:
    # The figure elsewhere is a feature as well: its slope is 1 plus a weight that is shrunk to 0.
    return np.column_stack([features, offset, np.ones(len(offset))])


def fit_log_figure(features: Floats, log_value: Floats, offset: Floats, families: NDArray[np.object_]) -> Fit:
    """Fit the regression of one figure.

    Args:
        features: (n, F) log counts.
        log_value: (n,) log figures.
        offset: (n,) log figures in another context, or 0.
        families: (n,) architecture families; with fewer than three, folds of models take their place.
    """
    x, target, groups = _columns(features, offset), log_value - offset, fold_groups(families)
    errors = np.empty(len(target))
    for group in np.unique(groups):
        out = groups == group
        errors[out] = target[out] - x[out] @ _ridge(x[~out], target[~out])
    return Fit(_ridge(x, target), safe_margin(errors), float(np.sqrt(np.mean(np.square(errors)))))


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
    own = profiles.assign(model_id=profiles["model_id"].map(rows)).dropna(subset="model_id")
    own = _with_own_weights(own, models.assign(model_id=ids))
    counts = count_table(own, models.assign(model_id=ids))
    found[["n_parameters", "macs"]] = counts[["n_parameters", "macs"]]
    contexts = context_tables(own, batch_size)
    features = np.log(np.maximum(counts[list(COUNTS)].to_numpy(float), 1e-6))
    families = models["family"].to_numpy(object) if "family" in models else np.full(len(ids), "", dtype=object)
    target = device, precision

    def estimated(column: str, unknown_factor: float, rate: float | None = None) -> _Estimate:
        others = {key: table[column].reindex(ids).to_numpy(float) for key, table in contexts.items() if key != target}
        estimate = _Estimate(features, families, others, of_weights=column == "peak_memory_mb")
        if target in contexts:
            estimate.measure(contexts[target].reindex(ids), column)
        estimate.predict(target, unknown_factor, rate)
        return estimate

    latency = estimated("latency_ms_p50", UNKNOWN_CONTEXT_FACTOR, rate)
    memory = estimated("peak_memory_mb", UNKNOWN_MEMORY_FACTOR)
    if (model := device_model(*target, batch_size)) is not None:
        latency.predict_from_published(model, counts[list(FEATURES)].to_numpy(float), batch_size)
    latency.raise_to(counts["macs"].to_numpy(float) * batch_size / _best_rate(profiles, device, precision, rate))
    memory.raise_to(counts["n_parameters"].to_numpy(float) * WEIGHT_BYTES.get(precision, 4) / MIB)
    for name, figure in (("latency_ms", latency), ("memory_mb", memory)):
        found[name], found[f"{name}_low"], found[f"{name}_safe"] = figure.value, figure.low, figure.safe
    found["basis"] = latency.basis
    found["throughput"] = 1000.0 * batch_size / found["latency_ms"]
    found["throughput_safe"] = 1000.0 * batch_size / found["latency_ms_safe"]
    return found


def _with_own_weights(profiles: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Profiles whose memory holds as many weights as the model has.

    An architecture is measured once for all its checkpoints; one whose classifier knows 21,000 classes is 60 MiB larger
    than one that knows 1000.
    """
    if profiles.empty or "n_parameters" not in profiles or "n_parameters" not in models:
        return profiles
    counts = pd.to_numeric(models.set_index("model_id")["n_parameters"], errors="coerce")
    weights = profiles["model_id"].map(counts).fillna(profiles["n_parameters"]).astype(float)
    more = (weights - profiles["n_parameters"]) * profiles["precision"].map(WEIGHT_BYTES).fillna(4) / MIB
    memory = profiles["peak_memory_mb"] + more.fillna(0.0)
    return profiles.assign(n_parameters=weights, peak_memory_mb=memory)


class _Estimate:
    """One figure of (M,) models with both ends and where it is from, and what predictions of it are made from.

    Args:
        features: (M, F) log counts.
        families: (M,) architecture families.
        others: (M,) figures in other contexts.
        of_weights: Whether the figure is largely that of the weights, so that their number tells it beyond what was
            measured, too.
    """

    def __init__(
        self,
        features: Floats,
        families: NDArray[np.object_],
        others: Mapping[Context, Floats],
        *,
        of_weights: bool = True,
    ) -> None:
        self.features, self.families, self.others, self.of_weights = features, families, others, of_weights
        self.value, self.low, self.safe = (np.full(len(features), np.nan) for _ in range(3))
        self.basis = np.full(len(features), "unknown", dtype=object)

    def measure(self, rows: pd.DataFrame, column: str) -> None:
        """Take what was measured: a table of :func:`~thesis_rec.hardware.contexts.context_tables`, a row per model."""
        measured = rows[column].notna().to_numpy()
        self.value[measured] = self.low[measured] = rows[column].to_numpy(float)[measured]
        self.safe[measured] = rows[f"{column}_safe"].to_numpy(float)[measured]
        exact = rows["exact"].eq(True).to_numpy()
        self.basis[measured] = np.where(exact[measured], "measured", "interpolated")

    def predict(self, target: Context, factor: float, rate: float | None) -> None:
        """Fill what wasn't measured, from what was in the target context or in others, ``factor`` apart at most.

        With a processor's ``rate``, others whose rate is known are apart by what both rates tell.
        """
        if (self.value > 0).sum() >= ENOUGH:
            self.predict_from_context(np.isnan(self.value))
        else:
            self.predict_from_closest(target, factor, rate)

    def fill(self, rows: NDArray[np.bool_], log_value: Floats, margin: float | Floats) -> None:
        self.value[rows] = np.exp(log_value)
        self.low[rows], self.safe[rows] = np.exp(log_value - margin), np.exp(log_value + margin)
        self.basis[rows] = "predicted"

    def raise_to(self, floor: Floats) -> None:
        """No prediction lies below what physics allows; measurements stay, and so does what is unknown."""
        rows = np.isin(self.basis, ("predicted", "interpolated")) & np.isfinite(floor)
        margin = self.safe[rows] / self.value[rows]
        for values in (self.value, self.low):
            values[rows] = np.maximum(values[rows], floor[rows])
        # What was predicted too low is no better known at its floor.
        self.safe[rows] = self.value[rows] * margin

    def predict_from_published(self, model: DeviceModel, counts: Floats, batch_size: int) -> None:
        """Replace predictions by those of the device's published figures, of (M, F) counts."""
        log_value, margin = model.predict(counts, batch_size)
        new = ~np.isin(self.basis, ("measured", "interpolated")) & np.isfinite(log_value)
        self.fill(new, log_value[new], margin[new])

    def predict_from_context(self, left: NDArray[np.bool_]) -> None:
        """Fill the models ``left`` by regressions on those with a figure, the best-informed first."""
        known = self.value > 0
        log_value = np.log(np.where(known, self.value, np.nan))
        left = left & np.isnan(self.value)
        usable = tuple(int(i) for i in np.flatnonzero(np.isfinite(self.features[known]).mean(axis=0) > 0.9))
        # Other contexts with the most models in common first; then the counts alone; then those that a manifest tells.
        by_overlap = sorted(self.others.values(), key=lambda other: -int((known & (other > 0)).sum()))
        plans: list[tuple[Floats | None, tuple[int, ...]]] = [(other, usable) for other in by_overlap]
        for other, columns in [*plans, (None, usable), (None, (0, 1)), (None, (0,))]:
            offset = np.zeros(len(left)) if other is None else np.log(np.where(other > 0, other, np.nan))
            used = self.features[:, columns]
            complete = np.isfinite(used).all(axis=1) & np.isfinite(offset)
            train, new = known & complete, left & complete
            if train.sum() < ENOUGH or not new.any():
                continue
            # Beyond what was measured nobody checked the regression: the interval grows with the distance.
            beyond = outside(used, used[train].min(axis=0), used[train].max(axis=0))
            if columns == (0,) and not self.of_weights:
                # Weights alone hardly tell a time: of a network a hundred times as large, less than nothing.
                new &= beyond == 0
            beyond = beyond[new]
            fit = fit_log_figure(used[train], log_value[train], offset[train], self.families[train])
            margin = fit.margin + max(fit.margin, fit.spread) * beyond
            self.fill(new, fit.predict(used[new], offset[new]), margin)
            left = left & ~new

    def predict_from_closest(self, target: Context, factor: float, rate: float | None) -> None:
        """Fill from the context that is most like the target, shifted by the few models measured there, if any."""
        known, left = self.value > 0, np.isnan(self.value)
        for key in sorted(self.others, key=lambda key: (-_likeness(key, target), key)):
            there = _Estimate(self.features, self.families, {}, of_weights=self.of_weights)
            there.value = self.others[key].copy()
            if (there.value > 0).sum() >= ENOUGH:
                there.predict_from_context(left)
            common = known & (there.value > 0)
            # Weights of another precision have another size.
            margin, shift = factor if key[1] == target[1] else UNKNOWN_CONTEXT_FACTOR, 0.0
            if rate and key[1] == target[1] and key[0] in MEASURED_RATES:
                margin, shift = FACTOR, POWER * math.log(MEASURED_RATES[key[0]] / rate)
            if common.any():
                shift = float(np.median(np.log(self.value[common] / there.value[common])))
            new = left & (there.value > 0)
            apart = math.log(margin) / math.sqrt(1 + common.sum())
            # One that wasn't measured there either is as uncertain as its prediction there, and this.
            own = np.nan_to_num(np.log(there.safe[new] / there.value[new]))
            self.fill(new, np.log(there.value[new]) + shift, np.hypot(apart, own))
            left &= ~new


def _best_rate(profiles: pd.DataFrame, device: str, precision: str, processor: float | None) -> float:
    """Most multiply-accumulates in a millisecond that any call reached: on the device, else on any of its kind.

    Of a processor whose rate of matrix products is known, that of others is brought to it where theirs is known too.
    """
    if not {"macs", "batch_size", "latency_ms_p50"} <= set(profiles.columns) or profiles.empty:
        return math.inf
    rate = profiles["macs"] * profiles["batch_size"] / profiles["latency_ms_p50"]
    same = (profiles["device"] == device) & (profiles["precision"] == precision)
    kind = profiles["device"].astype(str).str.startswith(device.split("_", maxsplit=1)[0])
    # The best of a few says little of what the device can do.
    if rate[same].count() >= ENOUGH:
        best = rate[same].max()
    else:
        scale = profiles["device"].map(MEASURED_RATES).rdiv(processor or np.nan).fillna(1.0)
        best = (rate * scale)[kind].max()
    return float(best) if best > 0 else math.inf


def _likeness(context: tuple[str, str], target: tuple[str, str]) -> int:
    same_kind = context[0].split("_")[0] == target[0].split("_")[0]
    return 4 * (context[0] == target[0]) + 2 * same_kind + (context[1] == target[1])
