"""Responses of a model on a fixed reference bank of images: a description that carries over between architectures.

The bank consists of reference tasks, which are never used for evaluation or pre-training, so a model's responses are
measured once and say nothing directly about any target. They have four parts, in this order:

- for each reference task: leave-one-out accuracy of the nearest class mean, centred kernel-target alignment
  (Cortes et al., JMLR 2012, linear kernel), and mean few-shot linear-probe accuracy;
- a fixed random projection of the centred, normalised Gram matrix of landmark images, that is of the geometry of the
  representation as centred kernel alignment (Kornblith et al., ICML 2019) compares it;
- global statistics of the features over all reference images;
- few-shot linear-probe accuracy on sub-tasks of the reference tasks (subsets and mixtures of their classes), which cost
  no forward pass and say far more finely which distinctions a model makes easy.

Features are standardised by their mean and standard deviation over the reference images first: the linear probe
standardises too, so this is the geometry that decides its result.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import MeasuredTask
from thesis_rec.truth.linear_probe import ClassRows
from thesis_rec.truth.settings import ResponseSettings
from thesis_rec.truth.subtasks import draw_subtasks

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

PER_TASK = ("nearest_mean", "alignment", "linear_probe")
#: How the names of the responses on sub-tasks end.
ON_SUBTASK = "/subtask_probe"
STATISTICS = ("effective_rank", "participation_ratio", "sparsity", "dead_share", "log10_width", "log10_norm")


def reference_subtasks(n_classes: Mapping[str, int], settings: ResponseSettings) -> list[MeasuredTask]:
    """The sub-tasks of the reference tasks on which models are probed.

    Args:
        n_classes: Number of classes of each reference task, in order.
        settings: How many.
    """
    drawn = draw_subtasks(n_classes, settings.subtasks, settings.seed)
    return [MeasuredTask(f"reference_{number:04d}", members, draws=False) for number, members in enumerate(drawn)]


def response_names(n_classes: Mapping[str, int], settings: ResponseSettings) -> list[str]:
    """Names of the responses, in order: ``task/measure``, ``geometry/000``..., ``features/statistic``, sub-tasks.

    Args:
        n_classes: Number of classes of each reference task, in order.
        settings: Sizes.
    """
    if not n_classes:
        return []
    return [
        *(f"{dataset_id}/{measure}" for dataset_id in n_classes for measure in PER_TASK),
        *(f"geometry/{index:03d}" for index in range(settings.projections)),
        *(f"features/{statistic}" for statistic in STATISTICS),
        *(f"{task.dataset_id}{ON_SUBTASK}" for task in reference_subtasks(n_classes, settings)),
    ]


def overlay_responses(parts: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Join responses of several zoos; of a model that several have, the last ones count.

    Args:
        parts: ``responses`` (M, R), ``model_ids`` (M,) and ``names`` (R,), the most trusted last.

    Returns:
        The same of all models; empty without any. Responses on another reference bank than the first part's are left
        out.
    """
    filled = [part for part in parts if len(part.get("responses", ()))]
    if not filled:
        return {}
    found: dict[str, NDArray[np.float32]] = {}
    for part in filled:
        if not np.array_equal(part["names"], filled[0]["names"]):
            names = ", ".join(map(str, part["model_ids"][:3]))
            logger.warning("responses of %s … were measured on another reference bank; they are left out", names)
            continue
        found |= dict(zip(map(str, part["model_ids"]), np.asarray(part["responses"], dtype=np.float32), strict=True))
    responses = np.stack(list(found.values()))
    return {"responses": responses, "model_ids": np.array(list(found)), "names": filled[0]["names"]}


def landmark_rows(
    reference: Sequence[str], classes: Mapping[str, Sequence[ClassRows]], settings: ResponseSettings
) -> NDArray[np.int64]:
    """Rows of the landmark images: round after round, one training image of the next class of each reference task."""
    count = min(settings.landmarks, sum(len(rows.train) for name in reference for rows in classes[name]))
    chosen: list[int] = []
    turn = 0
    while len(chosen) < count:
        for name in reference:
            members = classes[name]
            # Classes in an order that spreads the first few over the whole list of classes.
            position, depth = turn % len(members), turn // len(members)
            rows = members[(position * _stride(len(members))) % len(members)].train
            if depth < len(rows) and len(chosen) < count:
                chosen.append(int(rows[depth]))
        turn += 1
    return np.asarray(chosen, dtype=np.int64)


def _stride(length: int) -> int:
    """A step near 0.62 of ``length`` that visits every position."""
    step = max(1, round(0.618 * length))
    while np.gcd(step, length) != 1:
        step += 1
    return step


def projection_matrix(landmarks: int, settings: ResponseSettings) -> NDArray[np.float64]:
    """The (projections, L (L + 1) / 2) Gaussian matrix that acts on the upper triangle of the Gram matrix."""
    entries = landmarks * (landmarks + 1) // 2
    return np.random.default_rng(settings.seed).standard_normal((settings.projections, entries))


def standardise(features: Tensor) -> Tensor:
    """Features (N, D) with zero mean and unit variance; constant ones become zero."""
    centred = features - features.mean(0)
    spread = centred.square().mean(0).sqrt()
    dead = spread <= 1e-6 * features.abs().amax(0).clamp(min=1e-30)
    return (centred / spread.masked_fill(dead, 1.0)).masked_fill(dead, 0.0)


def kernel_alignment(x: Tensor, one_hot: Tensor) -> Tensor:
    """Centred alignment of the linear kernel with the label kernel, (T,) in 0..1; arguments as above."""
    valid = (one_hot.sum(-1, keepdim=True) > 0).to(x.dtype)
    n = valid.sum(1, keepdim=True)
    xc = (x - (x * valid).sum(1, keepdim=True) / n) * valid
    yc = (one_hot - one_hot.sum(1, keepdim=True) / n) * valid
    cross = (xc.mT @ yc).square().sum((1, 2))
    norms = (xc.mT @ xc).square().sum((1, 2)).sqrt() * (yc.mT @ yc).square().sum((1, 2)).sqrt()
    return cross / norms.clamp(min=1e-300)


def geometry(x: Tensor, projection: Tensor) -> Tensor:
    """Random projection of the centred Gram matrix of unit Frobenius norm.

    Args:
        x: (L, D) standardised features of the landmarks.
        projection: (P, L (L + 1) / 2) Gaussian matrix.

    Returns:
        (P,) projections of unit expected variance.
    """
    import torch

    centred = x - x.mean(0)
    gram = centred @ centred.mT
    gram = gram / gram.square().sum().sqrt().clamp(min=1e-300)
    rows, columns = torch.triu_indices(len(gram), len(gram), device=x.device)
    # Entries off the diagonal stand for two, so that the projection keeps the Frobenius norm.
    entries = gram[rows, columns] * torch.where(rows == columns, 1.0, 2.0**0.5)
    return projection @ entries


def statistics(features: Tensor) -> Tensor:
    """The global statistics named in :data:`STATISTICS`.

    Args:
        features: (N, D) raw features of all reference images.

    Returns:
        (6,): log effective rank and log participation ratio of the correlation matrix, mean Hoyer sparsity of an
        image's features (0 dense, 1 one-hot), share of constant features, log10 D, log10 of the mean feature norm.
    """
    import torch

    x = standardise(features)
    width = x.shape[1]
    values = torch.linalg.eigvalsh((x.mT @ x / len(x)).cpu()).clamp(min=0.0).to(x.device)
    share = values / values.sum().clamp(min=1e-300)
    entropy = -(share * share.clamp(min=1e-300).log()).sum()
    participation = 1 / share.square().sum().clamp(min=1e-300)
    norm = features.norm(dim=1)
    root = width**0.5
    hoyer = (root - features.abs().sum(1) / norm.clamp(min=1e-30)) / max(root - 1, 1e-12)
    dead = (x == 0).all(0).to(x.dtype).mean()
    width_log = torch.tensor(float(width), dtype=x.dtype, device=x.device).log10()
    norm_log = norm.mean().clamp(min=1e-12).log10()
    return torch.stack([entropy, participation.log(), hoyer.mean(), dead, width_log, norm_log])
