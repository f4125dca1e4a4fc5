"""Everything that is measured about one model without training it: probes, transferability scores, responses.

The images of all base tasks go through the model once, in big batches; what follows works on the feature matrix. The
bank that holds the images on the device is shared by all models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from thesis_rec.base.tables import MeasuredTask
from thesis_rec.models.backbone import Backbone
from thesis_rec.transferability import ScoreInput, gbc, h_score, leep, log_me, n_leep, nearest_class_mean
from thesis_rec.truth.image_bank import ImageBank
from thesis_rec.truth.linear_probe import Probe, Rows, by_class, plan_probes, probe_accuracies
from thesis_rec.truth.performance_records import RECORD_COLUMNS, SCORE_COLUMNS
from thesis_rec.truth.responses import reference_subtasks
from thesis_rec.truth.settings import TruthSettings


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

    budget = (4 << 30) if device.startswith("cuda") else (64 << 20)
    sizes = [(len(rows), int(labels.max()) + 1) for rows, labels in items]
    groups: list[list[int]] = []
    largest = (0, 0)
    for index in sorted(range(len(sizes)), key=sizes.__getitem__):
        n, classes = max(largest[0], sizes[index][0]), max(largest[1], sizes[index][1])
        if not groups or (len(groups[-1]) + 1) * cost(n, classes) > budget:
            groups.append([])
            n, classes = sizes[index]
        groups[-1].append(index)
        largest = n, classes
    batches = []
    for group in groups:
        rows, labels = (
            pad_sequence([torch.from_numpy(items[index][part]) for index in group], True, -1.0).to(device)
            for part in (0, 1)
        )
        batches.append(ScoreBatch(group, rows.clamp(min=0), labels, [sizes[index][0] for index in group]))
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
        wanted: Names of scores, of :data:`~thesis_rec.truth.settings.SCORES`.
        seed: Seed of N-LEEP's mixtures.

    Returns:
        Values (T,) and seconds of each score; what scores share is counted fully in each.
    """
    clocked = partial(timed, device=str(features.device))
    data, shared = clocked(lambda: ScoreInput(features[batch.rows], batch.labels))
    raw = clocked(lambda: data.raw_eigen)[1] if "logme" in wanted else 0.0
    centred = clocked(lambda: data.centred_eigen)[1] if set(wanted) - {"logme", "leep", "nearest_class_mean"} else 0.0
    absent = torch.full((len(batch.rows),), torch.nan)
    methods: dict[str, tuple[Callable[[], Tensor], float]] = {
        "logme": (lambda: log_me(data), raw),
        "h_score": (lambda: h_score(data), centred),
        "h_score_shrunk": (lambda: h_score(data, shrunk=True), centred),
        "leep": (lambda: absent if probabilities is None else leep(probabilities[batch.rows], data.one_hot), 0.0),
        "n_leep": (lambda: n_leep(data, seed=seed), centred),
        "gbc": (lambda: gbc(data), centred),
        "nearest_class_mean": (lambda: nearest_class_mean(data), 0.0),
    }
    found = {}
    for name in wanted:
        method, extra = methods[name]
        values, own = clocked(method)
        found[name] = (values.cpu().numpy(), own + shared + extra)
    return found


def timed(work: Callable[[], Any], device: str) -> tuple[Any, float]:
    """What work gives, and how many seconds it takes, what it queues on a GPU included."""
    started = time.perf_counter()
    found = work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return found, time.perf_counter() - started


#: Seed in the records of tasks whose repeats are averaged.
AVERAGED = -1


@dataclass(frozen=True)
class ModelTruth:
    """What was measured about one model.

    Attributes:
        records: Linear-probe accuracies, columns of ``performance_records``, ``seconds`` and ``n_test``.
        transferability: Scores of the tasks with ``draws``, columns of ``transferability_scores``.
        responses: (R,) float32, in the order of ``response_names``; empty without reference tasks.
        seconds: Time of each part: ``forward``, ``probes``, ``scores`` and ``total``.
    """

    records: pd.DataFrame
    transferability: pd.DataFrame
    responses: NDArray[np.float32]
    seconds: dict[str, float]


def measure_model(
    backbone: Backbone,
    bank: ImageBank,
    tasks: Sequence[MeasuredTask],
    reference: Sequence[str],
    settings: TruthSettings,
) -> ModelTruth:
    """Linear probes, transferability scores and responses of one model.

    Args:
        backbone: The model.
        bank: Images of all base tasks, reference tasks included; one serves many models.
        tasks: What is measured; transferability scores are computed for those with ``draws``.
        reference: Identifiers of the reference tasks, for the responses.
        settings: What is measured, and how.

    Returns:
        Records, scores and responses.

    Raises:
        ItemError: If the features aren't vectors of finite numbers.
        ValueError: If a task can't be measured (fewer than two classes, a class without images).
    """
    started, clocked = time.perf_counter(), partial(timed, device=bank.device)
    # Tasks whose repeats count singly come first.
    tasks = sorted(tasks, key=lambda task: not task.draws)
    n_classes = {name: len(bank.classes[name]) for name in reference}
    own = [MeasuredTask(name, tuple((name, c) for c in range(n_classes[name]))) for name in reference]
    probed = [*tasks, *own, *reference_subtasks(n_classes, settings.response)]
    probes = plan_probes(probed, bank.classes, settings.probe, bank.device)
    (features, probabilities), forward = clocked(lambda: bank.features(backbone, settings.batch_size))
    with torch.inference_mode():
        accuracies, probing = clocked(lambda: probe_accuracies(features, settings.probe, probes).cpu().numpy())
        scores, scoring = clocked(
            lambda: _scores(backbone.model_id, features, probabilities, bank, tasks, settings, forward)
        )
    records = _records(tasks, probes, accuracies, settings.source)
    # All cells of a model share its forward passes.
    records = records.assign(model_id=backbone.model_id, seconds=(forward + probing) / max(1, len(records)))
    responses = accuracies[len(tasks) :].mean(1).astype(np.float32)
    seconds = {"forward": forward, "probes": probing, "scores": scoring, "total": time.perf_counter() - started}
    return ModelTruth(records[[*RECORD_COLUMNS, "seconds", "n_test"]], scores, responses, seconds)


def _records(
    tasks: Sequence[MeasuredTask], probes: Sequence[Probe], accuracies: NDArray[np.float64], source: str
) -> pd.DataFrame:
    rows = []
    for task, probe, values in zip(tasks, probes, accuracies, strict=False):
        sizes = len(probe.train_class), len(probe.test_class)
        repeats = list(enumerate(values)) if task.draws else [(AVERAGED, values.mean())]
        rows += [(task.dataset_id, float(value), seed, *sizes) for seed, value in repeats]
    records = pd.DataFrame(rows, columns=["dataset_id", "value", "seed", "n_train", "n_test"])
    return records.assign(protocol="linear_probe", metric="accuracy", source=source)


def _scores(
    model_id: str,
    features: Tensor,
    probabilities: Tensor | None,
    bank: ImageBank,
    tasks: Sequence[MeasuredTask],
    settings: TruthSettings,
    forward_seconds: float,
) -> pd.DataFrame:
    scored = [task for task in tasks if task.draws] if settings.scores else []
    members = [[bank.classes[base][c].train[: settings.score_images] for base, c in task.members] for task in scored]
    rows = []
    for batch in padded_batches(list(map(by_class, members)), features.shape[1], bank.device):
        found = score_batch(features, probabilities, batch, settings.scores, settings.seed)
        for method, (values, seconds) in found.items():
            for position, n, value in zip(batch.positions, batch.counts, values, strict=True):
                # The batch's time in proportion to images, and the share of the forward passes of its images.
                share = seconds * n / sum(batch.counts) + forward_seconds * n / bank.n_images
                rows.append((model_id, scored[position].dataset_id, method, float(value), share, settings.source))
    frame = pd.DataFrame(rows, columns=SCORE_COLUMNS)
    return frame.sort_values(["dataset_id", "method"], kind="stable", ignore_index=True)
