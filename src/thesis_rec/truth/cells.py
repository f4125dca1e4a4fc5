"""Everything that is measured about one model without training it: probes, transferability scores, responses.

The images of all base tasks go through the model once, in big batches; what follows works on the feature matrix and
is batched over tasks. A :class:`ImageBank` holds the images on the device and is shared by all models, as are the
index tensors of a set of tasks (:class:`Bench`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from thesis_rec.errors import ItemError
from thesis_rec.ranking.records import RECORD_COLUMNS, SCORE_COLUMNS
from thesis_rec.ranking.transferability import ScoreInput, gbc, h_score, leep, log_me, n_leep
from thesis_rec.truth import responses as response_parts
from thesis_rec.truth.linear_probe import (
    ClassRows,
    ProbeChunk,
    ProbePlan,
    ProbeSettings,
    Rows,
    plan_probes,
    probe_accuracies,
)
from thesis_rec.truth.responses import ResponseSettings, response_names
from thesis_rec.truth.store import MeasuredTask, TaskImages

if TYPE_CHECKING:
    from thesis_rec.zoo.backbone import Backbone

logger = logging.getLogger(__name__)

#: Names of the transferability scores, as they stand in the tables.
SCORES = ("logme", "h_score", "h_score_shrunk", "leep", "n_leep", "gbc")

#: Seed in the records of tasks whose repeats are averaged.
AVERAGED = -1


@dataclass(frozen=True)
class TruthSettings:
    """What is measured, and how.

    Attributes:
        probe: The linear probe's recipe.
        response: Size of the responses' geometric part.
        scores: Transferability scores to compute, of :data:`SCORES`; empty for none.
        score_images: Training images of a class that the scores use.
        batch_size: Images in one forward pass; lowered by itself when a GPU's memory is full.
        source: Content of the tables' ``source`` column.
        seed: Seed of N-LEEP's mixtures.
    """

    probe: ProbeSettings = field(default_factory=ProbeSettings)
    response: ResponseSettings = field(default_factory=ResponseSettings)
    scores: tuple[str, ...] = SCORES
    score_images: int = 48
    batch_size: int = 4096
    source: str = "measured"
    seed: int = 0


@dataclass(frozen=True)
class ModelTruth:
    """What was measured about one model.

    Attributes:
        records: Linear-probe accuracies, columns of ``performance_records``.
        transferability: Scores of the tasks with ``draws``, columns of ``transferability_scores``.
        responses: (R,) float32, in the order of ``response_names``; empty without reference tasks.
        seconds: Time of each part: ``forward``, ``probes``, ``scores``, ``responses`` and ``total``.
    """

    records: pd.DataFrame
    transferability: pd.DataFrame
    responses: NDArray[np.float32]
    seconds: dict[str, float]


class ImageBank:
    """The images of all base tasks on one device, as uint8.

    Args:
        images: Base tasks by identifier. Images of one size are stored together; sizes may differ between tasks.
        device: Torch device. Images that don't fit into half of a GPU's free memory stay in the host's memory and
            are copied batch by batch.

    Attributes:
        classes: For each base task, the rows of each class's images in the feature matrix.
        n_images: Number of all images, N.
    """

    def __init__(self, images: Mapping[str, TaskImages], device: str = "cpu") -> None:
        self.device = device
        self.classes: dict[str, list[ClassRows]] = {}
        self._benches: dict[tuple[tuple[MeasuredTask, ...], tuple[str, ...], TruthSettings], Bench] = {}
        parts: dict[tuple[int, int], list[tuple[NDArray[np.uint8], int]]] = {}
        self.n_images = 0
        for dataset_id, task in images.items():
            starts = []
            for pixels in (task.train_images, task.test_images):
                if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
                    raise ItemError(
                        dataset_id,
                        f"has images of shape {pixels.shape} and type {pixels.dtype},",
                        "but uint8 (N, H, W, 3) is needed.",
                    )
                height, width = pixels.shape[1:3]
                parts.setdefault((height, width), []).append((pixels, self.n_images))
                starts.append(self.n_images)
                self.n_images += len(pixels)
            self.classes[dataset_id] = [
                ClassRows(
                    train=np.flatnonzero(task.train_labels == c).astype(np.int64) + starts[0],
                    test=np.flatnonzero(task.test_labels == c).astype(np.int64) + starts[1],
                )
                for c in range(len(task.class_names))
            ]
        size = sum(pixels.nbytes for group in parts.values() for pixels, _ in group)
        cuda = device.startswith("cuda")
        resident = not cuda or size < 0.5 * torch.cuda.mem_get_info(device)[0]
        self._groups: list[tuple[Tensor, Tensor]] = []
        for group in parts.values():
            joined = torch.from_numpy(np.concatenate([part for part, _ in group]))
            rows = np.concatenate([np.arange(start, start + len(part)) for part, start in group])
            stored = joined.to(device) if resident else joined.pin_memory() if cuda else joined
            self._groups.append((stored, torch.from_numpy(rows).to(device)))

    def features(self, backbone: Backbone, batch_size: int) -> tuple[Tensor, Tensor | None]:
        """A model's features of all images.

        Args:
            backbone: The model, on the bank's device.
            batch_size: Images in one forward pass, halved when memory runs out.

        Returns:
            (N, D) float32 features, and (N, Z) float32 probabilities of the source classes or None without a head.

        Raises:
            ItemError: If the features aren't vectors of finite numbers.
        """
        backbone.network.to(self.device).eval()
        mean = torch.tensor(backbone.mean, device=self.device).view(1, 3, 1, 1) * 255
        std = torch.tensor(backbone.std, device=self.device).view(1, 3, 1, 1) * 255
        features: Tensor | None = None
        probabilities: Tensor | None = None
        with torch.inference_mode(), _exact_float32():
            for pixels, rows in self._groups:
                start = 0
                while start < len(pixels):
                    batch = pixels[start : start + batch_size].to(self.device, non_blocking=True)
                    try:
                        part, head = self._forward(backbone, batch, mean, std)
                    except torch.OutOfMemoryError:
                        if batch_size <= 16:
                            raise
                        batch_size //= 2
                        torch.cuda.empty_cache()
                        logger.info("%s: out of memory, batches of %d now", backbone.model_id, batch_size)
                        continue
                    if features is None:
                        features = torch.empty((self.n_images, part.shape[1]), device=self.device)
                        if head is not None:
                            probabilities = torch.empty((self.n_images, head.shape[1]), device=self.device)
                    where = rows[start : start + len(batch)]
                    features[where] = part
                    if head is not None and probabilities is not None:
                        probabilities[where] = head
                    start += len(batch)
        assert features is not None, "a bank without images"
        if not bool(features.isfinite().all()):
            raise ItemError(
                backbone.model_id, "gives features that are not finite.", "Check its weights, or leave it out."
            )
        return features, probabilities

    @staticmethod
    def _forward(backbone: Backbone, batch: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor | None]:
        x = batch.permute(0, 3, 1, 2).float()  # (B, 3, H, W)
        if x.shape[-2:] != (backbone.input_size, backbone.input_size):
            size = (backbone.input_size, backbone.input_size)
            x = torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
        features = backbone.features((x - mean) / std)
        if features.ndim != 2:
            raise ItemError(
                backbone.model_id, f"gives features of shape {tuple(features.shape)}", "instead of (images, width)."
            )
        head = None if backbone.head is None else backbone.head(features).float().softmax(-1)
        return features.float(), head

    def bench(self, tasks: Sequence[MeasuredTask], reference: Sequence[str], settings: TruthSettings) -> Bench:
        """The plan of a set of tasks on this bank, made at the first call."""
        key = (tuple(tasks), tuple(reference), settings)
        if key not in self._benches:
            self._benches[key] = Bench(self, *key)
        return self._benches[key]


@contextmanager
def _exact_float32() -> Iterator[None]:
    """No TF32: features must agree with those of a CPU to float32's precision."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@dataclass(frozen=True)
class _ScoreBatch:
    """Tasks whose scores are computed together: positions, rows (T, N) of the feature matrix, labels (T, N)."""

    positions: list[int]
    rows: Tensor
    labels: Tensor
    counts: list[int]


class Bench:
    """Index tensors for measuring any model on a set of tasks.

    Args:
        bank: Images of the base tasks.
        tasks: What is probed; transferability scores are computed for those with ``draws``.
        reference: Base tasks of the reference bank, for the responses.
        settings: What is measured, and how.

    Raises:
        ValueError: If a task has fewer than two classes or a class without images, or a score is unknown.
    """

    def __init__(
        self, bank: ImageBank, tasks: tuple[MeasuredTask, ...], reference: tuple[str, ...], settings: TruthSettings
    ) -> None:
        unknown = set(settings.scores) - set(SCORES)
        if unknown:
            raise ValueError(f"unknown transferability scores {sorted(unknown)}; there are {', '.join(SCORES)}")
        self.bank, self.tasks, self.reference, self.settings = bank, tasks, reference, settings
        self.names = response_names(reference, settings.response)
        own = tuple(MeasuredTask(name, tuple((name, c) for c in range(len(bank.classes[name])))) for name in reference)
        self.plan: ProbePlan = plan_probes([*tasks, *own], bank.classes, settings.probe)
        self._chunks: dict[int, list[ProbeChunk]] = {}
        self._scored = [index for index, task in enumerate(tasks) if task.draws] if settings.scores else []
        self._score_rows = [self._rows_of(tasks[index], settings.score_images) for index in self._scored]
        self._batches: dict[int, list[_ScoreBatch]] = {}
        self._reference_rows = [self._rows_of(task, None) for task in own]
        if reference:
            landmarks = response_parts.landmark_rows(reference, bank.classes, settings.response)
            self._landmarks = torch.from_numpy(landmarks).to(bank.device)
            projection = response_parts.projection_matrix(len(landmarks), settings.response)
            self._projection = torch.from_numpy(projection).to(bank.device)

    def _rows_of(self, task: MeasuredTask, limit: int | None) -> tuple[Rows, Rows]:
        parts = [self.bank.classes[dataset_id][c].train[:limit] for dataset_id, c in task.members]
        return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])

    def _batched(self, items: list[tuple[Rows, Rows]], width: int) -> list[_ScoreBatch]:
        """Items of similar length padded and joined, as many as fit."""
        budget = (4 << 30) if self.bank.device.startswith("cuda") else (64 << 20)
        order = sorted(range(len(items)), key=lambda index: len(items[index][0]))
        groups: list[list[int]] = []
        for index in order:
            length = len(items[index][0])
            classes = int(items[index][1].max()) + 1
            each = 8 * (4 * length * width + 3 * width**2 + 25 * length * classes + 25 * classes * width)
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
            on_device = [torch.from_numpy(array).to(self.bank.device) for array in (rows, labels)]
            batches.append(_ScoreBatch(group, on_device[0], on_device[1], counts))
        return batches

    def measure(self, backbone: Backbone) -> ModelTruth:
        """Measure one model on all tasks.

        Args:
            backbone: The model.

        Returns:
            Records, scores and responses.

        Raises:
            ItemError: If the features aren't vectors of finite numbers.
        """
        started = time.perf_counter()
        features, probabilities = self.bank.features(backbone, self.settings.batch_size)
        seconds = {"forward": self._lap(started)}
        with torch.inference_mode():
            lap = time.perf_counter()
            accuracies = self._probe(features)
            seconds["probes"] = self._lap(lap)
            lap = time.perf_counter()
            scores = self._score(backbone.model_id, features, probabilities, seconds["forward"])
            seconds["scores"] = self._lap(lap)
            lap = time.perf_counter()
            vector = self._respond(features, accuracies)
            seconds["responses"] = self._lap(lap)
        seconds["total"] = self._lap(started)
        return ModelTruth(self._records(backbone.model_id, accuracies), scores, vector, seconds)

    def _lap(self, since: float) -> float:
        if self.bank.device.startswith("cuda"):
            torch.cuda.synchronize(self.bank.device)
        return time.perf_counter() - since

    def _probe(self, features: Tensor) -> NDArray[np.float64]:
        # Plans of similar widths share their chunks.
        bucket = 1 << (features.shape[1] - 1).bit_length()
        if bucket not in self._chunks:
            self._chunks[bucket] = self.plan.chunks(bucket, self.bank.device)
        found = probe_accuracies(features, self.plan, self.settings.probe, self._chunks[bucket])
        return found.cpu().numpy()

    def _records(self, model_id: str, accuracies: NDArray[np.float64]) -> pd.DataFrame:
        draws = self.settings.probe.draws
        count = len(self.tasks)
        values = accuracies[: count * draws].reshape(count, draws)
        n_train = self.plan.n_train[: count * draws].reshape(count, draws)[:, 0]
        single = np.asarray([task.draws for task in self.tasks], dtype=bool)
        ids = np.asarray([task.dataset_id for task in self.tasks], dtype=object)
        frames = [
            pd.DataFrame(
                {
                    "dataset_id": np.repeat(ids[single], draws),
                    "value": values[single].ravel(),
                    "seed": np.tile(np.arange(draws), int(single.sum())),
                    "n_train": np.repeat(n_train[single], draws),
                }
            ),
            pd.DataFrame(
                {
                    "dataset_id": ids[~single],
                    "value": values[~single].mean(1),
                    "seed": AVERAGED,
                    "n_train": n_train[~single],
                }
            ),
        ]
        records = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
        records = records.assign(
            model_id=model_id, protocol="linear_probe", metric="accuracy", source=self.settings.source
        )
        return records.astype({"seed": "int64", "n_train": "int64"})[RECORD_COLUMNS]

    def _score(
        self, model_id: str, features: Tensor, probabilities: Tensor | None, forward_seconds: float
    ) -> pd.DataFrame:
        if not self._scored:
            return pd.DataFrame(columns=SCORE_COLUMNS)
        bucket = 1 << (features.shape[1] - 1).bit_length()
        if bucket not in self._batches:
            self._batches[bucket] = self._batched(self._score_rows, bucket)
        rows = []
        for batch in self._batches[bucket]:
            found = self._score_batch(features, probabilities, batch)
            for method, (values, seconds) in found.items():
                for place, position in enumerate(batch.positions):
                    n = batch.counts[place]
                    # The batch's time in proportion to images, and the share of the forward passes of its images.
                    share = seconds * n / sum(batch.counts) + forward_seconds * n / self.bank.n_images
                    task = self.tasks[self._scored[position]].dataset_id
                    rows.append((model_id, task, method, float(values[place]), share, self.settings.source))
        frame = pd.DataFrame(rows, columns=SCORE_COLUMNS)
        return frame.sort_values(["dataset_id", "method"], kind="stable", ignore_index=True)

    def _score_batch(
        self, features: Tensor, probabilities: Tensor | None, batch: _ScoreBatch
    ) -> dict[str, tuple[NDArray[np.float64], float]]:
        """Values (T,) and seconds of each score; what scores share is counted fully in each."""
        wanted = self.settings.scores
        lap = time.perf_counter()
        data = ScoreInput(features[batch.rows], batch.labels)
        shared = self._lap(lap)
        cost = {"raw": 0.0, "centred": 0.0}
        if "logme" in wanted:
            lap = time.perf_counter()
            _ = data.raw_eigen
            cost["raw"] = self._lap(lap)
        if set(wanted) - {"logme", "leep"}:
            lap = time.perf_counter()
            _ = data.centred_eigen
            cost["centred"] = self._lap(lap)
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
                    values = n_leep(data, seed=self.settings.seed)
                case _:
                    values = gbc(data)
            extra = cost["raw"] if method == "logme" else 0.0 if method == "leep" else cost["centred"]
            found[method] = (values.cpu().numpy(), self._lap(lap) + shared + extra)
        return found

    def _respond(self, features: Tensor, accuracies: NDArray[np.float64]) -> NDArray[np.float32]:
        if not self.reference:
            return np.zeros(0, dtype=np.float32)
        every = torch.from_numpy(np.concatenate([rows for rows, _ in self._reference_rows])).to(self.bank.device)
        raw = features.double()
        chosen = raw[every]
        x = torch.zeros_like(raw)
        x[every] = response_parts.standardise(chosen)
        per_task = np.zeros((len(self.reference), len(response_parts.PER_TASK)))
        for batch in self._batched(self._reference_rows, x.shape[1]):
            data = ScoreInput(x[batch.rows], batch.labels)
            per_task[batch.positions, 0] = (
                response_parts.nearest_mean_accuracy(data.features, data.one_hot).cpu().numpy()
            )
            per_task[batch.positions, 1] = response_parts.kernel_alignment(data.features, data.one_hot).cpu().numpy()
        draws = self.settings.probe.draws
        per_task[:, 2] = accuracies[len(self.tasks) * draws :].reshape(-1, draws).mean(1)
        parts = [
            per_task.ravel(),
            response_parts.geometry(x[self._landmarks], self._projection).cpu().numpy(),
            response_parts.statistics(chosen).cpu().numpy(),
        ]
        return np.concatenate(parts).astype(np.float32)


def measure_model(
    backbone: Backbone,
    images: Mapping[str, TaskImages] | ImageBank,
    tasks: Sequence[MeasuredTask],
    reference: Sequence[str],
    settings: TruthSettings | None = None,
    device: str = "cpu",
) -> ModelTruth:
    """Linear probes, transferability scores and responses of one model.

    Args:
        backbone: The model.
        images: Images of all base tasks, reference tasks included; pass one :class:`ImageBank` for several models,
            so that images and index tensors are moved to the device once.
        tasks: What is measured.
        reference: Identifiers of the reference tasks, for the responses.
        settings: What is measured, and how.
        device: Torch device of the bank, where ``images`` isn't one.

    Returns:
        Records, scores and responses.

    Raises:
        ItemError: If images aren't uint8 RGB, or the features aren't vectors of finite numbers.
        ValueError: If a task can't be measured (fewer than two classes, a class without images).
    """
    bank = images if isinstance(images, ImageBank) else ImageBank(images, device)
    return bank.bench(tasks, reference, settings or TruthSettings()).measure(backbone)
