"""Figures by device and precision, brought to one batch size, and what is known of a model without a clock."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

#: What can be counted without a clock; ``n_operations`` and ``activation_mb`` are absent from published tables.
COUNTS = ("n_parameters", "macs", "activation_mb", "n_operations")

#: A machine is never quite as quiet again: measured latencies have this margin against a limit.
REPEATABILITY = 1.05


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
