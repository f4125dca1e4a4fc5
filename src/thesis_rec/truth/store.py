"""Images of base tasks in memory, and tasks as selections of their classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TaskImages:
    """A base task's images.

    Attributes:
        dataset_id: Identifier.
        train_images: (N, H, W, 3) uint8 RGB, from which probes and fine-tuning draw.
        train_labels: (N,) int64 in 0..C-1.
        test_images: (T, H, W, 3) uint8 RGB.
        test_labels: (T,) int64.
        class_names: C names.
    """

    dataset_id: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: list[str]


@dataclass(frozen=True)
class MeasuredTask:
    """A task to measure: classes of one or several base tasks.

    Attributes:
        dataset_id: Identifier of the task.
        members: (base dataset id, class index there) of each of its classes, in order.
        draws: Whether every few-shot draw is a record of its own (base tasks), or only their mean (sub-tasks).
    """

    dataset_id: str
    members: tuple[tuple[str, int], ...]
    draws: bool = True
