"""Baselines that carry measured values over: one order for all datasets, the nearest datasets, matrix factorisation."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from thesis_rec.base.tables import TaskTokens, z_scores
from thesis_rec.evaluation.baselines.base import Floats, Scorer, dataset_space, fill_by_family, recognise, row_means
from thesis_rec.evaluation.study import Study
from thesis_rec.knowledge.covariance import weighted_ridge


def random(training: Study) -> Scorer:
    """A random order, another one for each dataset."""

    def score(tasks: Sequence[TaskTokens]) -> Floats:
        seeds = [[training.seed, zlib.crc32(task.dataset_id.encode())] for task in tasks]
        return np.stack([np.random.default_rng(seed).random(len(training.models)) for seed in seeds], axis=1)

    return score


def parameter_count(training: Study) -> Scorer:
    """More weights first; a model whose size isn't known stays unranked."""
    return _static(np.log1p(np.asarray(training.models.n_parameters, dtype=np.float64)))


def static_mean_accuracy(training: Study) -> Scorer:
    """Mean value of the model over the training datasets.

    Missing cells are taken care of: what is averaged is the distance from the mean of the dataset, so a model isn't
    thought better for not having been tried on hard datasets. The mean of all datasets is added back.
    """
    level = row_means(training.values.T)
    return _mean(training, training.values - level + np.nanmean(level))


def static_mean_z(training: Study) -> Scorer:
    """Mean z-score of the model within the training datasets: easy and hard datasets count alike."""
    return _mean(training, z_scores(training.values))


def static_mean_rank(training: Study) -> Scorer:
    """Mean rank of the model within the training datasets, as a share of the models measured there."""
    return _mean(training, relative_ranks(training.values))


def _mean(training: Study, values: Floats) -> Scorer:
    """Mean over the datasets; an unknown model gets its family's mean, else the mean of all."""
    return _static(fill_by_family(row_means(values)[:, None], training.models.families)[:, 0])


def _static(score: Floats) -> Scorer:
    """The same (M,) scores for each task."""
    return lambda tasks: np.repeat(score[:, None], len(tasks), axis=1)


def relative_ranks(values: Floats) -> Floats:
    """(M, N) ranks within each column from 0 (worst) to 1 (best), ties at their mean; NaN stays NaN."""
    table = pd.DataFrame(values)
    return ((table.rank() - 1) / (table.count() - 1).clip(lower=1)).to_numpy()


#: Numbers of neighbours to choose among.
_NEIGHBOURS = (1, 3, 5, 10, 20)


def nearest_dataset(training: Study) -> Scorer:
    """Weighted mean of the z-scores on the k nearest training datasets in token space.

    Weights fall with distance as exp(-d²/d̄²), d̄ being the distance of the k-th neighbour. ``k`` is chosen on the
    training datasets, by leaving out each dataset's whole family. Unknown models get their family's mean.
    """
    space = dataset_space(training.tasks)
    points, z = space(training.tasks), z_scores(training.values)
    distance, families = cdist(points, points), np.asarray(training.families)
    distance[families[:, None] == families[None, :]] = np.inf
    usable = np.isfinite(distance).any(axis=1)
    # Where all datasets are of one family, none of the choices has a quality, and the first is taken.
    quality = [mean_correlation(weighted_neighbours(z, distance[usable], k), z[:, usable]) for k in _NEIGHBOURS]
    best = _NEIGHBOURS[int(np.argmax(quality))]

    def score(tasks: Sequence[TaskTokens]) -> Floats:
        return fill_by_family(weighted_neighbours(z, cdist(space(tasks), points), best), training.models.families)

    return score


def weighted_neighbours(z: Floats, distance: Floats, k: int) -> Floats:
    """(M, n) weighted mean of the columns of z (M, N) at the k smallest finite ``distance`` (n, N)."""
    farthest = distance.max(axis=1, where=np.isfinite(distance), initial=0.0)
    kth = np.minimum(np.sort(distance, axis=1)[:, :k][:, -1], farthest)[:, None]
    share = np.minimum(distance, kth) / np.maximum(kth, 1e-12)
    weight = np.where(distance <= kth, np.exp(-(share**2)), 0.0)
    # Cells that miss among the k neighbours fall back on farther ones, at a weight that never matters otherwise.
    weight += 1e-9 / (1.0 + distance)
    present = np.isfinite(z)
    total = present.astype(np.float64) @ weight.T
    summed = np.where(present, z, 0.0) @ weight.T
    return np.where(total > 0, summed / np.maximum(total, 1e-300), np.nan)


def mean_correlation(predicted: Floats, truth: Floats) -> float:
    """Mean over columns of the correlation within each column, over cells where both are defined."""
    both = np.isfinite(predicted) & np.isfinite(truth)
    a, b = (z_scores(np.where(both, values, np.nan)) for values in (predicted, truth))
    found = row_means((a * b).T)
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("-inf")


#: What is chosen among; penalties are in units of the z-scores' variance.
_RANKS, _RIDGES = (1, 2, 4, 8), (1.0, 4.0, 16.0)


def matrix_factorisation(training: Study) -> Scorer:
    """Model effect plus a low-rank interaction, fitted to z-scores by alternating least squares.

    Rank and ridge are chosen by hiding a tenth of the measured cells. A dataset that wasn't trained on gets the mean
    factor of those that were (nothing else is known about it), an unknown model its family's mean.
    """
    z = z_scores(training.values)
    hidden = np.isfinite(z) & (np.random.default_rng(training.seed).random(z.shape) < 0.1)
    partial, withheld = np.where(hidden, np.nan, z), np.where(hidden, z, np.nan)

    def quality(choice: tuple[int, float]) -> float:
        return mean_correlation(factorise(partial, *choice, training.seed)[0], withheld)

    most = min(z.shape) - 1
    # The first of the best; without an interaction where there is nothing to have one with.
    choices = [(rank, ridge) for rank in _RANKS if rank <= most for ridge in _RIDGES] or [(0, 1.0)]
    fitted, unseen = factorise(z, *max(choices, key=quality), training.seed)

    def score(tasks: Sequence[TaskTokens]) -> Floats:
        scores = np.repeat(unseen[:, None], len(tasks), axis=1)
        return fill_by_family(recognise(scores, tasks, fitted, training), training.models.families)

    return score


def factorise(z: Floats, rank: int, ridge: float, seed: int, rounds: int = 12) -> tuple[Floats, Floats]:
    """Alternating least squares of ``z[m, n] = b[m] + u[m] · v[n]`` over the cells that aren't NaN.

    Args:
        z: (M, N) values with NaN.
        rank: Length of u and v; 0 leaves the row effects alone.
        ridge: Penalty of u and v.
        seed: Seed of the start.
        rounds: Sweeps.

    Returns:
        The fitted (M, N) matrix and (M,) the column of an unseen dataset; NaN in rows without any value.
    """
    effect = row_means(z)
    rest, weight = np.nan_to_num(z - effect[:, None]), np.isfinite(z).astype(np.float64)
    v: NDArray[np.float64] = np.random.default_rng(seed).normal(size=(z.shape[1], rank)) / np.sqrt(max(rank, 1))
    for _ in range(rounds):
        u = weighted_ridge(weight, rest, v, ridge)
        v = weighted_ridge(weight.T, rest.T, u, ridge)
    return effect[:, None] + u @ v.T, effect + u @ v.mean(axis=0)
