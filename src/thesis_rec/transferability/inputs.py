"""What every transferability score reads: features and labels of one task or of a padded batch of tasks."""

from __future__ import annotations

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
