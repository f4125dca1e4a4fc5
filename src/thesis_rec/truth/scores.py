"""Transferability scores of many tasks at once, each score timed by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thesis_rec.transferability import ScoreInput, gbc, h_score, leep, log_me, n_leep
from thesis_rec.truth.linear_probe import Rows

#: Names of the transferability scores, as they stand in the tables.
SCORES = ("logme", "h_score", "h_score_shrunk", "leep", "n_leep", "gbc")


@dataclass(frozen=True)
class ScoreBatch:
    """Tasks whose scores are computed together: positions, rows (T, N) of the feature matrix, labels (T, N)."""

    positions: list[int]
    rows: Tensor
    labels: Tensor
    counts: list[int]


def padded_batches(items: list[tuple[Rows, Rows]], width: int, device: str) -> list[ScoreBatch]:
    """Items of similar length padded and joined, as many as fit into memory.

    Args:
        items: For each task the rows of its images in the feature matrix and their labels, both (N,).
        width: Number of features, or more.
        device: Torch device of the batches.
    """
    budget = (4 << 30) if device.startswith("cuda") else (64 << 20)
    order = sorted(range(len(items)), key=lambda index: len(items[index][0]))
    groups: list[list[int]] = []
    for index in order:
        length = len(items[index][0])
        classes = int(items[index][1].max()) + 1
        each = 8 * (4 * length * width + 3 * width * min(length, width) + 25 * length * classes + 25 * classes * width)
        if not groups or (len(groups[-1]) + 1) * each > budget:
            groups.append([])
        groups[-1].append(index)
    batches = []
    for group in groups:
        longest = max(len(items[index][0]) for index in group)
        rows = np.zeros((len(group), longest), dtype=np.int64)
        labels = np.full_like(rows, -1)
        for place, index in enumerate(group):
            rows[place, : len(items[index][0])], labels[place, : len(items[index][1])] = items[index]
        counts = [len(items[index][0]) for index in group]
        on_device = [torch.from_numpy(array).to(device) for array in (rows, labels)]
        batches.append(ScoreBatch(group, on_device[0], on_device[1], counts))
    return batches


def score_batch(
    features: Tensor, probabilities: Tensor | None, batch: ScoreBatch, wanted: Sequence[str], seed: int
) -> dict[str, tuple[NDArray[np.float64], float]]:
    """Scores of a batch of T tasks.

    Args:
        features: (N, D) float32 features of all images.
        probabilities: (N, Z) probabilities of the source classes, or None for a model without a head, which has no
            LEEP.
        batch: Tasks.
        wanted: Names of scores, of :data:`SCORES`.
        seed: Seed of N-LEEP's mixtures.

    Returns:
        Values (T,) and seconds of each score; what scores share is counted fully in each.
    """
    device = str(features.device)
    lap = time.perf_counter()
    data = ScoreInput(features[batch.rows], batch.labels)
    shared = seconds_since(lap, device)
    cost = {"raw": 0.0, "centred": 0.0}
    if "logme" in wanted:
        lap = time.perf_counter()
        _ = data.raw_eigen
        cost["raw"] = seconds_since(lap, device)
    if set(wanted) - {"logme", "leep"}:
        lap = time.perf_counter()
        _ = data.centred_eigen
        cost["centred"] = seconds_since(lap, device)
    found = {}
    for method in wanted:
        lap = time.perf_counter()
        match method:
            case "logme":
                values = log_me(data)
            case "h_score":
                values = h_score(data)
            case "h_score_shrunk":
                values = h_score(data, shrunk=True)
            case "leep":
                if probabilities is None:
                    values = torch.full((len(batch.rows),), torch.nan)
                else:
                    values = leep(probabilities[batch.rows], data.one_hot)
            case "n_leep":
                values = n_leep(data, seed=seed)
            case _:
                values = gbc(data)
        extra = cost["raw"] if method == "logme" else 0.0 if method == "leep" else cost["centred"]
        found[method] = (values.cpu().numpy(), seconds_since(lap, device) + shared + extra)
    return found


def seconds_since(start: float, device: str) -> float:
    """Seconds since ``start`` of the performance counter, a GPU's queued work included."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
