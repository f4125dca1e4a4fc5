"""A backbone small enough to be counted by hand."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from thesis_rec.hardware.timing import ProfileSettings

FAST = ProfileSettings(batch_sizes=(1,), warmup=1, min_repeats=2, max_repeats=4, max_seconds=0.01)


def backbone(width: int = 4, size: int = 8, model_id: str = "m"):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten())
    return SimpleNamespace(model_id=model_id, network=network, features=network, input_size=size)
