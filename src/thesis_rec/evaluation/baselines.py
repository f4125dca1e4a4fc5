"""What a ranker has to beat: functions that learn from a study and give a function that scores tasks.

``baseline(name)(training)(tasks)`` gives (M, n) scores. Models without any measured value get their family's mean
score, else the mean of all, unless the method has a way of its own (or none at all: learned tokens).
"""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from thesis_rec.base.tables import Floats, ModelTable, TaskTokens, z_scores
from thesis_rec.evaluation.study import Study
from thesis_rec.knowledge.covariance import weighted_ridge
from thesis_rec.knowledge.descriptors import pool_tokens, scales_of
from thesis_rec.knowledge.kernels import Kernel, leave_groups_out

#: (M, n) scores of all candidates for n tasks, NaN where the method can't say anything. A task whose ``dataset_id`` is
#: one of the training datasets is recognised as that dataset.
Scorer = Callable[[Sequence[TaskTokens]], Floats]

#: A method that learns from what :meth:`~thesis_rec.evaluation.study.Study.training` gives.
Baseline = Callable[[Study], Scorer]


def row_means(values: Floats) -> Floats:
    """(M,) mean of each row's values, NaN for a row without any."""
    return pd.DataFrame(values).mean(axis=1).to_numpy()


def row_means_of_others(values: Floats, groups: NDArray[np.str_]) -> Floats:
    """(M, N) for each column the rows' means over the columns of other groups, NaN where there are none."""
    means = np.full(values.shape, np.nan)
    for group in np.unique(groups):
        means[:, groups == group] = row_means(values[:, groups != group])[:, None]
    return means


def fill_by_family(scores: Floats, families: Sequence[str]) -> Floats:
    """Give models without a score the mean of their family's, else the mean of all.

    Args:
        scores: (M, n) scores, NaN where a model has none.
        families: M families.

    Returns:
        (M, n) with NaN only in columns that have no score at all.
    """
    table = pd.DataFrame(scores)
    return table.fillna(table.groupby(list(families)).transform("mean")).fillna(table.mean()).to_numpy()


def dataset_space(training: Sequence[TaskTokens]) -> Scorer:
    """From datasets to (n, F) standardised pooled tokens, fitted on training datasets.

    Every block counts alike, however long: standardised columns are divided by the root of the block's length.
    """
    from sklearn.preprocessing import StandardScaler

    def pooled(tasks: Sequence[TaskTokens]) -> Floats:
        return np.stack([np.concatenate(pool_tokens(task)) for task in tasks])

    scaler = StandardScaler().fit(pooled(training))
    scaler.scale_ *= scales_of("tokens", 0, training[0].features.shape[2], 1.0)
    return lambda tasks: scaler.transform(pooled(tasks))


def recognise(scores: Floats, tasks: Sequence[TaskTokens], fitted: Floats, training: Study) -> Floats:
    """(M, n) scores, of training datasets those that were fitted there, the columns of (M, N)."""
    places = pd.Index(training.dataset_ids).get_indexer(pd.Index([task.dataset_id for task in tasks]))
    return np.where(places >= 0, fitted[:, places], scores)


def model_coordinates(models: ModelTable, known: NDArray[np.bool_], components: int = 24) -> Floats:
    """(M, F) description of all models: principal components of embedding and responses, and size.

    Directions and scales are fitted on known models only. Components keep their relative variance and blocks count
    alike, as in :func:`dataset_space`.

    Args:
        models: All models.
        known: (M,) which of them may be fitted on.
        components: Largest number of principal components per block.
    """
    # Baselines are given all that the recommender is given.
    blocks = [block for block in (models.embedding, models.reference, models.subtasks) if block is not None]
    parts = [_principal(np.asarray(block, dtype=np.float64), known, components) for block in blocks]
    size = np.log1p(np.asarray(models.n_parameters, dtype=np.float64))[:, None]
    spread = max(float(size[known].std()), 1e-9)
    # Size is one number among blocks of many: it counts as a third of a block.
    parts.append((size - size[known].mean()) / spread / 3**0.5)
    return np.concatenate(parts, axis=1)


def _principal(block: Floats, known: NDArray[np.bool_], components: int) -> Floats:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
    # An unknown model may lie far outside; a few standard deviations say as much as hundreds.
    standard = np.clip(StandardScaler().fit(block[known]).transform(block), -6.0, 6.0)
    pca = PCA(min(components, *block[known].shape), svd_solver="full").fit(standard[known])
    coordinates: Floats = pca.transform(standard)[:, pca.singular_values_ > 1e-9]
    return coordinates / max(float(np.sqrt((coordinates[known] ** 2).sum(axis=1).mean())), 1e-9)


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


def _kernel(reference: Floats, width: float | None) -> Callable[[Floats], Floats]:
    """Similarity of points (m, F) with the reference (n, F): Gaussian, its width in medians, or linear without one."""
    if width is not None:
        return Kernel.of(reference, width)
    mean_square = max(float((reference**2).sum(axis=1).mean()), 1e-12)
    # The constant lets the regression have an intercept.
    return lambda points: points @ reference.T / mean_square + 1.0


def ridge(training: Study) -> Scorer:
    """:func:`two_step_ridge` with linear kernels."""
    return two_step_ridge(training, (None,), (0.03, 0.1, 0.3, 1, 3, 10, 30))


def kernel_ridge(training: Study) -> Scorer:
    """:func:`two_step_ridge` with Gaussian kernels."""
    return two_step_ridge(training, (0.3, 1.0, 3.0), (0.01, 0.03, 0.1, 0.3, 1, 3, 10))


def two_step_ridge(training: Study, widths: Sequence[float | None], ridges: Sequence[float]) -> Scorer:
    """Static prior plus an interaction smoothed over datasets; unknown models by regression on known ones.

    Two-step kernel ridge regression (Stock et al. 2018, "A comparative study of pairwise learning methods based on
    kernel ridge regression") smooths the matrix of values over datasets with one kernel and over models with another.
    Both penalties have closed-form leave-one-block-out errors, so they are chosen by leaving out whole dataset families
    and whole model families of the training set.

    For a known model m and a new dataset d, score = mean z of m + sum over training datasets of w(d, j) (z[m, j] -
    mean z of m). An unknown model's score is a weighted sum of the known models' scores for the same dataset. Cells
    that miss are imputed by the model's own predictions, in a few rounds.

    Args:
        training: What is learned from.
        widths: Widths of the Gaussian kernels to choose among, in medians of the squared distance; None for linear.
        ridges: Penalties to choose among.
    """
    is_known = training.known
    z = z_scores(training.values)[is_known]
    space = dataset_space(training.tasks)
    points, families = space(training.tasks), np.asarray(training.families)
    prior = np.nan_to_num(row_means(z))[:, None]
    without = np.nan_to_num(row_means_of_others(z, families))
    present = np.isfinite(z)

    def choose(
        points: Floats, target: Floats, groups: NDArray[np.str_], quality: Callable[[Floats], float]
    ) -> tuple[Callable[[Floats], Floats], float]:
        """Kernel and penalty whose predictions of groups left out are best; the strongest penalty where all are."""
        found = []
        for width in widths:
            kernel = _kernel(points, width)
            gram = kernel(points).astype(np.float64)
            for strength in reversed(ridges):
                left_out = leave_groups_out(gram, target.astype(np.float64), groups, strength)
                found.append((quality(left_out), kernel, strength))
        return max(found, key=lambda choice: choice[0])[1:]

    rest = np.where(present, z - without, 0.0)
    dataset_kernel, strength = choose(points, rest.T, families, lambda found: mean_correlation(without + found.T, z))
    gram = dataset_kernel(points)
    regular = gram + strength * np.eye(len(gram))
    # Residuals from the prior, gaps filled by the smoother H = K (K + λI)⁻¹ itself.
    smoother = np.linalg.solve(regular, gram)
    rest = np.where(present, z - prior, 0.0)
    for _ in range(10):
        rest = np.where(present, rest, rest @ smoother)
    dual = np.linalg.solve(regular, rest.T).T
    fitted = prior + rest

    coordinates = model_coordinates(training.models, is_known)
    own, target = coordinates[is_known], fitted - fitted.mean(axis=0)
    names = np.asarray(training.models.families)[is_known]
    kernel, strength = choose(own, target, names, lambda found: mean_correlation(found, target))
    # (unknown, known) weights of the known models' scores.
    weights = kernel(coordinates[~is_known]) @ np.linalg.inv(kernel(own) + strength * np.eye(len(own)))

    def score(tasks: Sequence[TaskTokens]) -> Floats:
        # (known, N) @ (N, n)
        known = recognise(prior + dual @ dataset_kernel(space(tasks)).T, tasks, fitted, training)
        scores = np.empty((len(is_known), len(tasks)))
        scores[is_known], scores[~is_known] = known, weights @ known
        return scores

    return score


#: Principal coordinates on either side.
_COMPONENTS = 8


def boosted_trees(training: Study) -> Scorer:
    """Gradient boosting of z-scores on pairs (``HistGradientBoostingRegressor`` of scikit-learn).

    A pair's features are the model's principal coordinates, its mean z-score over the other training datasets (missing
    for unknown models) and the dataset's principal coordinates. To teach the trees what to do without a mean z-score,
    a part of the training pairs has it removed.
    """
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(training.seed)
    z = z_scores(training.values)
    space = dataset_space(training.tasks)
    points = space(training.tasks)
    pca = PCA(min(_COMPONENTS, *points.shape), random_state=training.seed).fit(points)
    models = model_coordinates(training.models, training.known, _COMPONENTS)
    prior = row_means(z)
    rows, columns = np.nonzero(np.isfinite(z))
    # The pair's own value must not be in its prior.
    others = row_means_of_others(z, np.array(training.dataset_ids))[rows, columns]
    others[rng.random(len(rows)) < 0.2] = np.nan
    if not np.isfinite(others).any():
        # Every model was measured on one dataset only; the library can't bin a column of nothing.
        others[:] = 0.0
    features = np.column_stack([models[rows], others, pca.transform(points)[columns]])
    trees = HistGradientBoostingRegressor(l2_regularization=1.0, early_stopping=False, random_state=training.seed)
    # On a busy machine OpenMP's waiting threads cost more than a second thread gains on data of this size.
    with threadpool_limits(1, user_api="openmp"):
        trees.fit(features, z[rows, columns])

    def score(tasks: Sequence[TaskTokens]) -> Floats:
        sides = np.column_stack([models, prior])
        there = np.repeat(pca.transform(space(tasks)), len(models), axis=0)
        with threadpool_limits(1, user_api="openmp"):
            predicted: Floats = trees.predict(np.column_stack([np.tile(sides, (len(tasks), 1)), there]))
        return predicted.reshape(len(tasks), len(models)).T

    return score


def learned_token(training: Study) -> Scorer:
    """Cross-attention of learned model tokens over class means, trained by a listwise loss (ListMLE)."""
    # The only one that needs torch, for which commands that read settings don't wait.
    from thesis_rec.evaluation.learned_token import train

    return train(training)


_FUNCTIONS: dict[str, Baseline] = {
    function.__name__: function
    for function in (
        random,
        parameter_count,
        static_mean_accuracy,
        static_mean_z,
        static_mean_rank,
        nearest_dataset,
        matrix_factorisation,
        ridge,
        kernel_ridge,
        boosted_trees,
        learned_token,
    )
}

#: Names of all baselines.
BASELINES = tuple(_FUNCTIONS)


def baseline(name: str) -> Baseline:
    """The baseline of a name.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}; known: {', '.join(BASELINES)}")
    return _FUNCTIONS[name]
