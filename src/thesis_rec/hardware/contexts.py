"""Figures by device and precision, brought to one batch size."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Bytes of a MiB.
MIB = float(1 << 20)

#: Columns of ``hardware_profiles``, in order; the first row is the contract, the second says how sure it is.
COLUMNS = [
    "model_id", "device", "precision", "batch_size", "latency_ms_p50", "latency_ms_p95", "throughput",
    "peak_memory_mb", "n_parameters", "macs", "source",
    "latency_ms_p50_low", "latency_ms_p50_high", "repeats", "threads", "activation_mb", "n_operations",
]  # fmt: skip

#: What can be counted without a clock; ``n_operations`` and ``activation_mb`` are absent from published tables.
COUNTS = ("n_parameters", "macs", "activation_mb", "n_operations")

#: Bytes of a weight.
WEIGHT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}

#: Columns of a context's table (:func:`context_tables`).
CONTEXT_COLUMNS = ["latency_ms_p50", "peak_memory_mb", "latency_ms_p50_safe", "peak_memory_mb_safe", "exact"]

#: A machine is never quite as quiet again: measured latencies have this margin against a limit.
REPEATABILITY = 1.05


def context_tables(profiles: pd.DataFrame, batch_size: int) -> dict[tuple[str, str], pd.DataFrame]:
    """Figures of every context at one batch size, by model.

    A batch size between measured ones is interpolated linearly. Beyond them a figure follows the same line, but grows
    at least with the square root of the batch: at one image a GPU waits for launches, and the line may even fall. (Of
    611 models on an H200, fp16, 128 images told from 1 and 32: median ratio 0.99, 90 % within a factor of 2.0; by the
    line alone 0.62 and 3.7.) The safe side is the next larger measured batch, or proportional growth of all but the
    weights.

    Returns:
        For each (device, precision): a table by ``model_id`` with ``latency_ms_p50``, ``peak_memory_mb``, their safe
        sides ``…_safe`` and ``exact``.
    """
    columns = ["latency_ms_p50", "peak_memory_mb"]
    found: dict[tuple[str, str], pd.DataFrame] = {}
    for (device, precision), rows in profiles.groupby(["device", "precision"], sort=True):
        exact = rows[rows["batch_size"] == batch_size].drop_duplicates("model_id", keep="last").set_index("model_id")
        upper = exact.get("latency_ms_p50_high", exact["latency_ms_p50"]).fillna(exact["latency_ms_p50"])
        upper = upper.clip(lower=REPEATABILITY * exact["latency_ms_p50"])
        safe = {"latency_ms_p50_safe": upper, "peak_memory_mb_safe": exact["peak_memory_mb"]}
        table = exact[columns].assign(**safe, exact=True)
        by_size = rows.pivot_table(columns, "model_id", "batch_size", aggfunc="last", dropna=False)
        by_size = by_size[~by_size.index.isin(exact.index)]
        if len(by_size):
            made: dict[str, Any] = {"exact": False}
            counts = rows.reindex(columns=["model_id", "n_parameters"]).groupby("model_id")["n_parameters"].first()
            weights = counts.reindex(by_size.index).fillna(0.0).to_numpy(float)
            held = weights * WEIGHT_BYTES.get(str(precision), 4) / MIB
            for column, fixed in (("latency_ms_p50", np.zeros_like(held)), ("peak_memory_mb", held)):
                measured = by_size[[column]].droplevel(0, axis=1)
                made[column], made[f"{column}_safe"] = _at_batch(measured, batch_size, fixed)
            table = pd.concat([table, pd.DataFrame(made, index=by_size.index)])
        found[str(device), str(precision)] = table
    return found


def _at_batch(by_size: pd.DataFrame, batch_size: int, fixed: Floats) -> tuple[Floats, Floats]:
    """A figure at a batch size that wasn't measured, and its safe side.

    Args:
        by_size: (M, S) figures at rising batch sizes.
        batch_size: Which one is asked for.
        fixed: (M,) what of each figure doesn't grow with the batch.
    """
    sizes, values = by_size.columns.to_numpy(float), by_size.to_numpy(float)
    value, safe = np.full((2, len(values)), np.nan)
    known = np.isfinite(values)
    # Models that were measured at the same sizes go together; few sets of sizes occur.
    for pattern in filter(np.any, np.unique(known, axis=0)):
        rows = (known == pattern).all(axis=1)
        at, figures = sizes[pattern], values[np.ix_(rows, pattern)]
        last, beyond = figures[:, -1], max(batch_size / at[-1] - 1.0, 0.0)
        value[rows] = proportional = last + np.maximum(last - fixed[rows], 0.0) * beyond
        if len(at) > 1:
            right = int(np.clip(np.searchsorted(at, batch_size), 1, len(at) - 1))
            lower, upper = figures[:, right - 1], figures[:, right]
            line = lower + (upper - lower) / (at[right] - at[right - 1]) * (batch_size - at[right - 1])
            rooted = np.sqrt(last * proportional) if beyond else line
            value[rows] = np.maximum.reduce([line, rooted, 0.05 * figures.min(axis=1)])
        larger = figures[:, at >= batch_size]
        safe[rows] = np.maximum(value[rows], larger.max(axis=1) if larger.size else proportional)
    return value, safe
