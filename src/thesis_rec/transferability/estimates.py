"""Scores that estimate from one forward pass how well a model transfers to a task, each from its paper."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from thesis_rec.transferability.inputs import ScoreInput

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
    used = whole > 0
    axes = used.sum(-1).clamp(min=1).view(-1, 1, 1)
    floor = MIN_VARIANCE * whole.sum(-1).view(-1, 1, 1) / axes
    count = data.class_count.clamp(min=1.0).unsqueeze(-1)  # (T, C, 1)
    mean = data.one_hot.mT @ x / count  # (T, C, P)
    # Deviations from the class's own mean first: differences of large squares would lose small variances.
    deviation = (x - data.one_hot @ mean).square()
    variance = data.one_hot.mT @ deviation / count  # (T, C, P)
    variance = (variance.sum(-1, keepdim=True) / axes).expand_as(variance)
    # An axis that isn't used has the same variance in all classes, so that it adds nothing.
    variance = torch.maximum(variance, floor).masked_fill(~used.unsqueeze(1), 1.0)
    first, second = variance.unsqueeze(2), variance.unsqueeze(1)  # (T, C, 1, P), (T, 1, C, P)
    middle = (first + second) / 2
    distance = (mean.unsqueeze(2) - mean.unsqueeze(1)).square() / middle
    log_ratio = middle.log() - 0.5 * (first.log() + second.log())
    overlap = torch.exp(-(distance.sum(-1) / 8 + log_ratio.sum(-1) / 2))  # (T, C, C)
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
    spread = (data.class_means @ vectors).square()  # (T, C, R), R = min(N, D)
    between = (data.class_count.unsqueeze(-1) * spread).sum(1)  # (T, R): diagonal of the between scatter
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
    evidence = (
        0.5 * n * beta.log()
        + 0.5 * width * alpha.log()
        - 0.5 * n * torch.log(torch.tensor(2 * torch.pi, dtype=n.dtype, device=n.device))
        - 0.5 * beta * residual
        - 0.5 * alpha * weight
        - 0.5 * log_det
    )
    present = data.class_count > 0
    return (evidence / n).masked_fill(~present, 0.0).sum(1) / present.sum(1)


def _moments(target: tuple[Tensor, Tensor, Tensor, Tensor], alpha: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
    """Effective number of weights, |m|^2 and |F m - y|^2, each (T, C)."""
    spectrum, projected, inside, outside = target
    shrunk = beta.unsqueeze(1) * spectrum
    denominator = alpha.unsqueeze(1) + shrunk  # (T, R, C)
    gamma = (shrunk / denominator).sum(1)
    weight = (beta.unsqueeze(1) * projected / denominator).square().sum(1)
    residual = (inside * (alpha.unsqueeze(1) / denominator).square()).sum(1) + outside
    return gamma, weight, residual


#: Added to every variance of features whose mean variance is one, as ``reg_covar`` of sklearn's ``GaussianMixture``.
REGULARISATION = 1e-6
#: Share of variance that the kept principal components explain at least, and mixture components per class (never more
#: than there are images), as in the paper.
_ENERGY, _PER_CLASS = 0.8, 5
#: Most steps of expectation maximisation, and the change of the mean log-likelihood that ends a task's fit.
_STEPS, _TOLERANCE = 100, 1e-3


def n_leep(data: ScoreInput, seed: int = 0) -> Tensor:
    """LEEP from the responsibilities of a Gaussian mixture fitted on principal components.

    Li et al., "Ranking Neural Checkpoints", CVPR 2021.

    The mixture has **diagonal** covariances: the paper's 5 components per class leave about ten images for each,
    too few for a full covariance in tens of dimensions. It starts from k-means and is fitted by expectation
    maximisation, for all tasks at once; a task whose mean log-likelihood changes by less than :data:`_TOLERANCE` stands
    still from then on, as sklearn's fit would.

    Args:
        data: Features and labels of T tasks.
        seed: Seed of the k-means starting points.

    Returns:
        (T,) scores, at most 0, higher is better.
    """
    x, used = reduce_energy(data, _ENERGY)
    classes = (data.class_count > 0).sum(1)
    components = torch.minimum(_PER_CLASS * classes, data.count.long())
    start = kmeans_responsibilities(x, data.valid, components, seed)
    responsibilities, _ = fit_mixture(x, used, data.valid, start)
    return leep(responsibilities, data.one_hot)


def reduce_energy(data: ScoreInput, energy: float) -> tuple[Tensor, Tensor]:
    """Principal coordinates that explain a share of the variance, in units of their root mean variance.

    What is fitted to them so doesn't depend on the unit of the features.

    Returns:
        (T, N, P) coordinates, zero beyond a task's own number of components, and that mask, (T, P).
    """
    values = data.centred_eigen[0].flip(-1)  # descending
    share = values.cumsum(-1) / values.sum(-1, keepdim=True).clamp(min=1e-300)
    # As sklearn's PCA(n_components=0.8): the smallest number whose share exceeds the energy.
    needed = (share <= energy).sum(-1) + 1  # (T,)
    widest = min(int(needed.max()), values.shape[-1])
    used = torch.arange(widest, device=values.device) < needed.unsqueeze(-1)  # (T, P)
    x, variance = data.principal(widest)
    kept = variance.masked_fill(~used, 0.0)
    mean = kept.sum(-1) / used.sum(-1)
    unit = torch.where(mean > 0, mean, 1.0).sqrt().view(-1, 1, 1)
    return x.masked_fill(~used.unsqueeze(1), 0.0) / unit, used


def kmeans_responsibilities(x: Tensor, valid: Tensor, components: Tensor, seed: int, iterations: int = 10) -> Tensor:
    """Hard assignments of every image to one of its task's clusters.

    Seeding is k-means++ (each next centre drawn in proportion to the squared distance to the nearest one so far).

    Args:
        x: (T, N, P) points.
        valid: (T, N) False for padding.
        components: (T,) number of clusters of each task.
        seed: Seed of the draws.
        iterations: Steps of Lloyd's algorithm.

    Returns:
        (T, N, K) zeros and ones; padded rows and clusters beyond a task's number are zero.
    """
    tasks, rows, _ = x.shape
    most = int(components.max())
    # Drawn on the CPU, so that every device starts from the same centres.
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(most, tasks, generator=generator, dtype=torch.float64).to(x.device, x.dtype)
    everyone = torch.arange(tasks, device=x.device)
    weight = valid.to(x.dtype)
    nearest = torch.full((tasks, rows), torch.inf, dtype=x.dtype, device=x.device)
    chosen = []
    for k in range(most):
        cumulative = weight.cumsum(-1)
        target = draws[k] * cumulative[:, -1]
        # The first row whose cumulative weight exceeds the target has weight itself: a padded row is never drawn
        # unless no weight is left, when all points coincide with centres and any will do.
        pick = (cumulative <= target.unsqueeze(-1)).sum(-1).clamp(max=rows - 1)
        centre = x[everyone, pick]  # (T, P)
        chosen.append(centre)
        nearest = torch.minimum(nearest, (x - centre.unsqueeze(1)).square().sum(-1))
        weight = nearest.masked_fill(~valid, 0.0)
    centres = torch.stack(chosen, dim=1)  # (T, K, P)
    absent = torch.arange(most, device=x.device) >= components.unsqueeze(-1)  # (T, K)
    hard = _assign(x, valid, centres, absent)
    for _ in range(iterations):
        count = hard.sum(1).unsqueeze(-1)  # (T, K, 1)
        centres = torch.where(count > 0, hard.mT @ x / count.clamp(min=1.0), centres)
        hard = _assign(x, valid, centres, absent)
    return hard


def _assign(x: Tensor, valid: Tensor, centres: Tensor, absent: Tensor) -> Tensor:
    distance = centres.square().sum(-1).unsqueeze(1) - 2 * x @ centres.mT  # (T, N, K), less |x|^2
    nearest = distance.masked_fill(absent.unsqueeze(1), torch.inf).argmin(-1)
    hard = torch.nn.functional.one_hot(nearest, centres.shape[1]).to(x.dtype)
    return hard.masked_fill(~valid.unsqueeze(-1), 0.0)


def fit_mixture(x: Tensor, used: Tensor, valid: Tensor, responsibilities: Tensor) -> tuple[Tensor, Tensor]:
    """Expectation maximisation of Gaussian mixtures with diagonal covariances, batched over tasks.

    Args:
        x: (T, N, P) points, zero in unused dimensions.
        used: (T, P) dimensions that each task uses.
        valid: (T, N) False for padding.
        responsibilities: (T, N, K) start, padded rows zero.

    Returns:
        (T, N, K) responsibilities under the final parameters, and (T,) mean log-likelihoods of an image.
    """
    count, square = valid.sum(-1).to(x.dtype), x.square()
    dimensions = used.sum(-1).to(x.dtype).view(-1, 1, 1)

    def maximise(given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(T, K) mixing proportions, (T, K, P) means and variances; variance 1 in dimensions that aren't used."""
        mass = given.sum(1)  # (T, K); zero for components that a task doesn't have, which so get no weight
        shared = (mass + 10 * torch.finfo(x.dtype).eps).unsqueeze(-1)  # as sklearn
        means = given.mT @ x / shared
        variances = (given.mT @ square / shared - means.square()).clamp(min=0.0) + REGULARISATION
        return mass / count.unsqueeze(-1), means, variances.masked_fill(~used.unsqueeze(1), 1.0)

    def expect(weights: Tensor, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
        precision = 1 / variances  # (T, K, P)
        distance = square @ precision.mT - 2 * x @ (means * precision).mT
        distance = distance + (means.square() * precision).sum(-1).unsqueeze(1)
        constant = weights.log() - 0.5 * variances.log().sum(-1)  # (T, K), minus infinity without weight
        joint = constant.unsqueeze(1) - 0.5 * (distance + dimensions * math.log(2 * math.pi))  # (T, N, K)
        evidence = joint.logsumexp(-1)  # (T, N)
        posterior = (joint - evidence.unsqueeze(-1)).exp().masked_fill(~valid.unsqueeze(-1), 0.0)
        return posterior, evidence.masked_fill(~valid, 0.0).sum(-1) / count

    parameters = maximise(responsibilities)
    bound = torch.full_like(count, -torch.inf)
    moving = torch.ones_like(count, dtype=torch.bool)
    for step in range(_STEPS):
        posterior, value = expect(*parameters)
        # The step in which the change falls below the tolerance is still taken, then the task rests.
        weights, means, variances = (
            torch.where(moving.view(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(maximise(posterior), parameters, strict=True)
        )
        parameters = weights, means, variances
        still = moving & ((value - bound).abs() >= _TOLERANCE)
        bound = torch.where(moving, value, bound)
        moving = still
        if step % 5 == 4 and not bool(moving.any()):
            break
    return expect(*parameters)


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
