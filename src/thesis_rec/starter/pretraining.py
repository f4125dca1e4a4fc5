"""From a recipe to a trained network: data, per-step random choices, losses, and training many recipes at once.

All random choices are drawn with NumPy from the recipe's seed before training, so that a model can be rebuilt on any
device from its recipe alone.

Objectives: cross-entropy over the source's classes; the rotation of an image by a multiple of 90 degrees (Gidaris et
al. 2018); and telling two views of an image from all others, NT-Xent (Chen et al. 2020, SimCLR).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from thesis_rec.starter.architectures import ARCHITECTURES, IMAGE_SIZE, MEAN, STD
from thesis_rec.starter.concurrent import TrainingJob, train_concurrently
from thesis_rec.starter.construction import build
from thesis_rec.starter.recipes import BATCH, ModelRecipe, Source
from thesis_rec.starter.step_runner import LossFunction, Optimisation

if TYPE_CHECKING:
    from thesis_rec.starter.concurrent import TrainingOutcome

#: (images uint8 (N, 32, 32, 3), labels int64 (N,), class names) of a base task's pre-training split.
TaskData = tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]

#: Outputs of a network trained by contrast: the width of its projection.
PROJECTION = 32
#: NT-Xent's temperature.
TEMPERATURE = 0.2
#: Largest shift of an augmented image in pixels, and spread of its brightness and contrast.
SHIFT, BRIGHTNESS, CONTRAST = 3, 0.15, 0.25


@dataclass
class Bank:
    """Pre-training images of many tasks in one tensor on one device.

    Attributes:
        images: (N, 32, 32, 3) uint8.
        rows: First row and number of rows of each task.
        labels: Class indices of each task's images, in order.
        class_names: Class names of each task.
    """

    images: Tensor
    rows: dict[str, tuple[int, int]]
    labels: dict[str, NDArray[np.int64]]
    class_names: dict[str, list[str]]

    @classmethod
    def of(cls, data: Mapping[str, TaskData], device: str = "cpu") -> Bank:
        """Put tasks' images together; none are enough for models that are not trained."""
        rows: dict[str, tuple[int, int]] = {}
        start = 0
        for task, (images, _, _) in data.items():
            rows[task] = (start, len(images))
            start += len(images)
        none = np.empty((0, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        together = np.concatenate([none, *(images for images, _, _ in data.values())])
        return cls(
            images=torch.from_numpy(together).to(device),
            rows=rows,
            labels={task: labels for task, (_, labels, _) in data.items()},
            class_names={task: list(names) for task, (_, _, names) in data.items()},
        )


def head_names(source: Source, class_names: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of the outputs of a network trained on a source."""
    if source.objective == "rotate":
        return ["0 degrees", "90 degrees", "180 degrees", "270 degrees"]
    if source.objective == "contrast":
        return [f"projection {i}" for i in range(PROJECTION)]
    if source.objective == "none":
        return [f"untrained {i}" for i in range(10)]
    if len(source.tasks) == 1:
        return list(class_names[source.tasks[0]])
    return [f"{task} {name}" for task in source.tasks for name in class_names[task]]


def training_job(recipe: ModelRecipe, bank: Bank) -> TrainingJob:
    """The training job of a recipe.

    Args:
        recipe: Which model.
        bank: Images of its source's tasks at least, on the device of the training.

    Returns:
        A job whose module has its initial weights on the CPU.
    """
    source = recipe.source
    module = build(ARCHITECTURES[recipe.architecture], head_names(source, bank.class_names), recipe.seed)
    rows, labels = _source_rows(source, bank)
    rng = np.random.default_rng([recipe.seed, 1])
    batch = BATCH // 2 if source.objective == "contrast" else BATCH
    picks = shuffled_batches(labels, recipe.steps, batch, rng)
    inputs = {"rows": torch.from_numpy(rows[picks])}
    if source.objective == "contrast":
        inputs["views"] = torch.from_numpy(view_parameters(recipe.steps, 2 * batch, rng))
    elif recipe.augment:
        inputs["shifts"] = torch.from_numpy(rng.integers(-SHIFT, SHIFT + 1, (recipe.steps, batch, 2)))
        inputs["tones"] = torch.from_numpy(
            rng.uniform(-1, 1, (recipe.steps, batch, 2)).astype(np.float32)
            * np.array([BRIGHTNESS, CONTRAST], np.float32)
        )
    if source.objective == "rotate":
        inputs["turns"] = torch.from_numpy(rng.integers(0, 4, (recipe.steps, batch)))
    elif source.objective == "classify":
        inputs["labels"] = torch.from_numpy(labels[picks])
    loss = _LOSSES[source.objective](bank.images, recipe.label_smoothing)
    optimisation = Optimisation(max(1, recipe.steps), recipe.learning_rate, recipe.weight_decay)
    return TrainingJob(recipe.model_id, module, loss, inputs, optimisation)


def train_recipes(
    recipes: Sequence[ModelRecipe], bank: Bank, device: str = "cpu", slots: int = 12, deadline: float | None = None
) -> Iterator[tuple[ModelRecipe, nn.Module, TrainingOutcome | None]]:
    """Train models, many at once on a GPU.

    Args:
        recipes: Which models; the longest are begun first, so that no slot runs alone at the end.
        bank: Images on ``device``.
        device: ``cpu`` or ``cuda``.
        slots: How many train at once on a GPU.
        deadline: ``time.monotonic()`` after which no further model is begun.

    Yields:
        Recipe, network on the CPU in evaluation mode, and the outcome (None for the controls, which aren't trained).
    """
    for recipe in recipes:
        if recipe.steps == 0:
            names = head_names(recipe.source, bank.class_names)
            yield recipe, build(ARCHITECTURES[recipe.architecture], names, recipe.seed).eval(), None
    trained = sorted((r for r in recipes if r.steps), key=lambda r: (-r.steps, r.model_id))
    by_name = {recipe.model_id: recipe for recipe in trained}
    jobs = (training_job(recipe, bank) for recipe in trained)
    for outcome in train_concurrently(jobs, device, slots, deadline):
        yield by_name[outcome.job.name], outcome.job.module, outcome


def shuffled_batches(labels: NDArray[np.int64], steps: int, batch: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions ``(steps, batch)`` into ``labels``: passes through all images in random order, cut into batches."""
    wanted = steps * batch
    passes = -(-wanted // len(labels)) if wanted else 0
    order = np.concatenate([rng.permutation(len(labels)) for _ in range(passes)]) if passes else np.empty(0, np.int64)
    return order[:wanted].reshape(steps, batch).astype(np.int64)


def view_parameters(steps: int, views: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Random views for contrastive learning.

    Returns:
        ``(steps, views, 8)``: scale of the crop (0.4..1), its centre (x, y), mirror sign, brightness, contrast, and two
        numbers that turn the colours.
    """
    scale = np.sqrt(rng.uniform(0.3, 1.0, (steps, views)))
    centre = rng.uniform(-1, 1, (steps, views, 2)) * (1 - scale[..., None])
    mirror = rng.choice([-1.0, 1.0], (steps, views))
    tones = rng.uniform(-1, 1, (steps, views, 4)) * [0.3, 0.4, 0.3, 0.3]
    parts = [scale[..., None], centre, mirror[..., None], tones]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def normalise(images: Tensor) -> Tensor:
    """``(B, H, W, 3)`` uint8 to ``(B, 3, H, W)`` float32 with the zoo's mean and standard deviation."""
    scaled = images.permute(0, 3, 1, 2).float()
    return (scaled * (1 / (255.0 * STD[0])) - MEAN[0] / STD[0]).contiguous()


def shifted(images: Tensor, shifts: Tensor) -> Tensor:
    """Images ``(B, H, W, 3)`` moved by whole pixels ``(B, 2)``, borders repeated."""
    n, height, width, _ = images.shape
    rows = (torch.arange(height, device=images.device)[None] + shifts[:, :1]).clamp(0, height - 1)  # (B, H)
    columns = (torch.arange(width, device=images.device)[None] + shifts[:, 1:]).clamp(0, width - 1)  # (B, W)
    which = torch.arange(n, device=images.device)[:, None, None]
    return images[which, rows[:, :, None], columns[:, None, :]]


def toned(images: Tensor, tones: Tensor) -> Tensor:
    """Normalised images ``(B, 3, H, W)`` with changed brightness and contrast ``(B, 2)``."""
    brightness, contrast = tones[:, 0, None, None, None], tones[:, 1, None, None, None]
    return images * (1 + contrast) + 2 * brightness


def viewed(images: Tensor, parameters: Tensor) -> Tensor:
    """Views of normalised images ``(V, 3, H, W)`` by the parameters ``(V, 8)`` of :func:`view_parameters`."""
    height, width = images.shape[-2:]
    scale, x, y, mirror = parameters[:, 0], parameters[:, 1], parameters[:, 2], parameters[:, 3]
    steps_x = torch.linspace(-1, 1, width, device=images.device)
    steps_y = torch.linspace(-1, 1, height, device=images.device)
    across = (scale * mirror)[:, None] * steps_x[None] + x[:, None]  # (V, W)
    down = scale[:, None] * steps_y[None] + y[:, None]  # (V, H)
    grid = torch.stack(
        [across[:, None, :].expand(-1, height, -1), down[:, :, None].expand(-1, -1, width)], dim=-1
    )  # (V, H, W, 2)
    views = functional.grid_sample(images, grid, padding_mode="border", align_corners=True)
    views = toned(views, parameters[:, 4:6])
    gains = torch.stack([parameters[:, 6], parameters[:, 7], -parameters[:, 6] - parameters[:, 7]], dim=1)
    return views * (1 + gains[:, :, None, None])


def rotated(images: Tensor, turns: Tensor) -> Tensor:
    """Images ``(B, 3, H, W)`` turned by ``turns`` quarters ``(B,)``."""
    every = torch.stack([torch.rot90(images, k, (2, 3)) for k in range(4)])  # (4, B, 3, H, W)
    return every[turns, torch.arange(len(turns), device=images.device)]


def nt_xent(projections: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """NT-Xent loss (Chen et al. 2020, eq. 1) of projections ``(2 N, D)``, views of image i at rows i and N + i."""
    unit = functional.normalize(projections, dim=1)
    similarity = unit @ unit.T / temperature
    n = len(unit)
    own = torch.eye(n, dtype=torch.bool, device=unit.device)
    similarity = similarity.masked_fill(own, -1e4)
    partner = (torch.arange(n, device=unit.device) + n // 2) % n
    return functional.cross_entropy(similarity, partner)


def _batch(images: Tensor, row: Mapping[str, Tensor]) -> Tensor:
    chosen = images[row["rows"]]
    if "shifts" not in row:
        return normalise(chosen)
    return toned(normalise(shifted(chosen, row["shifts"])), row["tones"])


def _classify(images: Tensor, smoothing: float) -> LossFunction:
    def loss(module: nn.Module, row: Mapping[str, Tensor]) -> Tensor:
        return functional.cross_entropy(module(_batch(images, row)), row["labels"], label_smoothing=smoothing)

    return loss


def _rotate(images: Tensor, smoothing: float) -> LossFunction:
    def loss(module: nn.Module, row: Mapping[str, Tensor]) -> Tensor:
        logits = module(rotated(_batch(images, row), row["turns"]))
        return functional.cross_entropy(logits, row["turns"], label_smoothing=smoothing)

    return loss


def _contrast(images: Tensor, smoothing: float) -> LossFunction:
    def loss(module: nn.Module, row: Mapping[str, Tensor]) -> Tensor:
        plain = normalise(images[row["rows"]])
        return nt_xent(module(viewed(torch.cat([plain, plain]), row["views"])))

    return loss


_LOSSES: dict[str, Callable[[Tensor, float], LossFunction]] = {
    "classify": _classify,
    "rotate": _rotate,
    "contrast": _contrast,
    "none": _classify,
}


def _source_rows(source: Source, bank: Bank) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in the bank of a source's images, and their labels counted through its tasks."""
    rows, labels, offset = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for task in source.tasks:
        start, count = bank.rows[task]
        rows.append(np.arange(start, start + count))
        labels.append(bank.labels[task] + offset)
        offset += len(bank.class_names[task])
    return np.concatenate(rows), np.concatenate(labels)
