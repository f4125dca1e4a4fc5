"""Measured performance: from raw records to one value per model, dataset and protocol, and how far it can be trusted.

Repeats of a measurement agree only so far, and the variance of accuracy comes from models, tasks, both, or noise.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from thesis_rec.base.tables import Floats

logger = logging.getLogger(__name__)

KEY = ["model_id", "dataset_id", "protocol"]
#: Columns of ``performance_records``.
RECORD_COLUMNS = ["model_id", "dataset_id", "protocol", "metric", "value", "seed", "n_train", "source"]
#: What tells two measurements of one cell apart, beside :data:`RECORD_COLUMNS`: hashes of the model's weights and of
#: the dataset's images and labels, versions of the libraries, seconds of the cell, and how many test images judged it.
#: Records from before these were written, and published ones, lack them.
PROVENANCE_COLUMNS = ["model_revision", "dataset_revision", "versions", "seconds", "n_test"]
#: Columns of ``transferability_scores``.
SCORE_COLUMNS = ["model_id", "dataset_id", "method", "value", "seconds", "source"]
#: Names of the transferability scores, as they stand in the tables.
Score = Literal["logme", "h_score", "h_score_shrunk", "leep", "n_leep", "gbc", "nearest_class_mean"]
#: Columns of ``performance``.
COLUMNS = [*KEY, "value", "std", "n_repeats", "n_train", "n_test", "metric", "source"]


def measured_records(cells: Sequence[tuple[Any, ...]], **told: str) -> pd.DataFrame:
    """Accuracies that were measured here as records.

    Args:
        cells: ``dataset_id, value, seed, n_train, seconds, n_test`` of each.
        told: Their ``model_id``, ``protocol`` and ``source``.

    Returns:
        :data:`RECORD_COLUMNS`, ``seconds`` and ``n_test``.
    """
    table = pd.DataFrame(cells, columns=["dataset_id", "value", "seed", "n_train", "seconds", "n_test"])
    return table.assign(metric="accuracy", **told)[[*RECORD_COLUMNS, "seconds", "n_test"]]


def clean_performance(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Join tables of records and average their repeats.

    Where two tables measured the same cell by the same protocol, the earlier table counts: one's own measurements come
    before published ones. Of several metrics, sources or revisions of one cell the first by name is taken, never a
    mixture.

    Args:
        tables: Records as the contract describes them, the most trusted first.

    Returns:
        One row per ``model_id, dataset_id, protocol``, sorted: ``value`` (mean over repeats), ``std`` between repeats
        (NaN for a single one), ``n_repeats``, ``n_train``, ``n_test`` (NaN where unknown), ``metric``, ``source``. A
        repeat with seed -1 is a mean already.
    """
    joined = [table.assign(_order=place) for place, table in enumerate(tables) if len(table)]
    if not joined:
        types = dict.fromkeys(("value", "std", "n_train", "n_test"), "float64") | {"n_repeats": "int64"}
        return pd.DataFrame(columns=COLUMNS).astype(types)
    records = pd.concat(joined, ignore_index=True)
    revisions = ["model_revision", "dataset_revision"]
    records = records.reindex(columns=[*dict.fromkeys([*records, *revisions, "n_test"])])
    text = [*KEY, "metric", "source", *revisions]
    records[text] = records[text].astype("string")
    # Grouping leaves out rows in which one of these is missing.
    records[["source", *revisions]] = records[["source", *revisions]].fillna("")
    valid = records["value"].between(0.0, 1.0)
    if not valid.all():
        logger.warning("%d records without a fraction as their value are left out", int((~valid).sum()))
        records = records[valid]
    grouped = records.groupby([*KEY, "_order", "metric", "source", *revisions], sort=True)
    means = grouped.agg(
        value=("value", "mean"), std=("value", "std"), n_repeats=("value", "size"), n_train=("n_train", "mean"),
        n_test=("n_test", "mean"),
    )  # fmt: skip
    cleaned = means.reset_index().drop_duplicates(KEY, ignore_index=True)
    return cleaned[COLUMNS].astype(dict.fromkeys(("value", "std", "n_train", "n_test"), "float64"))


def error_of_accuracy(value: Any, n_test: Any) -> Any:
    """Standard deviation of accuracies, a number or an array, by their numbers of test images; NaN where unknown.

    That of a share of independent images; near 0 and 1, where few images say little, as if it were some 0.95.
    """
    return np.sqrt(np.maximum(value * (1 - value), 0.05) / n_test)


def records_of_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Published cells as records: each a mean already, of unknown numbers of training images.

    Args:
        cells: ``model_id, dataset_id, protocol, metric, value, source``.
    """
    return cells.assign(seed=-1, n_train=float("nan"))[RECORD_COLUMNS]


def overlay_scores(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join tables of transferability scores.

    Args:
        tables: Scores as the contract describes them, the most trusted last.

    Returns:
        One row per ``model_id, dataset_id, method``, from the last table that has it; empty without tables.
    """
    if not tables:
        types = {"value": "float64", "seconds": "float64"}
        return pd.DataFrame(columns=SCORE_COLUMNS).astype(types)
    joined = pd.concat(tables, ignore_index=True)
    return joined.drop_duplicates(["model_id", "dataset_id", "method"], keep="last", ignore_index=True)


def repeats(records: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Values of a protocol's repeats as a table, models x (dataset, seed).

    Args:
        records: Columns of ``performance_records``; averaged repeats (negative seeds) are left out.
        protocol: ``linear_probe`` or ``fine_tune``.

    Returns:
        Table with ``model_id`` as index and columns (``dataset_id``, ``seed``), NaN where nothing was measured.
    """
    chosen = records[(records["protocol"] == protocol) & (records["seed"] >= 0)]
    return chosen.pivot_table(index="model_id", columns=["dataset_id", "seed"], values="value", aggfunc="mean")


def dataset_agreement(values: Floats) -> float:
    """Mean weighted tau over all pairs of repeats of one dataset.

    Args:
        values: (M, R) values of M models in R repeats, NaN where not measured.

    Returns:
        Mean of ``scipy.stats.weightedtau`` (default arguments) over the pairs of repeats that share at least two
        models whose values aren't all equal; NaN when there is no such pair.
    """
    from scipy.stats import weightedtau

    # Its stubs know no functions.
    taus = pd.DataFrame(values).corr(lambda *pair: weightedtau(*pair).statistic, min_periods=2)  # type: ignore[arg-type]
    pairs = taus.to_numpy()[np.triu_indices(len(taus), 1)]
    return float(np.nanmean(pairs)) if np.isfinite(pairs).any() else float("nan")


def noise_ceiling(records: pd.DataFrame, protocol: str, seed: int = 0) -> dict[str, float]:
    """Weighted tau between two repeats of the same measurement, the mean over datasets with five repeated models.

    It is what a ranker that knew the mean of one repeat exactly would reach on another. The mean over several repeats
    is a little more reliable than one of them, so a ranker compared with such means can lie slightly above.

    Args:
        records: Columns of ``performance_records``.
        protocol: ``linear_probe`` or ``fine_tune``.
        seed: Seed of the bootstrap.

    Returns:
        ``mean``, ``low`` and ``high`` (95 % interval over datasets) and the number of datasets ``n``; NaN without any.
    """
    table = repeats(records, protocol)
    taus = []
    for dataset_id in table.columns.get_level_values("dataset_id").unique():
        values = table[dataset_id].to_numpy(dtype=float)
        values = values[np.isfinite(values).sum(1) >= 2]
        if len(values) >= 5 and np.isfinite(tau := dataset_agreement(values)):
            taus.append(tau)
    array = np.asarray(taus or [np.nan])
    index = np.random.default_rng(seed).integers(0, len(array), (1000, len(array)))
    low, high = np.percentile(array[index].mean(1), [2.5, 97.5])
    return {"mean": float(array.mean()), "low": float(low), "high": float(high), "n": len(taus)}


def noise_ceilings(records: pd.DataFrame, seed: int = 0) -> dict[str, dict[str, float]]:
    """The :func:`noise_ceiling` of each protocol that has repeats."""
    found = {name: noise_ceiling(records, name, seed) for name in sorted(records["protocol"].astype(str).unique())}
    return {name: ceiling for name, ceiling in found.items() if ceiling["n"]}


def variance_components(records: pd.DataFrame, protocol: str = "linear_probe") -> dict[str, float]:
    """Two-way random effects by the method of moments.

    The model of the value of model i on task j in repeat r is ``y = mu + m_i + t_j + d_r(j) + (mt)_ij + e_ijr``, where
    the effect d of a repeat's drawn images is nested in its task and common to all models (they get the same
    images). Mean squares are set equal to their expectations (Searle, Casella and McCulloch, Variance Components,
    1992, ch. 4); negative estimates become zero. Test images are the same in all repeats, so what they happen to
    favour counts as interaction.

    Args:
        records: Columns of ``performance_records``.
        protocol: ``linear_probe`` or ``fine_tune``.

    Returns:
        Variances in squared fractions: ``model`` (some are better everywhere), ``task`` (some are harder for all),
        ``interaction`` (between models from task to task, repeat noise subtracted: what a recommender can learn),
        ``draw`` (of a repeat's images, common to all models) and ``noise`` (left over in a single repeat);
        ``model_share``, ``task_share`` and ``interaction_share`` of the sum of the first three, and
        ``interaction_among_models``, the interaction's share in model + interaction, of what matters for a ranking;
        ``n_models``, ``n_tasks`` and ``n_repeats`` of the largest complete block that is found by dropping, one by
        one, the row or column with the largest share of missing values.

    Raises:
        ValueError: If fewer than two models, tasks or repeats are left.
    """
    cube = _complete_cube(repeats(records, protocol))
    a, b, r = cube.shape
    if min(a, b, r) < 2:
        raise ValueError(f"{protocol}: {a} models x {b} tasks x {r} repeats are too few for variance components")
    grand = cube.mean()
    model_means, task_means = cube.mean((1, 2)), cube.mean((0, 2))
    cell_means = cube.mean(2)  # (a, b)
    draw_means = cube.mean(0)  # (b, r)
    mean_square_model = b * r * ((model_means - grand) ** 2).sum() / (a - 1)
    mean_square_task = a * r * ((task_means - grand) ** 2).sum() / (b - 1)
    residual = cell_means - model_means[:, None] - task_means[None] + grand
    mean_square_cell = r * (residual**2).sum() / ((a - 1) * (b - 1))
    mean_square_draw = a * ((draw_means - task_means[:, None]) ** 2).sum() / (b * (r - 1))
    left = cube - cell_means[:, :, None] - draw_means[None] + task_means[None, :, None]
    mean_square_noise = (left**2).sum() / (b * (a - 1) * (r - 1))
    parts = {
        "model": (mean_square_model - mean_square_cell) / (b * r),
        "task": (mean_square_task - mean_square_cell - mean_square_draw + mean_square_noise) / (a * r),
        "interaction": (mean_square_cell - mean_square_noise) / r,
        "draw": (mean_square_draw - mean_square_noise) / a,
        "noise": mean_square_noise,
    }
    found = {name: max(0.0, float(value)) for name, value in parts.items()}
    total = found["model"] + found["task"] + found["interaction"]
    shares = {f"{name}_share": found[name] / total if total else np.nan for name in ("model", "task", "interaction")}
    rankable = found["model"] + found["interaction"]
    among = found["interaction"] / rankable if rankable else np.nan
    return {**found, "n_models": a, "n_tasks": b, "n_repeats": r, **shares, "interaction_among_models": among}


def _complete_cube(table: pd.DataFrame) -> Floats:
    """A complete (models, tasks, repeats) array: tasks with the most common number of repeats, no missing cell."""
    counts = table.columns.get_level_values("dataset_id").value_counts()
    if counts.empty:
        return np.empty((0, 0, 0))
    repeated = int(counts.mode().max())
    tasks = sorted(counts.index[counts == repeated])
    cube = np.stack([table[task].to_numpy(dtype=float) for task in tasks], axis=1)
    while cube.size and (missing := ~np.isfinite(cube).all(2)).any():
        shares = missing.mean(1), missing.mean(0)  # of each model, of each task
        axis = int(shares[1].max() > shares[0].max())
        cube = np.delete(cube, shares[axis].argmax(), axis=axis)
    return cube
