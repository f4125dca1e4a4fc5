"""Tasks of coloured images and a small network that learns them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from thesis_rec.base.tables import MeasuredTask, TaskImages
from thesis_rec.models.backbone import Backbone, Preparation
from thesis_rec.truth.settings import FineTuneRecipe


def task_images(name, classes, per_class=12, size=32, seed=0):
    rng = np.random.default_rng(seed)

    def draw(n):
        labels = np.repeat(np.arange(classes), n)
        images = rng.integers(60, 120, (len(labels), size, size, 3))
        images[np.arange(len(labels)), :, :, labels % 3] += 100
        images[labels >= 3] //= 3
        return images.clip(0, 255).astype(np.uint8), labels

    return TaskImages(name, *draw(per_class), *draw(6), class_names=[str(i) for i in range(classes)])


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU())
        self.classifier = nn.Linear(8, 5)

    def forward(self, images):
        return self.body(images).mean((2, 3))


def backbone(seed=0, size=32):
    torch.manual_seed(seed)
    network = Small()
    half = (0.5, 0.5, 0.5)
    return Backbone(
        "small", network, network.forward, network.classifier, Preparation(size, size, "stretch", mean=half, std=half)
    )


IMAGES = {"three": task_images("three", 3), "five": task_images("five", 5, seed=1)}
THREE = MeasuredTask("three", tuple(("three", i) for i in range(3)))
FIVE = MeasuredTask("five", tuple(("five", i) for i in range(5)))
MIXED = MeasuredTask("mixed", (("three", 2), ("five", 0), ("five", 4)))
SETTINGS = FineTuneRecipe(shots=8, steps=60, batch=16, learning_rate=1e-2)
