"""What every transferability score reads: features and labels of one task or of a padded batch of tasks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from thesis_rec.base.devices import processors

logger = logging.getLogger(__name__)


class ScoreInput:
    """Features and labels of T tasks, and the quantities that several scores share, computed when first asked for.

    Args:
        features: (N, D) features of one task, or (T, N, D) of several.
        labels: (N,) or (T, N) integer classes 0..C-1; -1 marks padded rows.
        dtype: Precision of the computation.

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

    def __init__(self, features: Tensor, labels: Tensor, dtype: torch.dtype = torch.float64) -> None:
        if features.ndim == 2:
            features, labels = features.unsqueeze(0), labels.unsqueeze(0)
        if features.ndim != 3 or labels.shape != features.shape[:2]:
            raise ValueError(f"features {tuple(features.shape)} and labels {tuple(labels.shape)} don't fit")
        self.labels = labels
        self.valid = labels >= 0
        self.features = features.to(dtype).masked_fill(~self.valid.unsqueeze(-1), 0.0)
        self.count = self.valid.sum(1).to(dtype)
        classes = int(labels.max()) + 1
        one_hot = torch.nn.functional.one_hot(labels.clamp(min=0), classes).to(dtype)
        self.one_hot = one_hot.masked_fill(~self.valid.unsqueeze(-1), 0.0)
        self.class_count = self.one_hot.sum(1)
        if bool(((self.class_count > 0).sum(1) < 2).any()):
            raise ValueError("every task needs images of at least two classes")

    @cached_property
    def mean(self) -> Tensor:
        """(T, D) mean feature of each task."""
        return self.features.sum(1) / self.count.unsqueeze(-1)

    @cached_property
    def centred(self) -> Tensor:
        """(T, N, D) features less their mean, padded rows zero."""
        return (self.features - self.mean.unsqueeze(1)).masked_fill(~self.valid.unsqueeze(-1), 0.0)

    @cached_property
    def class_means(self) -> Tensor:
        """(T, C, D) mean of each class less the task's mean; zero for absent classes."""
        return self.one_hot.mT @ self.centred / self.class_count.clamp(min=1.0).unsqueeze(-1)

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


_on_cpu: dict[int, bool] = {}


def symmetric_eigen(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigen-decomposition of a batch of positive semi-definite matrices.

    Some releases of torch work through a batch on the GPU one matrix at a time, which is slower than a pool of CPU
    threads; both ways are tried on a few matrices of each new size and the faster one is kept.

    Args:
        matrices: (T, D, D).

    Returns:
        Eigenvalues (T, D) in ascending order, negative rounding errors set to zero, and eigenvectors (T, D, D).
    """
    if matrices.is_cuda and not _cpu_is_faster(matrices):
        values, vectors = torch.linalg.eigh(matrices)
    else:
        values, vectors = (part.to(matrices.device) for part in _pooled_eigen(matrices.cpu()))
    return values.clamp(min=0.0), vectors


def _cpu_is_faster(matrices: Tensor) -> bool:
    width = matrices.shape[-1]
    if width not in _on_cpu:
        few, many, count = 4, 32, len(matrices)
        torch.linalg.eigh(matrices[:few])  # the solver's set-up isn't part of the comparison
        first = _seconds(torch.linalg.eigh, matrices[:few])
        second = _seconds(torch.linalg.eigh, matrices[:many])
        # A batched solver's time hardly grows with the batch, a loop's in proportion.
        on_gpu = second + max(0.0, second - first) / (many - few) * max(0, count - many)
        on_cpu = _seconds(lambda part: _pooled_eigen(part.cpu()), matrices[:many]) * max(1.0, count / many)
        _on_cpu[width] = on_cpu < on_gpu
        logger.info("eigenvectors of %s: about %.3f s on the GPU, %.3f s off it", list(matrices.shape), on_gpu, on_cpu)
    return _on_cpu[width]


def _seconds(solve: Callable[[Tensor], object], matrices: Tensor) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    solve(matrices)
    torch.cuda.synchronize()
    return time.perf_counter() - started


def _pooled_eigen(matrices: Tensor) -> tuple[Tensor, Tensor]:
    # NumPy's eigh releases the interpreter, and small matrices gain nothing from threads inside one.
    with threadpool_limits(1), ThreadPoolExecutor(processors()) as pool:
        parts = list(pool.map(np.linalg.eigh, matrices.numpy()))
    values = torch.from_numpy(np.stack([part[0] for part in parts]))
    vectors = torch.from_numpy(np.stack([part[1] for part in parts]))
    return values, vectors
