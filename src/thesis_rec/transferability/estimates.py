"""Scores that estimate from one forward pass how well a model transfers to a task, each from its paper."""

import math
import warnings
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

Floats = NDArray[np.float64]


class ScoreInput:
    """Features and labels of a task, and the quantities that several scores share, computed when first asked for.

    Args:
        features: (N, D) features.
        labels: (N,) classes.

    Attributes:
        features: (N, D) float64.
        labels: (N,) places of the classes, 0..C-1.
        class_count: (C,) images of each class.
        one_hot: (N, C).

    Raises:
        ValueError: If the shapes don't fit each other or the task has fewer than two classes.
    """

    def __init__(self, features: ArrayLike, labels: ArrayLike) -> None:
        self.features = np.asarray(features, dtype=np.float64)
        names, self.labels, self.class_count = np.unique(labels, return_inverse=True, return_counts=True)
        if self.features.ndim != 2 or self.labels.shape != self.features.shape[:1]:
            raise ValueError(f"features {self.features.shape} and labels {self.labels.shape} don't fit")
        if len(names) < 2:
            raise ValueError("a task needs images of at least two classes")
        self.one_hot = np.eye(len(names))[self.labels]

    def means(self, rows: Floats) -> Floats:
        """(C, F) means of (N, F) rows within each class."""
        return self.one_hot.T @ rows / self.class_count[:, None]

    @cached_property
    def centred(self) -> Floats:
        """(N, D) features less their mean."""
        return np.asarray(self.features - self.features.mean(0))

    def principal(self, components: int) -> tuple[Floats, Floats]:
        """Coordinates on the first principal axes, largest variance first, and their variances.

        Returns:
            (N, P) coordinates and (P,) variances, ``P = min(components, N, D)``; both are zero on axes along which
            nothing varies but rounding.
        """
        values, vectors = (part[..., ::-1][..., :components] for part in scatter_eigen(self.centred))
        return self.centred @ vectors, values / len(self.labels)


def scatter_eigen(rows: Floats) -> tuple[Floats, Floats]:
    """Eigen-decomposition of ``X^T X`` without those eigenvalues that must be zero for want of rows.

    With fewer rows than features that of ``X X^T`` has the same eigenvalues but for zeros, and costs ``N^3`` instead of
    ``D^3``: an eigenvector ``u`` of it gives ``X^T u / sqrt(value)``.

    Args:
        rows: (N, D).

    Returns:
        The R = min(N, D) largest eigenvalues (R,), ascending, and their eigenvectors (D, R); both are zero where an
        eigenvalue is below ``D * eps`` times the largest, which is nothing but rounding.
    """
    wide = rows.shape[0] < rows.shape[1]
    values, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    rounding = values <= rows.shape[1] * np.finfo(np.float64).eps * values[-1]
    if wide:
        vectors = rows.T @ vectors / np.sqrt(np.where(rounding, 1.0, values))
    return np.where(rounding, 0.0, values), np.where(rounding, 0.0, vectors)


#: Variances below this share of the features' mean variance are raised to it, so that a feature that is constant in two
#: classes doesn't decide alone.
MIN_VARIANCE = 1e-4


def gbc(data: ScoreInput, components: int = 64) -> float:
    """Minus the summed overlap of all pairs of classes.

    Pandy et al., "Transferability Estimation using Bhattacharyya Class Separability", CVPR 2022.

    Features are reduced to their first ``components`` principal axes, each class becomes a Gaussian with one variance
    (the paper's best), and

        GBC = - sum_{i != j} exp(-D_B(i, j)),
        D_B = 1/8 d^T S^-1 d + 1/2 log(|S| / sqrt(|S_i| |S_j|)),  d = mu_i - mu_j,  S = (S_i + S_j) / 2.

    Axes along which nothing varies (constant features, more axes than images) are left out, and the floor of the
    variances is relative, so the score depends neither on constant features nor on the features' unit.

    Args:
        data: Features and labels.
        components: Number of principal axes (64 in the paper).

    Returns:
        The score, at most 0, higher is better.
    """
    x, whole = data.principal(components)  # (N, P), (P,)
    axes = max(np.count_nonzero(whole), 1)
    floor = MIN_VARIANCE * whole.sum() / axes or 1.0  # where nothing varies any variance does
    mean = data.means(x)
    # Deviations from the class's own mean first: differences of large squares would lose small variances.
    # Axes that aren't used add nothing to sums: nothing varies along them.
    variance = np.maximum(data.means(np.square(x - mean[data.labels])).sum(1) / axes, floor)  # (C,), along each axis
    middle = (variance[:, None] + variance) / 2  # (C, C)
    logs = np.log(variance)
    log_ratio = axes * (np.log(middle) - 0.5 * (logs[:, None] + logs))
    overlap = np.exp(-(cdist(mean, mean, "sqeuclidean") / middle / 8 + log_ratio / 2))
    return float(np.trace(overlap) - overlap.sum())


def h_score(data: ScoreInput, shrunk: bool = False) -> float:
    """``tr(cov(f)^+ cov(E[f | y]))``: between-class variance in units of the features' covariance.

    Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning", ICIP 2019; its shrunk
    form is of Ibrahim et al., "Newer is not always better: Rethinking transferability metrics, their peculiarities,
    stability and performance", ECML PKDD 2022.

    Args:
        data: Features and labels.
        shrunk: Replace the covariance by Ledoit and Wolf's ``(1 - a) S + a tr(S)/D I`` and multiply the score by
            ``1 - a``, as Ibrahim et al. propose for few images; else the pseudo-inverse is used, where eigenvalues
            below ``D * eps`` times the largest count as zero.

    Returns:
        The score, higher is better; at most C - 1 without shrinkage.
    """
    values, vectors = scatter_eigen(data.centred)  # of the scatter, n times the covariance
    n, width = data.features.shape
    between = data.class_count @ np.square(data.means(data.centred) @ vectors)  # (R,): diagonal of the between scatter
    if not shrunk:
        return float((between[values > 0] / values[values > 0]).sum())
    intensity = ledoit_wolf_shrinkage(data.features)
    regular = (1 - intensity) * values / n + intensity * values.sum() / n / width
    return float(((1 - intensity) * between / n / np.maximum(regular, np.finfo(np.float64).tiny)).sum())


def leep(probabilities: NDArray[Any], one_hot: Floats) -> float:
    """Mean log-likelihood of the labels when they are predicted from the source classes alone.

    Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", ICML 2020.

    With ``theta_i(z)`` the source model's probability of source class z for image i, the empirical joint
    ``P(y, z) = 1/n sum_{i: y_i = y} theta_i(z)`` gives ``P(y | z)``, and

        LEEP = 1/n sum_i log sum_z P(y_i | z) theta_i(z).

    Args:
        probabilities: (N, Z) probabilities of the source classes.
        one_hot: (N, C) labels.

    Returns:
        The score, at most 0, higher is better.
    """
    theta = np.asarray(probabilities, dtype=np.float64)
    joint = one_hot.T @ theta  # (C, Z), n times P(y, z)
    conditional = joint / np.maximum(joint.sum(0), 1e-300)
    expected = (theta @ conditional.T * one_hot).sum(1)  # (N,): probability of each image's own label
    return float(np.log(np.maximum(expected, 1e-300)).mean())


_SMALL = 1e-12


def log_me(data: ScoreInput, iterations: int = 100, tolerance: float = 1e-6) -> float:
    """Maximum log evidence per image, averaged over classes.

    You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021.

    For the indicator ``y`` of one class, weights ``w ~ N(0, I / alpha)`` and noise of precision ``beta``, the evidence

        L(alpha, beta) = n/2 log beta + d/2 log alpha - n/2 log 2 pi
                         - beta/2 |F m - y|^2 - alpha/2 |m|^2 - 1/2 log |alpha I + beta F^T F|

    with ``m = beta (alpha I + beta F^T F)^-1 F^T y`` is maximised by MacKay's fixed point
    ``alpha = gamma / |m|^2``, ``beta = (n - gamma) / |F m - y|^2``, ``gamma`` being the effective number of weights.
    The eigenvectors of ``F^T F`` (of ``F F^T`` with fewer images than features, which has the same eigenvalues but for
    zeros) turn each step into sums over min(n, d) numbers, for all classes at once. Features are not centred and there
    is no intercept, as in the authors' code; they stop after at most 11 steps, here it is run to convergence.

    Args:
        data: Features and labels.
        iterations: Most steps of the fixed point.
        tolerance: Relative change of ``alpha / beta`` below which all classes count as converged.

    Returns:
        The score, higher is better.
    """
    values, vectors = scatter_eigen(data.features)
    n, width = data.features.shape
    projected = vectors.T @ (data.features.T @ data.one_hot)  # (R, C): coordinates of F^T y
    # Squared coordinates of y on the left singular vectors, and the part of y outside their span.
    spectrum = values[:, None]  # (R, 1), R = min(N, D); the other D - R eigenvalues are zero
    inside = np.square(projected) / np.where(spectrum > 0, spectrum, np.inf)
    # |y|^2 of an indicator is the number of its ones.
    outside = np.maximum(data.class_count - inside.sum(0), 0.0)  # (C,)

    def moments(alpha: Floats, beta: Floats) -> tuple[Floats, Floats, Floats]:
        """Effective number of weights, |m|^2 and |F m - y|^2, each (C,)."""
        shrunk = beta * spectrum
        denominator = alpha + shrunk  # (R, C)
        weight = np.square(beta * projected / denominator).sum(0)
        residual = (inside * np.square(alpha / denominator)).sum(0) + outside
        return (shrunk / denominator).sum(0), weight, residual

    alpha = beta = np.ones(len(data.class_count))
    for _ in range(iterations):
        gamma, weight, residual = moments(alpha, beta)
        before = alpha / beta
        alpha = np.clip(gamma / np.maximum(weight, _SMALL), _SMALL, 1 / _SMALL)
        beta = np.clip((n - gamma) / np.maximum(residual, _SMALL), _SMALL, 1 / _SMALL)
        if (np.abs(alpha / beta / before - 1) < tolerance).all():
            break
    _, weight, residual = moments(alpha, beta)
    log_det = np.log(alpha + beta * spectrum).sum(0) + (width - len(values)) * np.log(alpha)
    evidence = n * np.log(beta / (2 * math.pi)) + width * np.log(alpha) - beta * residual - alpha * weight - log_det
    return float(evidence.mean() / (2 * n))


#: Share of variance that the kept principal components explain at least, and mixture components per class (never more
#: than there are images), as in the paper.
_ENERGY, _PER_CLASS = 0.8, 5


def n_leep(data: ScoreInput, seed: int = 0) -> float:
    """LEEP from the responsibilities of a Gaussian mixture fitted on principal components.

    Li et al., "Ranking Neural Checkpoints", CVPR 2021.

    The mixture has **diagonal** covariances: the paper's 5 components per class leave about ten images for each,
    too few for a full covariance in tens of dimensions. Coordinates are in units of their root mean variance, so that
    what is fitted doesn't depend on the features' unit.

    Args:
        data: Features and labels.
        seed: Seed of the mixture's starting point.

    Returns:
        The score, at most 0, higher is better.
    """
    coordinates, variances = data.principal(data.features.shape[1])  # (N, P), (P,)
    # As scikit-learn's PCA(n_components=0.8): the smallest number whose share exceeds the energy.
    number = int((variances.cumsum() <= _ENERGY * variances.sum()).sum()) + 1
    unit = np.sqrt(variances[:number].mean()) or 1.0
    components = min(_PER_CLASS * len(data.class_count), len(data.labels))
    mixture = GaussianMixture(components, covariance_type="diag", random_state=seed)
    with warnings.catch_warnings():
        # Of images that are all alike, or a fit that goes on: what it has found is used.
        warnings.simplefilter("ignore", ConvergenceWarning)
        points = coordinates[:, :number] / unit
        return leep(mixture.fit(points).predict_proba(points), data.one_hot)


def nearest_class_mean(data: ScoreInput) -> float:
    """Accuracy of the nearest class mean on the features as they are, each image left out in turn.

    An image that is alone in its class counts as an error.
    """
    distance = cdist(data.features, data.means(data.features))
    # Without image i its class mean is (n m - x) / (n - 1), at n / (n - 1) times the distance; nowhere if it is alone.
    own, count = (np.arange(len(data.labels)), data.labels), data.class_count[data.labels]
    distance[own] = np.where(count > 1, distance[own] * count / np.maximum(count - 1, 1), np.inf)
    return float((distance.argmin(1) == data.labels).mean())
