"""Matrix factorisation: the matrix of values without any look at weights or images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thesis_rec.base.tables import TaskTokens
from thesis_rec.evaluation.baselines.base import Baseline, Floats, TrainingSet, fill_by_family, row_means
from thesis_rec.evaluation.baselines.neighbours import mean_correlation


class MatrixFactorisation(Baseline):
    """Model effect plus a low-rank interaction, fitted to z-scores by alternating least squares.

    Rank and ridge are chosen by hiding a tenth of the measured cells. A dataset that wasn't trained on gets the mean
    factor of those that were (nothing else is known about it), an unknown model its family's mean.

    Args:
        ranks: Ranks to choose among.
        ridges: Ridge penalties to choose among, in units of the z-scores' variance.
        rounds: Sweeps of alternating least squares.
    """

    name = "matrix_factorisation"

    def __init__(
        self, ranks: Sequence[int] = (1, 2, 4, 8), ridges: Sequence[float] = (1.0, 4.0, 16.0), rounds: int = 12
    ) -> None:
        self.ranks, self.ridges, self.rounds = tuple(ranks), tuple(ridges), rounds
        self.rank, self.ridge = self.ranks[0], self.ridges[0]

    def fit(self, training: TrainingSet) -> MatrixFactorisation:
        """Choose rank and ridge, then fit on all cells."""
        z = training.standardised()
        rng = np.random.default_rng(training.seed)
        hidden = np.isfinite(z) & (rng.random(z.shape) < 0.1)
        partial = np.where(hidden, np.nan, z)
        best = -np.inf
        for rank in self.ranks:
            if rank >= min(z.shape):
                continue
            for ridge in self.ridges:
                fitted, _ = factorise(partial, rank, ridge, self.rounds, rng=np.random.default_rng(training.seed))
                quality = mean_correlation(fitted, np.where(hidden, z, np.nan))
                if quality > best:
                    best, self.rank, self.ridge = quality, rank, ridge
        rank = max(min(self.rank, min(z.shape) - 1), 0)
        self._fitted, self._unseen = factorise(
            z, rank, self.ridge, self.rounds, rng=np.random.default_rng(training.seed)
        )
        self._column = {dataset: j for j, dataset in enumerate(training.dataset_ids)}
        self._families = training.models.families
        return self

    def predict(self, tasks: Sequence[TaskTokens]) -> Floats:
        """(M, n) fitted z-scores of known datasets, the mean factor's of others."""
        columns = [
            self._fitted[:, self._column[task.dataset_id]] if task.dataset_id in self._column else self._unseen
            for task in tasks
        ]
        scores = np.stack(columns, axis=1) if columns else np.empty((len(self._unseen), 0))
        return fill_by_family(scores, self._families)


def factorise(z: Floats, rank: int, ridge: float, rounds: int, *, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Alternating least squares of ``z[m, n] = b[m] + u[m] · v[n]`` over the cells that aren't NaN.

    Args:
        z: (M, N) values with NaN.
        rank: Length of u and v; 0 leaves the row effects alone.
        ridge: Penalty of u and v.
        rounds: Sweeps.
        rng: Source of the start.

    Returns:
        The fitted (M, N) matrix and (M,) the column of an unseen dataset; NaN in rows without any value.
    """
    present = np.isfinite(z)
    effect = np.nan_to_num(row_means(z))
    rest = np.where(present, z - effect[:, None], 0.0)
    weight = present.astype(np.float64)
    empty = ~present.any(axis=1)
    if rank == 0:
        fitted, unseen = np.repeat(effect[:, None], z.shape[1], axis=1), effect
    else:
        v: Floats = rng.normal(size=(z.shape[1], rank)) / np.sqrt(rank)
        u: Floats = np.zeros((z.shape[0], rank))
        eye = ridge * np.eye(rank)
        for _ in range(rounds):
            u = _solve(weight, rest, v, eye)
            v = _solve(weight.T, rest.T, u, eye)
        fitted, unseen = effect[:, None] + u @ v.T, effect + u @ v.mean(axis=0)
    fitted, unseen = fitted.copy(), unseen.copy()
    fitted[empty], unseen[empty] = np.nan, np.nan
    return fitted, unseen


def _solve(weight: Floats, rest: Floats, factor: Floats, ridge: Floats) -> Floats:
    """Ridge regression of each row of ``rest`` on ``factor``, over that row's cells, all rows at once."""
    outer = factor[:, :, None] * factor[:, None, :]
    gram = np.tensordot(weight, outer, axes=(1, 0)) + ridge
    solved: Floats = np.linalg.solve(gram, (rest @ factor)[:, :, None])[:, :, 0]
    return solved
