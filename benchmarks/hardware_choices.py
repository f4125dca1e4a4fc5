"""How good choices under a budget are: broken budgets and regret, with measured and with predicted figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.hardware.prediction import figures

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choices:
    """What choices under budgets led to.

    Attributes:
        violations: Share of chosen models whose true figure breaks the budget.
        violations_first: The same of the first choice alone.
        regret: Mean shortfall of the best chosen model (of ``k``) behind the best truly feasible one.
        regret_first: The same of the first choice alone.
        n: Number of (task, budget) pairs that left a choice.
        empty: Number of pairs that left none although a model fits.
    """

    violations: float
    violations_first: float
    regret: float
    regret_first: float
    n: int
    empty: int


def held_out_figures(
    profiles: pd.DataFrame, models: pd.DataFrame, device: str, precision: str = "fp32", batch_size: int = 1
) -> pd.DataFrame:
    """Predicted figures of every model on a device, each from the measurements of other families there.

    Args:
        profiles: ``hardware_profiles``; rows of other devices are used as they are.
        models: ``model_id`` and ``family``.
        device: Target device.
        precision: Precision of the call.
        batch_size: Images in a call.

    Returns:
        As :func:`thesis_rec.hardware.prediction.figures`, in the order of ``models``.
    """
    parts = []
    for _, rows in models.groupby("family", sort=False):
        # At other precisions and batch sizes of the device, too, the family is unknown.
        hidden = (profiles["device"] == device) & profiles["model_id"].isin(rows["model_id"])
        # Counts need no clock: they stay.
        columns = [name for name in profiles if str(name).startswith(("latency", "throughput", "peak_memory"))]
        seen = profiles.copy()
        seen.loc[hidden, columns] = np.nan
        found = figures(seen, models, device, precision, batch_size)
        parts.append(found[found["model_id"].isin(rows["model_id"])])
    joined = pd.concat(parts).set_index("model_id").reindex(models["model_id"])
    return joined.reset_index()


def judge_choices(
    claimed: Floats, actual: Floats, score: Floats, truth: Floats, budgets: Sequence[float], *, k: int = 5
) -> Choices:
    """Choose by score among the models whose claimed figure keeps a budget, and look at what they really cost.

    Args:
        claimed: (M,) figures that decide what is feasible (lower is better), NaN for unknown.
        actual: (M,) true figures.
        score: (T, M) scores that rank models for each task.
        truth: (T, M) measured performance, NaN where unknown.
        budgets: Upper limits.
        k: Models that are chosen.
    """
    broken = first_broken = chosen_count = pairs = empty = 0
    regrets, regrets_first = [], []
    for task in range(len(truth)):
        known = np.isfinite(truth[task]) & np.isfinite(score[task]) & np.isfinite(actual)
        for budget in budgets:
            fits = known & (actual <= budget)
            admitted = np.flatnonzero(known & (claimed <= budget))
            if not fits.any():
                continue
            if not len(admitted):
                empty += 1
                continue
            pairs += 1
            chosen = admitted[np.argsort(-score[task, admitted], kind="stable")[:k]]
            best = truth[task, fits].max()
            keeps = actual[chosen] <= budget
            broken += int((~keeps).sum())
            first_broken += int(not keeps[0])
            chosen_count += len(chosen)
            # A model that breaks the budget is of no use: it counts as the worst feasible one.
            worst = truth[task, fits].min()
            reached = np.where(keeps, truth[task, chosen], worst)
            regrets.append(best - reached.max())
            regrets_first.append(best - reached[0])
    mean = [float(np.mean(values)) if values else float("nan") for values in (regrets, regrets_first)]
    return Choices(
        violations=broken / max(chosen_count, 1),
        violations_first=first_broken / max(pairs, 1),
        regret=mean[0],
        regret_first=mean[1],
        n=pairs,
        empty=empty,
    )


def performance_matrix(records: pd.DataFrame, datasets: Sequence[str], models: Sequence[str]) -> Floats:
    """(T, M) mean linear-probe performance, NaN where not measured."""
    chosen = records[records["protocol"] == "linear_probe"] if "protocol" in records else records
    wide = chosen.pivot_table(index="dataset_id", columns="model_id", values="value")
    matrix: Floats = wide.reindex(index=list(datasets), columns=list(models)).to_numpy(dtype=np.float64)
    return matrix


def static_prior(truth: Floats, families: Sequence[str], known: NDArray[np.bool_]) -> Floats:
    """(M,) mean standardised performance on training tasks; an unknown model gets its family's mean, else 0.

    Args:
        truth: (T, M) performance on training tasks.
        families: (M,) families.
        known: (M,) models whose performance may be used.
    """
    usable = np.where(known, truth, np.nan)
    with np.errstate(invalid="ignore"):
        centred = usable - np.nanmean(usable, axis=1, keepdims=True)
        spread = np.maximum(np.nanstd(usable, axis=1, keepdims=True), 1e-9)
    present = np.isfinite(centred)
    count = present.sum(axis=0)
    prior = np.where(present, centred / spread, 0.0).sum(axis=0) / np.maximum(count, 1)
    measured = pd.Series(np.where(count > 0, prior, np.nan))
    by_family = measured.groupby(np.asarray(families)).transform("mean").fillna(0.0)
    filled: Floats = np.where(count > 0, prior, by_family.to_numpy())
    return filled
