"""Everything that is measured about one model without training it: probes, transferability scores, responses.

The images of all base tasks go through the model once, in big batches; what follows works on the feature matrix. The
bank that holds the images on the device is shared by all models.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from thesis_rec.base.errors import ItemError
from thesis_rec.base.tables import Floats, MeasuredTask, TaskImages
from thesis_rec.models.backbone import Backbone
from thesis_rec.transferability.estimates import ScoreInput, gbc, h_score, leep, log_me, n_leep, nearest_class_mean
from thesis_rec.truth.linear_probe import ClassRows, Rows, by_class, plan_probes, probe_accuracies
from thesis_rec.truth.performance_records import SCORE_COLUMNS, measured_records
from thesis_rec.truth.settings import TruthSettings

logger = logging.getLogger(__name__)

#: Pixels that are prepared at once, 200 MB as float32: networks for small images take large batches.
_FLOAT_PIXELS = 1 << 24


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
        self.n_images = 0
        parts: list[tuple[NDArray[np.uint8], Rows]] = []
        for dataset_id, task in images.items():
            of_classes = []
            for pixels, labels in ((task.train_images, task.train_labels), (task.test_images, task.test_labels)):
                rows = np.arange(self.n_images, self.n_images + len(pixels))
                parts.append((pixels, rows))
                of_classes.append([rows[labels == c] for c in range(len(task.class_names))])
                self.n_images += len(pixels)
            self.classes[dataset_id] = [ClassRows(*rows) for rows in zip(*of_classes, strict=True)]
        size = sum(pixels.nbytes for pixels, _ in parts)
        resident = not device.startswith("cuda") or size < 0.5 * torch.cuda.mem_get_info(device)[0]
        self._groups: list[tuple[Tensor, Tensor]] = []
        for shape in dict.fromkeys(pixels.shape[1:3] for pixels, _ in parts):
            alike = [part for part in parts if part[0].shape[1:3] == shape]
            joined, where = (torch.from_numpy(np.concatenate(one)) for one in zip(*alike, strict=True))
            self._groups.append((joined.to(device) if resident else joined.pin_memory(), where.to(device)))

    @property
    def pixels(self) -> Tensor:
        """(N, H, W, 3) uint8 images on the device, in the rows that ``classes`` name.

        Raises:
            ValueError: If images differ in size.
        """
        if len(self._groups) > 1:
            sizes = sorted(tuple(pixels.shape[1:3]) for pixels, _ in self._groups)
            raise ValueError(f"images of one size are needed, but there are {sizes}")
        return self._groups[0][0].to(self.device)

    def features(self, backbone: Backbone, batch_size: int) -> tuple[Floats, Floats | None]:
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
        prepare = backbone.preparation.on(self.device)
        parts: list[tuple[Tensor, Tensor | None, Tensor]] = []
        with torch.inference_mode(), _exact_float32():
            for pixels, rows in self._groups:
                start = 0
                most = max(1, _FLOAT_PIXELS // (pixels.shape[1] * pixels.shape[2]))
                while start < len(pixels):
                    batch = pixels[start : start + min(batch_size, most)].to(self.device, non_blocking=True)
                    try:
                        part, head = self._forward(backbone, prepare(batch.permute(0, 3, 1, 2).float()))
                    except torch.OutOfMemoryError:
                        if batch_size <= 16:
                            raise
                        batch_size //= 2
                        torch.cuda.empty_cache()
                        logger.info("%s: out of memory, batches of %d now", backbone.model_id, batch_size)
                        continue
                    parts.append((part, head, rows[start : start + len(batch)]))
                    start += len(batch)
        found, heads, where = zip(*parts, strict=True)
        order = torch.cat(where).argsort()
        features = torch.cat(found)[order].cpu().numpy()
        probabilities = None if heads[0] is None else torch.cat(heads)[order].cpu().numpy()
        if not np.isfinite(features).all():
            hint = "Check its weights, or leave it out."
            raise ItemError(backbone.model_id, "gives features that are not finite.", hint)
        return features, probabilities

    @staticmethod
    def _forward(backbone: Backbone, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features = backbone.features(images)  # of (B, 3, S, S)
        if features.ndim != 2:
            text = f"gives features of shape {tuple(features.shape)}"
            raise ItemError(backbone.model_id, text, "instead of (images, width).")
        head = None if backbone.head is None else backbone.head(features).float().softmax(-1)
        return features.float(), head


@contextmanager
def _exact_float32() -> Iterator[None]:
    """No TF32: features must agree with those of a CPU to float32's precision."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def task_scores(
    features: NDArray[np.float32], probabilities: NDArray[np.float32] | None, labels: Rows, settings: TruthSettings
) -> dict[str, tuple[float, float]]:
    """Scores of a task.

    Args:
        features: (n, D) features.
        probabilities: (n, Z) probabilities of the source classes, or None for a model without a head, which has no
            LEEP.
        labels: (n,) classes.
        settings: Which scores, and the seed of N-LEEP's mixture.

    Returns:
        Value and seconds of each score, of what it shares with others too.
    """
    methods: dict[str, Callable[[ScoreInput], float]] = {
        "logme": log_me,
        "h_score": h_score,
        "h_score_shrunk": partial(h_score, shrunk=True),
        "leep": lambda data: np.nan if probabilities is None else leep(probabilities, data.one_hot),
        "n_leep": partial(n_leep, seed=settings.seed),
        "gbc": gbc,
        "nearest_class_mean": nearest_class_mean,
    }

    def scored(name: str) -> float:
        return methods[name](ScoreInput(features, labels))

    return {name: timed(partial(scored, name)) for name in settings.scores}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What work gives, and how many seconds it takes."""
    started = time.perf_counter()
    return work(), time.perf_counter() - started


#: Seed in the records of tasks whose repeats are averaged.
AVERAGED = -1


@dataclass(frozen=True)
class ModelTruth:
    """What was measured about one model.

    Attributes:
        records: Linear-probe accuracies, columns of ``performance_records``, ``seconds`` and ``n_test``.
        transferability: Scores of the tasks with ``draws``, columns of ``transferability_scores``.
        responses: (R,) float32, mean accuracies on the reference tasks, in their order.
    """

    records: pd.DataFrame
    transferability: pd.DataFrame
    responses: NDArray[np.float32]


def measure_model(
    backbone: Backbone,
    bank: ImageBank,
    tasks: Sequence[MeasuredTask],
    reference: Sequence[MeasuredTask],
    settings: TruthSettings,
) -> ModelTruth:
    """Linear probes, transferability scores and responses of one model.

    Args:
        backbone: The model.
        bank: Images of all base tasks, reference tasks included; one serves many models.
        tasks: What is measured; transferability scores are computed for those with ``draws``.
        reference: The :func:`~thesis_rec.truth.responses.reference_tasks`, for the responses; empty for none.
        settings: What is measured, and how.

    Returns:
        Records, scores and responses.

    Raises:
        ItemError: If the features aren't vectors of finite numbers.
        ValueError: If a task can't be measured (fewer than two classes, a class without images).
    """
    # Tasks whose repeats count singly come first.
    tasks = sorted(tasks, key=lambda task: not task.draws)
    probes = plan_probes([*tasks, *reference], bank.classes, settings.linear_probe, settings.seed)
    (features, probabilities), forward = timed(lambda: bank.features(backbone, settings.batch_size))
    accuracies, probing = timed(lambda: probe_accuracies(features, settings.linear_probe, probes))
    rows = []
    for task, probe, values in zip(tasks, probes, accuracies, strict=False):
        sizes = len(probe.train_class), 0.0, len(probe.test_class)
        repeats = list(enumerate(values)) if task.draws else [(AVERAGED, values.mean())]
        rows += [(task.dataset_id, float(value), seed, *sizes) for seed, value in repeats]
    records = measured_records(rows, model_id=backbone.model_id, protocol="linear_probe", source=settings.source)
    # All cells of a model share its forward passes.
    records["seconds"] = (forward + probing) / max(1, len(rows))
    costed = []
    for task in (task for task in tasks if task.draws):
        members = [bank.classes[base][c].train[: settings.score_images] for base, c in task.members]
        images, labels = by_class(members)
        source = None if probabilities is None else probabilities[images]
        # Its images' share of the forward passes is a part of each score's cost.
        share = len(images) * forward / bank.n_images
        for method, (value, own) in task_scores(features[images], source, labels, settings).items():
            costed.append((backbone.model_id, task.dataset_id, method, value, own + share, settings.source))
    scores = pd.DataFrame(costed, columns=SCORE_COLUMNS)
    scores = scores.sort_values(["dataset_id", "method"], kind="stable", ignore_index=True)
    return ModelTruth(records, scores, accuracies[len(tasks) :].mean(1).astype(np.float32))
