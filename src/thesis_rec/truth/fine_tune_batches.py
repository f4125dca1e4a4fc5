"""The training batches and test images of one fine-tuned cell, drawn from its seed out of images on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from thesis_rec.models.backbone import Backbone
    from thesis_rec.truth.fine_tune import FineTuneSettings
    from thesis_rec.truth.store import MeasuredTask, TaskImages

#: Added to the logits of outputs that a task doesn't use.
_MASKED = -1e4


class ImageStore:
    """All train and test images in one tensor on the device, and where each task's images are.

    Args:
        images: Base tasks' images by identifier.
        device: Torch device.

    Attributes:
        pixels: (N, H, W, 3) uint8.
        train: For each base task, the first row of its training images and their labels.
        test: The same for test images.

    Raises:
        ValueError: If images differ in size.
    """

    def __init__(self, images: Mapping[str, TaskImages], device: str) -> None:
        self.train: dict[str, tuple[int, NDArray[np.int64]]] = {}
        self.test: dict[str, tuple[int, NDArray[np.int64]]] = {}
        parts: list[NDArray[np.uint8]] = []
        start = 0
        for name, task in images.items():
            for table, pictures, labels in (
                (self.train, task.train_images, task.train_labels),
                (self.test, task.test_images, task.test_labels),
            ):
                table[name] = (start, labels)
                parts.append(pictures)
                start += len(pictures)
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) > 1:
            raise ValueError(f"fine-tuning needs images of one size, but there are {sorted(shapes)}")
        self.pixels = torch.from_numpy(np.concatenate(parts)).to(device)

    def rows(self, table: dict[str, tuple[int, NDArray[np.int64]]], task: MeasuredTask) -> list[NDArray[np.int64]]:
        """Rows of the images of each class of a task."""
        found = []
        for base, index in task.members:
            start, labels = table[base]
            found.append(start + np.flatnonzero(labels == index))
        return found


@dataclass
class CellPlan:
    """One cell's random choices and test images.

    Attributes:
        task: The task.
        seed: Seed of the choices.
        inputs: What each update takes, by name, one row per update.
        test_rows: (T,) rows of the test images.
        test_labels: (T,) their classes.
        n_train: Number of training images.
    """

    task: MeasuredTask
    seed: int
    inputs: dict[str, Tensor]
    test_rows: NDArray[np.int64]
    test_labels: NDArray[np.int64]
    n_train: int


def plan_cell(
    task: MeasuredTask, seed: int, store: ImageStore, settings: FineTuneSettings, largest: int, device: str
) -> CellPlan:
    """Draw the batches of one cell.

    Args:
        task: The task.
        seed: Together with the task's name it decides images, batches and shifts.
        store: Images of the base tasks.
        settings: The recipe.
        largest: Outputs of the head, C; those beyond the task's classes are masked.
        device: Torch device of the inputs.

    Returns:
        The cell's plan; its inputs have one row per update: ``rows`` and ``labels`` (steps, batch), ``shifts`` in
        pixels (steps, batch, 2) and ``mask`` (steps, C).
    """
    rng = np.random.default_rng([seed, crc32(task.dataset_id.encode())])
    chosen, labels = [], []
    for index, rows in enumerate(store.rows(store.train, task)):
        count = max(1, min(settings.shots, (3 * len(rows)) // 4))
        chosen.append(rng.permutation(rows)[:count])
        labels.append(np.full(len(chosen[-1]), index))
    rows, targets = np.concatenate(chosen), np.concatenate(labels)
    wanted = settings.steps * settings.batch
    order = np.concatenate([rng.permutation(len(rows)) for _ in range(-(-wanted // len(rows)))])[:wanted]
    order = order.reshape(settings.steps, settings.batch)
    mask = torch.full((settings.steps, largest), _MASKED)
    mask[:, : len(task.members)] = 0.0
    tests = store.rows(store.test, task)
    shifts = rng.integers(-settings.shift, settings.shift + 1, (settings.steps, settings.batch, 2))
    return CellPlan(
        task=task,
        seed=seed,
        inputs={
            "rows": torch.from_numpy(rows[order].astype(np.int64)).to(device),
            "labels": torch.from_numpy(targets[order].astype(np.int64)).to(device),
            "shifts": torch.from_numpy(shifts).to(device),
            "mask": mask.to(device),
        },
        test_rows=np.concatenate(tests).astype(np.int64),
        test_labels=np.concatenate([np.full(len(found), i) for i, found in enumerate(tests)]),
        n_train=len(rows),
    )


def image_preparation(pixels: Tensor, backbone: Backbone) -> Callable[[Tensor, Tensor | None], Tensor]:
    """A function from rows of the image tensor (and shifts) to normalised images of the model's size.

    Args:
        pixels: (N, H, W, 3) uint8.
        backbone: The model; decides size, mean and standard deviation.

    Returns:
        A function of rows (B,) and shifts in pixels (B, 2), or None for no shifts, to (B, 3, S, S) float32.
    """
    mean = torch.tensor(backbone.mean, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(backbone.std, device=pixels.device).view(1, 3, 1, 1)
    height, width = pixels.shape[1:3]
    lines = torch.arange(height, device=pixels.device)[None]
    columns = torch.arange(width, device=pixels.device)[None]

    def prepare(rows: Tensor, shifts: Tensor | None) -> Tensor:
        if shifts is None:
            taken = pixels[rows]
        else:
            down = (lines + shifts[:, :1]).clamp(0, height - 1)
            across = (columns + shifts[:, 1:]).clamp(0, width - 1)
            taken = pixels[rows[:, None, None], down[:, :, None], across[:, None, :]]
        images = (taken.permute(0, 3, 1, 2).float() * (1 / 255.0) - mean) / std
        size = backbone.input_size
        if (height, width) != (size, size):
            images = functional.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
        return images.contiguous()

    return prepare
