"""Small networks to train."""

from functools import cache

import numpy as np
import torch
from torch import nn

from thesis_rec.starter.concurrent import TrainingJob
from thesis_rec.starter.step_runner import Optimisation

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(40, 5, generator=GENERATOR)
Y = X @ torch.randn(5, 1, generator=GENERATOR)


@cache
def data(device):
    """Inputs and outputs on a device: a CUDA graph can't hold copies from the CPU."""
    return X.to(device), Y.to(device)


def loss(module, row):
    x, y = data(row["rows"].device)
    return ((module(x[row["rows"]]) - y[row["rows"]]) ** 2).mean()


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))


def rows(steps, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 40, (steps, 10)))


def job(name="job", steps=20, seed=0):
    return TrainingJob(name, net(seed), loss, {"rows": rows(steps, seed)}, Optimisation(steps, 1e-2, 0.1))
