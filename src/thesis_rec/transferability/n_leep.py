"""N-LEEP: LEEP with the components of a Gaussian mixture in place of source classes.

Li et al., "Ranking Neural Checkpoints", CVPR 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thesis_rec.transferability.inputs import ScoreInput
from thesis_rec.transferability.leep import leep

#: Added to every variance of features whose mean variance is one, as ``reg_covar`` of sklearn's ``GaussianMixture``.
REGULARISATION = 1e-6


def n_leep(
    data: ScoreInput,
    *,
    energy: float = 0.8,
    per_class: int = 5,
    iterations: int = 100,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Tensor:
    """LEEP from the responsibilities of a Gaussian mixture fitted on principal components.

    The mixture has **diagonal** covariances: the paper's 5 components per class leave about ten images for each,
    too few for a full covariance in tens of dimensions. It starts from k-means and is fitted by expectation
    maximisation, for all tasks at once; a task whose mean log-likelihood changes by less than ``tolerance`` stands
    still from then on, as sklearn's fit would.

    Args:
        data: Features and labels of T tasks.
        energy: Share of variance that the kept principal components explain at least (0.8 in the paper).
        per_class: Mixture components per class (5 in the paper); never more than there are images.
        iterations: Most steps of expectation maximisation.
        tolerance: Change of the mean log-likelihood that ends a task's fit.
        seed: Seed of the k-means starting points.

    Returns:
        (T,) scores, at most 0, higher is better.
    """
    x, used = reduce_energy(data, energy)
    classes = (data.class_count > 0).sum(1)
    components = torch.minimum(per_class * classes, data.count.long())
    start = kmeans_responsibilities(x, data.valid, components, seed)
    mixture = fit_mixture(x, used, data.valid, start, iterations=iterations, tolerance=tolerance)
    return leep(mixture.responsibilities, data.one_hot)


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


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture of every task.

    Attributes:
        responsibilities: (T, N, K) posterior of the components given each image.
        weights: (T, K) mixing proportions.
        means: (T, K, P).
        variances: (T, K, P); 1 in dimensions that a task doesn't use.
        bound: (T,) mean log-likelihood per image.
    """

    responsibilities: Tensor
    weights: Tensor
    means: Tensor
    variances: Tensor
    bound: Tensor


def fit_mixture(
    x: Tensor,
    used: Tensor,
    valid: Tensor,
    responsibilities: Tensor,
    *,
    iterations: int = 100,
    tolerance: float = 1e-3,
) -> Mixture:
    """Expectation maximisation of Gaussian mixtures with diagonal covariances, batched over tasks.

    Args:
        x: (T, N, P) points, zero in unused dimensions.
        used: (T, P) dimensions that each task uses.
        valid: (T, N) False for padding.
        responsibilities: (T, N, K) start, padded rows zero.
        iterations: Most steps.
        tolerance: Change of the mean log-likelihood that ends a task's fit.

    Returns:
        The mixtures, with the responsibilities under their final parameters.
    """
    count = valid.sum(-1).to(x.dtype)
    points = _Points(x, x.square(), used, valid, count)
    parameters = _maximise(points, responsibilities)
    bound = torch.full_like(count, -torch.inf)
    running = torch.ones_like(count, dtype=torch.bool)
    for step in range(iterations):
        posterior, value = _expect(points, *parameters)
        weights, means, variances = _maximise(points, posterior)
        # The step in which the change falls below the tolerance is still taken, then the task rests.
        moving = running
        each, wide = moving.view(-1, 1), moving.view(-1, 1, 1)
        parameters = (
            torch.where(each, weights, parameters[0]),
            torch.where(wide, means, parameters[1]),
            torch.where(wide, variances, parameters[2]),
        )
        running = moving & ((value - bound).abs() >= tolerance)
        bound = torch.where(moving, value, bound)
        if step % 5 == 4 and not bool(running.any()):
            break
    posterior, bound = _expect(points, *parameters)
    return Mixture(posterior, *parameters, bound)


@dataclass(frozen=True)
class _Points:
    x: Tensor
    square: Tensor
    used: Tensor
    valid: Tensor
    count: Tensor


def _maximise(points: _Points, responsibilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = points.x
    mass = responsibilities.sum(1)  # (T, K); zero for components that a task doesn't have, which so get no weight
    shared = (mass + 10 * torch.finfo(x.dtype).eps).unsqueeze(-1)  # as sklearn
    means = responsibilities.mT @ x / shared
    variances = responsibilities.mT @ points.square / shared - means.square()
    variances = variances.clamp(min=0.0) + REGULARISATION
    return mass / points.count.unsqueeze(-1), means, variances.masked_fill(~points.used.unsqueeze(1), 1.0)


def _expect(points: _Points, weights: Tensor, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    x, valid = points.x, points.valid
    precision = 1 / variances  # (T, K, P)
    distance = points.square @ precision.mT - 2 * x @ (means * precision).mT
    distance = distance + (means.square() * precision).sum(-1).unsqueeze(1)
    constant = weights.log() - 0.5 * variances.log().sum(-1)  # (T, K), minus infinity for components without weight
    dimensions = points.used.sum(-1).to(x.dtype).view(-1, 1, 1)
    joint = constant.unsqueeze(1) - 0.5 * (distance + dimensions * math.log(2 * math.pi))  # (T, N, K)
    evidence = joint.logsumexp(-1)  # (T, N)
    posterior = (joint - evidence.unsqueeze(-1)).exp().masked_fill(~valid.unsqueeze(-1), 0.0)
    return posterior, evidence.masked_fill(~valid, 0.0).sum(-1) / points.count
