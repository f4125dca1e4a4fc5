"""Scores that estimate from one forward pass how well a model transfers to a task, each from its paper."""

import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from thesis_rec.base.devices import processors


class ScoreInput:
    """Features and labels of T tasks, and the quantities that several scores share, computed when first asked for.

    Args:
        features: (N, D) features of one task, or (T, N, D) of several.
        labels: (N,) or (T, N) integer classes 0..C-1; -1 marks padded rows.

    Attributes:
        features: (T, N, D), padded rows zero.
        labels: (T, N).
        valid: (T, N) bool, False for padding.
        count: (T,) number of images.
        one_hot: (T, N, C), padded rows zero.
        class_count: (T, C) images of each class, zero for a class that a task doesn't have.

    Raises:
        ValueError: If the shapes don't fit each other or a task has fewer than two classes.
    """

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        if features.ndim == 2:
            features, labels = features.unsqueeze(0), labels.unsqueeze(0)
        if features.ndim != 3 or labels.shape != features.shape[:2]:
            raise ValueError(f"features {tuple(features.shape)} and labels {tuple(labels.shape)} don't fit")
        self.labels = labels
        self.valid = labels >= 0
        self.features = features.double().masked_fill(~self.valid.unsqueeze(-1), 0.0)
        self.count = self.valid.sum(1).double()
        classes = int(labels.max()) + 1
        one_hot = torch.nn.functional.one_hot(labels.clamp(min=0), classes).double()
        self.one_hot = one_hot.masked_fill(~self.valid.unsqueeze(-1), 0.0)
        self.class_count = self.one_hot.sum(1)
        if bool(((self.class_count > 0).sum(1) < 2).any()):
            raise ValueError("every task needs images of at least two classes")

    @cached_property
    def centred(self) -> Tensor:
        """(T, N, D) features less their mean, padded rows zero."""
        mean = self.features.sum(1, keepdim=True) / self.count.view(-1, 1, 1)
        return (self.features - mean).masked_fill(~self.valid.unsqueeze(-1), 0.0)

    @cached_property
    def raw_eigen(self) -> tuple[Tensor, Tensor]:
        """As :func:`scatter_eigen`, of the uncentred scatter ``F^T F``."""
        return scatter_eigen(self.features)

    @cached_property
    def centred_eigen(self) -> tuple[Tensor, Tensor]:
        """As :func:`scatter_eigen`, of the centred scatter."""
        return scatter_eigen(self.centred)

    def principal(self, components: int) -> tuple[Tensor, Tensor]:
        """Coordinates on the first principal axes, largest variance first, and their variances.

        Returns:
            (T, N, P) coordinates and (T, P) variances, ``P = min(components, N, D)``; both are zero on axes along which
            nothing varies but rounding.
        """
        values, vectors = (part.flip(-1)[..., :components] for part in self.centred_eigen)
        return self.centred @ vectors, values / self.count.unsqueeze(-1)


def scatter_eigen(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Eigen-decomposition of ``X^T X`` without those eigenvalues that must be zero for want of rows.

    With fewer rows than features that of ``X X^T`` has the same eigenvalues but for zeros, and costs ``N^3`` instead of
    ``D^3``: an eigenvector ``u`` of it gives ``X^T u / sqrt(value)``.

    Args:
        rows: (T, N, D).

    Returns:
        The R = min(N, D) largest eigenvalues (T, R), ascending, and their eigenvectors (T, D, R); both are zero where
        an eigenvalue is below ``D * eps`` times the largest, which is nothing but rounding.
    """
    wide = rows.shape[1] < rows.shape[2]
    values, vectors = symmetric_eigen(rows @ rows.mT if wide else rows.mT @ rows)
    rounding = values <= rows.shape[2] * torch.finfo(values.dtype).eps * values.amax(-1, keepdim=True)
    if wide:
        vectors = rows.mT @ vectors * values.masked_fill(rounding, 1.0).rsqrt().unsqueeze(1)
    return values.masked_fill(rounding, 0.0), vectors.masked_fill(rounding.unsqueeze(1), 0.0)


#: Widths at which a GPU is too slow: torch 2.11 has it work through a batch one matrix at a time, for which an H200
#: takes up to three times as long as 16 threads of a CPU. Smaller ones are solved at once, with larger ones it wins.
ON_CPU = range(33, 300)


def symmetric_eigen(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigen-decomposition of a batch of positive semi-definite matrices, on their device or on the CPU.

    Args:
        matrices: (T, D, D).

    Returns:
        Eigenvalues (T, D) in ascending order, negative rounding errors set to zero, and eigenvectors (T, D, D).
    """
    if matrices.is_cuda and matrices.shape[-1] not in ON_CPU:
        values, vectors = torch.linalg.eigh(matrices)
    else:
        # NumPy's eigh releases the interpreter, and small matrices gain nothing from threads inside one.
        with threadpool_limits(1), ThreadPoolExecutor(processors()) as pool:
            parts = zip(*pool.map(np.linalg.eigh, matrices.cpu().numpy()), strict=True)
        values, vectors = (torch.from_numpy(np.stack(part)).to(matrices.device) for part in parts)
    return values.clamp(min=0.0), vectors


#: Variances below this share of the features' mean variance are raised to it, so that a feature that is constant in two
#: classes doesn't decide alone.
MIN_VARIANCE = 1e-4


def gbc(data: ScoreInput, components: int = 64) -> Tensor:
    """Minus the summed overlap of all pairs of classes.

    Pandy et al., "Transferability Estimation using Bhattacharyya Class Separability", CVPR 2022.

    Features are reduced to their first ``components`` principal axes, each class becomes a Gaussian with one variance
    (the paper's best), and

        GBC = - sum_{i != j} exp(-D_B(i, j)),
        D_B = 1/8 d^T S^-1 d + 1/2 log(|S| / sqrt(|S_i| |S_j|)),  d = mu_i - mu_j,  S = (S_i + S_j) / 2.

    Axes along which nothing varies (constant features, more axes than images) are left out, and the floor of the
    variances is relative, so the score depends neither on constant features nor on the features' unit.

    Args:
        data: Features and labels of T tasks.
        components: Number of principal axes (64 in the paper).

    Returns:
        (T,) scores, at most 0, higher is better.
    """
    x, whole = data.principal(components)  # (T, N, P), (T, P)
    axes = (whole > 0).sum(-1).clamp(min=1).view(-1, 1, 1)
    floor = MIN_VARIANCE * whole.sum(-1).view(-1, 1, 1) / axes
    floor = floor.masked_fill(floor == 0, 1.0)  # where nothing varies any variance does
    count = data.class_count.clamp(min=1.0).unsqueeze(-1)  # (T, C, 1)
    mean = data.one_hot.mT @ x / count  # (T, C, P)
    # Deviations from the class's own mean first: differences of large squares would lose small variances.
    deviation = (x - data.one_hot @ mean).square()
    # Axes that aren't used add nothing to sums: nothing varies along them.
    variance = (data.one_hot.mT @ deviation / count).sum(-1, keepdim=True) / axes
    variance = torch.maximum(variance, floor)  # (T, C, 1), the same along each axis that is used
    middle = (variance + variance.mT) / 2  # (T, C, C)
    distance = (mean.unsqueeze(2) - mean.unsqueeze(1)).square().sum(-1) / middle
    log_ratio = axes * (middle.log() - 0.5 * (variance.log() + variance.mT.log()))
    overlap = torch.exp(-(distance / 8 + log_ratio / 2))
    present = data.class_count > 0
    itself = torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    pairs = present.unsqueeze(2) & present.unsqueeze(1) & ~itself
    return -overlap.masked_fill(~pairs, 0.0).sum((1, 2))


def h_score(data: ScoreInput, shrunk: bool = False) -> Tensor:
    """``tr(cov(f)^+ cov(E[f | y]))``: between-class variance in units of the features' covariance.

    Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning", ICIP 2019; its shrunk
    form is of Ibrahim et al., "Newer is not always better: Rethinking transferability metrics, their peculiarities,
    stability and performance", ECML PKDD 2022.

    Args:
        data: Features and labels of T tasks.
        shrunk: Replace the covariance by Ledoit and Wolf's ``(1 - a) S + a tr(S)/D I`` and multiply the score by
            ``1 - a``, as Ibrahim et al. propose for few images; else the pseudo-inverse is used, where eigenvalues
            below ``D * eps`` times the largest count as zero.

    Returns:
        (T,) scores, higher is better; at most C - 1 without shrinkage.
    """
    values, vectors = data.centred_eigen  # of the scatter, n times the covariance
    width = data.features.shape[-1]
    count = data.class_count.unsqueeze(-1)  # (T, C, 1)
    spread = (data.one_hot.mT @ data.centred / count.clamp(min=1.0) @ vectors).square()  # (T, C, R), R = min(N, D)
    between = (count * spread).sum(1)  # (T, R): diagonal of the between scatter
    if not shrunk:
        return torch.where(values > 0, between / values, 0.0).sum(-1)
    n = data.count.unsqueeze(-1)
    covariance = values / n
    intensity = shrinkage(data).unsqueeze(-1)
    target = covariance.sum(-1, keepdim=True) / width
    regular = (1 - intensity) * covariance + intensity * target
    safe = regular.clamp(min=torch.finfo(values.dtype).tiny)
    return ((1 - intensity) * between / n / safe).sum(-1)


def shrinkage(data: ScoreInput) -> Tensor:
    """Ledoit and Wolf's (2004) optimal weight of the scaled identity, (T,) in 0..1."""
    values, _ = data.centred_eigen
    n, width = data.count, data.features.shape[-1]
    covariance = values / n.unsqueeze(-1)
    norm = covariance.square().sum(-1)
    distance = norm - covariance.sum(-1).square() / width
    noise = (data.centred.square().sum(-1).square().sum(-1) / n - norm) / n
    return torch.where(distance > 0, noise.clamp(min=0.0) / distance.clamp(min=1e-300), 1.0).clamp(0.0, 1.0)


def leep(probabilities: Tensor, one_hot: Tensor) -> Tensor:
    """Mean log-likelihood of the labels when they are predicted from the source classes alone.

    Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", ICML 2020.

    With ``theta_i(z)`` the source model's probability of source class z for image i, the empirical joint
    ``P(y, z) = 1/n sum_{i: y_i = y} theta_i(z)`` gives ``P(y | z)``, and

        LEEP = 1/n sum_i log sum_z P(y_i | z) theta_i(z).

    Args:
        probabilities: (T, N, Z) probabilities of the source classes.
        one_hot: (T, N, C) labels, all-zero rows being padding.

    Returns:
        (T,) scores, at most 0, higher is better.
    """
    valid = one_hot.sum(-1) > 0  # (T, N)
    theta = probabilities.to(one_hot.dtype).masked_fill(~valid.unsqueeze(-1), 0.0)
    joint = one_hot.mT @ theta  # (T, C, Z), n times P(y, z)
    conditional = joint / joint.sum(1, keepdim=True).clamp(min=1e-300)
    expected = (theta @ conditional.mT * one_hot).sum(-1)  # (T, N): probability of each image's own label
    logs = expected.clamp(min=1e-300).log().masked_fill(~valid, 0.0)
    return logs.sum(-1) / valid.sum(-1)


_SMALL = 1e-12


def log_me(data: ScoreInput, iterations: int = 100, tolerance: float = 1e-6) -> Tensor:
    """Maximum log evidence per image, averaged over classes.

    You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021.

    For the indicator ``y`` of one class, weights ``w ~ N(0, I / alpha)`` and noise of precision ``beta``, the evidence

        L(alpha, beta) = n/2 log beta + d/2 log alpha - n/2 log 2 pi
                         - beta/2 |F m - y|^2 - alpha/2 |m|^2 - 1/2 log |alpha I + beta F^T F|

    with ``m = beta (alpha I + beta F^T F)^-1 F^T y`` is maximised by MacKay's fixed point
    ``alpha = gamma / |m|^2``, ``beta = (n - gamma) / |F m - y|^2``, ``gamma`` being the effective number of weights.
    The eigenvectors of ``F^T F`` (of ``F F^T`` with fewer images than features, which has the same eigenvalues but for
    zeros) turn each step into sums over min(n, d) numbers, for all classes and tasks at once. Features
    are not centred and there is no intercept, as in the authors' code; they stop after at most 11 steps, here it is
    run to convergence.

    Args:
        data: Features and labels of T tasks.
        iterations: Most steps of the fixed point.
        tolerance: Relative change of ``alpha / beta`` below which all classes count as converged.

    Returns:
        (T,) scores, higher is better.
    """
    values, vectors = data.raw_eigen
    spectrum = values.unsqueeze(-1)  # (T, R, 1), R = min(N, D); the other D - R eigenvalues are zero
    n = data.count.view(-1, 1)  # (T, 1)
    width = data.features.shape[-1]
    projected = vectors.mT @ (data.features.mT @ data.one_hot)  # (T, R, C): coordinates of F^T y
    # Squared coordinates of y on the left singular vectors, and the part of y outside their span.
    inside = torch.where(spectrum > 0, projected.square() / spectrum, 0.0)
    total = data.class_count  # |y|^2 of an indicator is the number of its ones
    outside = (total - inside.sum(1)).clamp(min=0.0)  # (T, C)

    target = (spectrum, projected, inside, outside)
    alpha = torch.ones_like(total)
    beta = torch.ones_like(total)
    for step in range(iterations):
        gamma, weight, residual = _moments(target, alpha, beta)
        before = alpha / beta
        alpha = (gamma / weight.clamp(min=_SMALL)).clamp(_SMALL, 1 / _SMALL)
        beta = ((n - gamma) / residual.clamp(min=_SMALL)).clamp(_SMALL, 1 / _SMALL)
        # Looking at the result makes a GPU wait, so it isn't done at every step.
        if step % 10 == 9 and bool(((alpha / beta / before - 1).abs() < tolerance).all()):
            break
    _, weight, residual = _moments(target, alpha, beta)
    log_det = (alpha.unsqueeze(1) + beta.unsqueeze(1) * spectrum).log().sum(1)
    log_det = log_det + (width - values.shape[-1]) * alpha.log()
    evidence = n * (beta / (2 * math.pi)).log() + width * alpha.log() - beta * residual - alpha * weight - log_det
    present = data.class_count > 0
    return (evidence / (2 * n)).masked_fill(~present, 0.0).sum(1) / present.sum(1)


def _moments(target: tuple[Tensor, Tensor, Tensor, Tensor], alpha: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
    """Effective number of weights, |m|^2 and |F m - y|^2, each (T, C)."""
    spectrum, projected, inside, outside = target
    shrunk = beta.unsqueeze(1) * spectrum
    denominator = alpha.unsqueeze(1) + shrunk  # (T, R, C)
    gamma = (shrunk / denominator).sum(1)
    weight = (beta.unsqueeze(1) * projected / denominator).square().sum(1)
    residual = (inside * (alpha.unsqueeze(1) / denominator).square()).sum(1) + outside
    return gamma, weight, residual


#: Share of variance that the kept principal components explain at least, and mixture components per class (never more
#: than there are images), as in the paper.
_ENERGY, _PER_CLASS = 0.8, 5


def n_leep(data: ScoreInput, seed: int = 0) -> Tensor:
    """LEEP from the responsibilities of a Gaussian mixture fitted on principal components.

    Li et al., "Ranking Neural Checkpoints", CVPR 2021.

    The mixture has **diagonal** covariances: the paper's 5 components per class leave about ten images for each,
    too few for a full covariance in tens of dimensions. It is scikit-learn's, fitted on the CPU, task by task.
    Coordinates are in units of their root mean variance, so that what is fitted doesn't depend on the features' unit.

    Args:
        data: Features and labels of T tasks.
        seed: Seed of the mixtures' starting points.

    Returns:
        (T,) scores, at most 0, higher is better.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    coordinates, variances = data.principal(data.features.shape[-1])  # (T, N, P), (T, P)
    shares = variances.cumsum(-1) / variances.sum(-1, keepdim=True).clamp(min=1e-300)
    # As scikit-learn's PCA(n_components=0.8): the smallest number whose share exceeds the energy.
    numbers = ((shares <= _ENERGY).sum(-1) + 1).clamp(max=variances.shape[-1])
    most = torch.minimum(_PER_CLASS * (data.class_count > 0).sum(1), data.count.long())
    responsibilities = coordinates.new_zeros(*coordinates.shape[:2], int(most.max()))
    for task, (number, components) in enumerate(zip(numbers.tolist(), most.tolist(), strict=True)):
        unit = variances[task, :number].mean().sqrt() or 1.0
        points = (coordinates[task, data.valid[task], :number] / unit).cpu().numpy()
        mixture = GaussianMixture(components, covariance_type="diag", random_state=seed)
        with warnings.catch_warnings():
            # Of images that are all alike, or a fit that goes on: what it has found is used.
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = torch.from_numpy(mixture.fit(points).predict_proba(points))
        responsibilities[task, data.valid[task], :components] = found.to(coordinates)
    return leep(responsibilities, data.one_hot)


def nearest_class_mean(data: ScoreInput) -> Tensor:
    """Accuracy of the nearest class mean on the features as they are, each image left out in turn.

    Args:
        data: Features and labels of T tasks.

    Returns:
        (T,) accuracies. An image that is alone in its class counts as an error.
    """
    x, one_hot, count = data.features, data.one_hot, data.class_count
    means = one_hot.mT @ x / count.clamp(min=1.0).unsqueeze(-1)
    distance = (x.square().sum(-1, keepdim=True) - 2 * x @ means.mT + means.square().sum(-1).unsqueeze(1)).clamp(
        min=0.0
    )
    # Without image i its class mean is (n m - x) / (n - 1), at n / (n - 1) times the distance; nowhere if it is alone.
    factor = torch.where(count > 1, count / (count - 1).clamp(min=1.0), torch.inf).square().unsqueeze(1)
    distance = torch.where(one_hot > 0, (distance * factor).nan_to_num(nan=torch.inf), distance)
    distance = distance.masked_fill((count == 0).unsqueeze(1), torch.inf)
    return one_hot.gather(-1, distance.argmin(-1, keepdim=True)).sum((1, 2)) / data.count
