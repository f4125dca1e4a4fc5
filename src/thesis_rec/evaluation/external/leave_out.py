"""Scores on a published table of what was left out: each target, each family of models, each quadrant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.evaluation.bootstrap import cluster_bootstrap
from thesis_rec.evaluation.external.methods import Method, Task
from thesis_rec.evaluation.external.tables import SHARED_IMAGES, PublishedTable
from thesis_rec.evaluation.metrics import metric_table, weighted_tau

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class BenchmarkSettings:
    """How a published table is evaluated.

    Attributes:
        draws: Random orders of tied scores.
        bootstrap: Resamples of an interval.
        folds: Model folds of the quadrants.
        seeds: Divisions into model folds.
        hidden_cells: Share of the known models' cells that Q1 is measured on.
        probes: Numbers of real runs.
        throughputs: Quantiles of throughput that a budget demands.
        violations: Largest share of chosen models that may miss a demanded throughput.
    """

    draws: int = 20
    bootstrap: int = 2000
    folds: int = 5
    seeds: int = 3
    hidden_cells: float = 0.2
    probes: tuple[int, ...] = (3, 5, 10)
    throughputs: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)
    violations: float = 0.05


def leave_one_out(
    table: PublishedTable, found: Mapping[str, Method], *, strict: bool = False, seed: int = 0
) -> dict[str, Floats]:
    """(M, T) scores of each method on the targets, each target's column being left out.

    Args:
        table: The published table.
        found: Methods.
        strict: Whether datasets that share images with the target are left out too.
        seed: Seed of random methods.
    """
    scores = {name: np.full((len(table.model_ids), len(table.targets)), np.nan) for name in found}
    known = np.ones(len(table.model_ids), dtype=bool)
    for place, target in enumerate(table.targets):
        task = Task(table, table.dataset_ids.index(target), training_columns(table, target, strict), known, seed=seed)
        for name, method in found.items():
            scores[name][:, place] = method(task)
    return scores


def quadrants(table: PublishedTable, found: Mapping[str, Method], settings: BenchmarkSettings) -> dict[str, Any]:
    """The four quadrants with model folds instead of unknown families: quadrant -> method -> weighted tau.

    For each seed and fold a part of the models is unknown. Each target in turn is the unknown dataset (Q3, Q4). Known
    datasets (Q1, Q2) are measured with the target's column among the training columns: Q1 on hidden cells of known
    models, Q2 on the unknown models.
    """
    rows: dict[str, dict[str, dict[str, list[float]]]] = {}

    def note(quadrant: str, name: str, target: str, truth: Floats, score: Floats) -> None:
        figure = metric_table(truth, score, 0, settings.draws)["weighted_tau"]
        rows.setdefault(quadrant, {}).setdefault(name, {}).setdefault(target, []).append(figure)

    everything = np.arange(len(table.dataset_ids))
    for seed in range(settings.seeds):
        rng = np.random.default_rng(seed)
        fold_of = rng.permutation(len(table.model_ids)) % settings.folds
        hidden = rng.random(table.values.shape) < settings.hidden_cells
        for fold in range(settings.folds):
            known = fold_of != fold
            for target in table.targets:
                j = table.dataset_ids.index(target)
                unseen = Task(table, j, training_columns(table, target, False), known, seed=seed)
                seen = Task(table, j, everything, known, hidden, seed)
                for name, method in found.items():
                    score = method(unseen)
                    note("Q3", name, target, table.values[known, j], score[known])
                    note("Q4", name, target, table.values[~known, j], score[~known])
                    # The target's own column may be looked at, except hidden cells and unknown models.
                    score = method(seen)
                    at = known & hidden[:, j]
                    note("Q1", name, target, table.values[at, j], score[at])
                    note("Q2", name, target, table.values[~known, j], score[~known])
    return {
        quadrant: {
            name: cluster_bootstrap(
                [float(np.nanmean(v)) if np.isfinite(v).any() else np.nan for v in targets.values()],
                draws=settings.bootstrap,
            ).as_dict()
            for name, targets in entry.items()
        }
        for quadrant, entry in sorted(rows.items())
    }


def leave_family_out(table: PublishedTable, found: Mapping[str, Method], settings: BenchmarkSettings) -> dict[str, Any]:
    """Unknown families of models on unknown datasets: each family in turn is left out, its scores put together.

    Returns:
        Method -> weighted tau over the targets, of all models ranked by what was said of them while unknown.
    """
    families = np.asarray(table.families)
    scores = {name: np.full((len(families), len(table.targets)), np.nan) for name in found}
    for family in np.unique(families):
        known = families != family
        for place, target in enumerate(table.targets):
            columns = training_columns(table, target, False)
            task = Task(table, table.dataset_ids.index(target), columns, known)
            for name, method in found.items():
                scores[name][~known, place] = method(task)[~known]
    targets = [table.dataset_ids.index(target) for target in table.targets]
    return {
        name: cluster_bootstrap(
            [weighted_tau(table.values[:, j], matrix[:, place]) for place, j in enumerate(targets)],
            draws=settings.bootstrap,
        ).as_dict()
        for name, matrix in scores.items()
    }


def training_columns(table: PublishedTable, target: str, strict: bool) -> NDArray[np.intp]:
    """Positions of the datasets that may be looked at for a target: all others.

    Args:
        table: The published table.
        target: Name of the target.
        strict: Whether datasets that share images with it are left out too.
    """
    excluded = {target, *(SHARED_IMAGES.get(target, ()) if strict else ())}
    return np.array([j for j, name in enumerate(table.dataset_ids) if name not in excluded], dtype=int)
