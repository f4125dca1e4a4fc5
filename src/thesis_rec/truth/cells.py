"""Everything that is measured about one model without training it: probes, transferability scores, responses.

The images of all base tasks go through the model once, in big batches; what follows works on the feature matrix. The
bank that holds the images on the device is shared by all models.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.tables import MeasuredTask
from thesis_rec.models.backbone import Backbone
from thesis_rec.transferability.estimates import ScoreInput, gbc, h_score, leep, log_me, n_leep, nearest_class_mean
from thesis_rec.truth.image_bank import ImageBank
from thesis_rec.truth.linear_probe import Rows, by_class, plan_probes, probe_accuracies
from thesis_rec.truth.performance_records import SCORE_COLUMNS, measured_records
from thesis_rec.truth.settings import TruthSettings


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
