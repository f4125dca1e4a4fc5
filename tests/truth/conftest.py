"""A tiny bank of tasks and a tiny model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from thesis_rec.base.tables import MeasuredTask, TaskImages
from thesis_rec.models.backbone import Backbone, Preparation
from thesis_rec.truth.responses import reference_tasks
from thesis_rec.truth.settings import ProbeRecipe, TruthSettings

SETTINGS = TruthSettings(
    linear_probe=ProbeRecipe(shots=6, draws=2),
    batch_size=17,
)
REFERENCE = reference_tasks({"ref": 3}, subtasks=3)
TASKS = [
    MeasuredTask("a", tuple(("a", c) for c in range(3))),
    MeasuredTask("b", tuple(("b", c) for c in range(4))),
    MeasuredTask("sub", (("a", 2), ("b", 1), ("b", 3)), draws=False),
]


def make_backbone(model_id: str = "tiny", width: int = 12, seed: int = 0, head: bool = True) -> Backbone:
    """A random convolution, pooled."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        classifier = nn.Linear(width, 5)
    head_of = classifier if head else None
    preparation = Preparation(8, 8, "stretch", mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    return Backbone(model_id, network, network, head_of, preparation)


def make_task(dataset_id: str, classes: int, per_class: int, tests: int, seed: int, size: int = 8) -> TaskImages:
    """Noisy images around one random picture per class."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(60, 190, (classes, size, size, 3))

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(classes), n)
        noise = rng.normal(0, 40, (classes * n, size, size, 3))
        order = rng.permutation(len(labels))
        return np.clip(pictures[labels] + noise, 0, 255).astype(np.uint8)[order], labels[order].astype(np.int64)

    train, test = draw(per_class), draw(tests)
    return TaskImages(dataset_id, *train, *test, [f"c{c}" for c in range(classes)])


def eager_features(backbone: Backbone, pixels: np.ndarray) -> torch.Tensor:
    """Features by the textbook way, one image at a time."""
    outputs = []
    for image in pixels:
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        if x.shape[-1] != 8:
            x = torch.nn.functional.interpolate(x, (8, 8), mode="bilinear", antialias=True)
        mean, std = (
            torch.tensor(one).view(1, 3, 1, 1) for one in (backbone.preparation.mean, backbone.preparation.std)
        )
        x = (x - mean) / std
        with torch.no_grad():
            outputs.append(backbone.features(x))
    return torch.cat(outputs)


@pytest.fixture
def images() -> dict[str, TaskImages]:
    """Three base tasks of unequal size, one of another image size."""
    return {
        "a": make_task("a", 3, 20, 9, seed=1),
        "b": make_task("b", 4, 10, 7, seed=2, size=10),
        "ref": make_task("ref", 3, 12, 5, seed=3),
    }


@pytest.fixture
def backbone() -> Backbone:
    """A model with a head."""
    return make_backbone()
