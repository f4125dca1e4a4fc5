"""Everything that is measured about one model without training it: probes, transferability scores, responses.

The images of all base tasks go through the model once, in big batches; what follows works on the feature matrix and
is batched over tasks. The bank that holds the images on the device is shared by all models, as are the index tensors of
a set of tasks (:class:`Bench`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from thesis_rec.base.tables import MeasuredTask
from thesis_rec.models.backbone import Backbone
from thesis_rec.transferability import ScoreInput, gbc, h_score, leep, log_me, n_leep, nearest_class_mean
from thesis_rec.truth.image_bank import ImageBank
from thesis_rec.truth.linear_probe import (
    ProbeChunk,
    Rows,
    by_class,
    grouped,
    padded,
    plan_probes,
    probe_accuracies,
    probe_chunks,
)
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


class Bench:
    """Index tensors for measuring any model on a set of tasks.

    Args:
        bank: Images of the base tasks.
        tasks: What is probed; transferability scores are computed for those with ``draws``.
        reference: Base tasks of the reference bank, for the responses.
        settings: What is measured, and how.

    Raises:
        ValueError: If a task has fewer than two classes or a class without images.
    """

    def __init__(
        self, bank: ImageBank, tasks: tuple[MeasuredTask, ...], reference: tuple[str, ...], settings: TruthSettings
    ) -> None:
        self.bank, self.reference, self.settings = bank, reference, settings
        # Tasks whose repeats count singly come first.
        self.tasks = sorted(tasks, key=lambda task: not task.draws)
        n_classes = {name: len(bank.classes[name]) for name in reference}
        own = tuple(MeasuredTask(name, tuple((name, c) for c in range(n_classes[name]))) for name in reference)
        mixed = reference_subtasks(n_classes, settings.response)
        self.probes = plan_probes([*self.tasks, *own, *mixed], bank.classes, settings.probe)
        # What is worked on at once; models of similar widths share it.
        self._batches = cache(self._batches_for)
        self._scored = [task for task in self.tasks if task.draws] if settings.scores else []
        self._score_rows = [self._rows_of(task) for task in self._scored]

    def _rows_of(self, task: MeasuredTask) -> tuple[Rows, Rows]:
        most = self.settings.score_images
        return by_class([self.bank.classes[dataset_id][c].train[:most] for dataset_id, c in task.members])

    def measure(self, backbone: Backbone) -> ModelTruth:
        """Measure one model on all tasks.

        Args:
            backbone: The model.

        Returns:
            Records, scores and responses.

        Raises:
            ItemError: If the features aren't vectors of finite numbers.
        """
        started, clocked = time.perf_counter(), partial(timed, device=self.bank.device)
        (features, probabilities), forward = clocked(lambda: self.bank.features(backbone, self.settings.batch_size))
        chunks, batches = self._batches(1 << (features.shape[1] - 1).bit_length())
        with torch.inference_mode():
            accuracies, probes = clocked(lambda: probe_accuracies(features, self.settings.probe, chunks).cpu().numpy())
            scores, scoring = clocked(lambda: self._score(backbone.model_id, features, probabilities, batches, forward))
        records = self._records(backbone.model_id, accuracies, forward + probes)
        draws = self.settings.probe.draws
        responses = accuracies[len(self.tasks) * draws :].reshape(-1, draws).mean(1).astype(np.float32)
        seconds = {"forward": forward, "probes": probes, "scores": scoring, "total": time.perf_counter() - started}
        return ModelTruth(records, scores, responses, seconds)

    def _batches_for(self, width: int) -> tuple[list[ProbeChunk], list[ScoreBatch]]:
        """What fits into memory at once with so many features, or fewer."""
        device = self.bank.device
        return probe_chunks(self.probes, width, device), padded_batches(self._score_rows, width, device)

    def _records(self, model_id: str, accuracies: NDArray[np.float64], seconds: float) -> pd.DataFrame:
        draws = self.settings.probe.draws
        rows = []
        for index, task in enumerate(self.tasks):
            values, probe = accuracies[index * draws : (index + 1) * draws], self.probes[index * draws]
            sizes = len(probe.train_rows), len(probe.test_rows)
            repeats = list(enumerate(values)) if task.draws else [(AVERAGED, values.mean())]
            rows += [(task.dataset_id, float(value), seed, *sizes) for seed, value in repeats]
        records = pd.DataFrame(rows, columns=["dataset_id", "value", "seed", "n_train", "n_test"])
        records = records.assign(
            model_id=model_id,
            protocol="linear_probe",
            metric="accuracy",
            source=self.settings.source,
            # All cells of a model share its forward passes and are solved together.
            seconds=seconds / max(1, len(records)),
        )
        return records[[*RECORD_COLUMNS, "seconds", "n_test"]]

    def _score(
        self,
        model_id: str,
        features: Tensor,
        probabilities: Tensor | None,
        batches: Sequence[ScoreBatch],
        forward_seconds: float,
    ) -> pd.DataFrame:
        rows = []
        for batch in batches:
            found = score_batch(features, probabilities, batch, self.settings.scores, self.settings.seed)
            for method, (values, seconds) in found.items():
                for place, position in enumerate(batch.positions):
                    n = batch.counts[place]
                    # The batch's time in proportion to images, and the share of the forward passes of its images.
                    share = seconds * n / sum(batch.counts) + forward_seconds * n / self.bank.n_images
                    task = self._scored[position].dataset_id
                    rows.append((model_id, task, method, float(values[place]), share, self.settings.source))
        frame = pd.DataFrame(rows, columns=SCORE_COLUMNS)
        return frame.sort_values(["dataset_id", "method"], kind="stable", ignore_index=True)


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
        tasks: What is measured.
        reference: Identifiers of the reference tasks, for the responses.
        settings: What is measured, and how.

    Returns:
        Records, scores and responses.

    Raises:
        ItemError: If the features aren't vectors of finite numbers.
        ValueError: If a task can't be measured (fewer than two classes, a class without images).
    """
    key = (tuple(tasks), tuple(reference), settings)
    # The plan of a set of tasks is made at the first call and kept as long as the bank.
    if key not in bank.plans:
        bank.plans[key] = Bench(bank, *key)
    return bank.plans[key].measure(backbone)
