"""Transferability scores of many tasks at once, each score timed by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thesis_rec.transferability import ScoreInput, gbc, h_score, leep, log_me, n_leep
from thesis_rec.truth.linear_probe import Rows, grouped, padded

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

    def cost(n: int, classes: int) -> float:
        return 8 * (4 * n * width + 3 * width * min(n, width) + 25 * n * classes + 25 * classes * width)

    sizes = [(len(rows), int(labels.max()) + 1) for rows, labels in items]
    batches = []
    for group in grouped(sizes, cost, (4 << 30) if device.startswith("cuda") else (64 << 20)):
        rows, labels = (padded([items[index][part] for index in group], device) for part in (0, 1))
        batches.append(ScoreBatch(group, rows.clamp(min=0), labels, [len(items[index][0]) for index in group]))
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

    def timed(work: Callable[[], Any]) -> tuple[Any, float]:
        started = time.perf_counter()
        return work(), seconds_since(started, device)

    data, shared = timed(lambda: ScoreInput(features[batch.rows], batch.labels))
    raw = timed(lambda: data.raw_eigen)[1] if "logme" in wanted else 0.0
    centred = timed(lambda: data.centred_eigen)[1] if set(wanted) - {"logme", "leep"} else 0.0
    absent = torch.full((len(batch.rows),), torch.nan)
    methods: dict[str, tuple[Callable[[], Tensor], float]] = {
        "logme": (lambda: log_me(data), raw),
        "h_score": (lambda: h_score(data), centred),
        "h_score_shrunk": (lambda: h_score(data, shrunk=True), centred),
        "leep": (lambda: absent if probabilities is None else leep(probabilities[batch.rows], data.one_hot), 0.0),
        "n_leep": (lambda: n_leep(data, seed=seed), centred),
        "gbc": (lambda: gbc(data), centred),
    }
    found = {}
    for name in wanted:
        method, extra = methods[name]
        values, own = timed(method)
        found[name] = (values.cpu().numpy(), own + shared + extra)
    return found


def seconds_since(start: float, device: str) -> float:
    """Seconds since ``start`` of the performance counter, a GPU's queued work included."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
