"""Few-shot linear probes in closed form, many tasks at once.

The recipe, the same for every model and task:

1. **Draw.** In repeat ``r``, ``min(shots, 75 % of the class's images)`` training images of every class are drawn by
   seed. The draw of a class depends on its base dataset, its index there and ``r`` only, so a class contributes the
   same images to every sub-task and mixture that it is part of.
2. **Standardise.** Features get the mean and (population) standard deviation of the task's drawn images; a feature
   that is constant there keeps scale 1, exactly as in ``sklearn.preprocessing.StandardScaler``.
3. **Solve.** Ridge regression with intercept on one-hot targets, with ``lambda = ridge * n`` for ``n`` drawn images:
   the mean eigenvalue of the standardised Gram matrix is ``n``, so ``ridge`` is relative to it and means the same for
   every number of images and features. The normal equations are solved by Cholesky in the primal (features) or the
   dual (images), whichever is smaller; both give the same weights.
4. **Measure.** Accuracy of the argmax on all test images of the task's classes.

A task's classes are gathered by index from the features of the base tasks, so any class-subset or mixture costs a small
matrix and no forward pass.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from thesis_rec.base.tables import MeasuredTask
from thesis_rec.truth.settings import ProbeSettings

Rows = NDArray[np.int64]

#: Memory of the largest arrays at one time, in bytes: big enough to fill a GPU, small enough for a CPU's cache levels.
CHUNK_BYTES = {"cuda": 2 << 30, "cpu": 64 << 20}


@dataclass(frozen=True)
class ClassRows:
    """Where the images of one class are in the bank's feature matrix.

    Attributes:
        train: (n,) rows of training images.
        test: (m,) rows of test images.
    """

    train: Rows
    test: Rows


def draw_rows(rows: ClassRows, dataset_id: str, class_index: int, draw: int, settings: ProbeSettings) -> Rows:
    """The training rows of one class in one draw.

    Args:
        rows: The class's rows.
        dataset_id: Base dataset of the class.
        class_index: Index of the class there.
        draw: Number of the repeat.
        settings: Recipe.

    Returns:
        (k,) rows, ``k = min(shots, max_share * n)`` but at least one.
    """
    count = len(rows.train)
    k = min(settings.shots, max(1, int(settings.max_share * count)), count)
    key = [settings.seed, draw, zlib.crc32(dataset_id.encode()), class_index]
    return rows.train[np.random.default_rng(key).permutation(count)[:k]]


class Probe(NamedTuple):
    """The probes of a task: rows of the feature matrix and their classes, for training and testing.

    Attributes:
        train_rows: (R, n) rows in each of R repeats.
        train_class: (n,) class of each, the same in all repeats.
        test_rows: (m,) rows.
        test_class: (m,) class of each.
        n_classes: Number of classes.
    """

    train_rows: Tensor
    train_class: Tensor
    test_rows: Tensor
    test_class: Tensor
    n_classes: int


def by_class(rows: Sequence[Rows]) -> tuple[Rows, Rows]:
    """The rows (N,) of the classes one after another, and the number of the class of each."""
    return np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(one) for one in rows])


def plan_probes(
    tasks: Sequence[MeasuredTask],
    classes: Mapping[str, Sequence[ClassRows]],
    settings: ProbeSettings,
    device: str = "cpu",
) -> list[Probe]:
    """Draw the training images of every task and repeat.

    Args:
        tasks: What is measured.
        classes: For each base dataset, the rows of its classes in order.
        settings: Recipe.
        device: Torch device of the rows.

    Returns:
        The probes of each task.

    Raises:
        KeyError: If a task has a class of a dataset that isn't in ``classes``.
        ValueError: If a task has fewer than two classes, a class without a training image, or no test image.
    """

    @cache  # a class is a part of many tasks
    def drawn(dataset_id: str, c: int) -> Rows:
        rows = classes[dataset_id][c]
        if not len(rows.train):
            raise ValueError(f"class {c} of {dataset_id} has no training image")
        return np.stack([draw_rows(rows, dataset_id, c, draw, settings) for draw in range(settings.draws)], axis=1)

    probes = []
    for task in tasks:
        if len(task.members) < 2:
            raise ValueError(f"{task.dataset_id}: a task needs at least two classes")
        tests = [classes[dataset_id][c].test for dataset_id, c in task.members]
        if not any(len(rows) for rows in tests):
            raise ValueError(f"{task.dataset_id}: there is no test image")
        train_rows, train_class = by_class([drawn(*member) for member in task.members])
        arrays = (train_rows.T, train_class, *by_class(tests))
        rows, labels, tested, expected = (torch.from_numpy(array).to(device) for array in arrays)
        probes.append(Probe(rows, labels, tested, expected, len(tests)))
    return probes


def probe_weights(x: Tensor, labels: Tensor, n_classes: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Linear classifiers of probes of one size, acting on unstandardised features.

    Args:
        x: (B, n, D) float64 training features.
        labels: (B, n) classes.
        n_classes: C.
        ridge: Relative ridge penalty.

    Returns:
        Weights (B, D, C) and biases (B, 1, C), so that ``x @ weights + biases`` are the class scores.
    """
    _, count, width = x.shape
    mean = x.mean(1, keepdim=True)  # (B, 1, D)
    centred = x - mean
    variance = centred.square().mean(1, keepdim=True)
    # The rule by which StandardScaler decides that a feature is constant.
    eps = torch.finfo(x.dtype).eps
    constant = variance <= count * eps * variance + (count * mean * eps).square()
    scale = torch.where(constant, 1.0, variance.sqrt())
    z = centred / scale
    y = torch.nn.functional.one_hot(labels, n_classes).to(x.dtype)
    y_mean = y.mean(1, keepdim=True)  # (B, 1, C)
    primal, y = width <= count, y - y_mean
    system, right = (z.mT @ z, z.mT @ y) if primal else (z @ z.mT, y)
    system.diagonal(dim1=1, dim2=2).add_(ridge * count)
    factor, _ = torch.linalg.cholesky_ex(system)
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    solved = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    weights = (solved if primal else z.mT @ solved) / scale.mT
    return weights, y_mean - mean @ weights


def probe_accuracies(features: Tensor, settings: ProbeSettings, probes: Sequence[Probe]) -> Tensor:
    """Test accuracy of every probe for one model.

    Args:
        features: (N, D) features of all images of the bank.
        settings: Recipe.
        probes: Of P tasks, :func:`plan_probes`, on the features' device.

    Returns:
        (P, R) float64 accuracies, a fraction 0..1, on the features' device.
    """
    x, width = features.double(), features.shape[1]
    accuracies = x.new_empty(len(probes), settings.draws)
    # Of one size, and with tests of similar length.
    sizes = [(*probe.train_rows.shape, probe.n_classes) for probe in probes]
    order = sorted(range(len(probes)), key=lambda index: (sizes[index], len(probes[index].test_rows)))
    for (draws, n, classes), group in groupby(order, key=sizes.__getitem__):
        left = list(group)
        longest = len(probes[left[-1]].test_rows)
        cost = 8 * (draws * (3 * n * width + 2 * longest * classes + 3 * min(n, width) ** 2) + longest * width)
        at_once = max(1, CHUNK_BYTES["cuda" if x.is_cuda else "cpu"] // cost)
        for some in (left[start : start + at_once] for start in range(0, len(left), at_once)):
            train_rows, train_class, test_rows, test_class, _ = zip(*(probes[index] for index in some), strict=True)
            labels = torch.stack(train_class).repeat_interleave(draws, 0)
            weights, biases = probe_weights(x[torch.cat(train_rows)], labels, classes, settings.ridge)
            rows, expected = (pad_sequence(list(part), True, -1) for part in (test_rows, test_class))  # (B, m)
            scores = x[rows.clamp(min=0)].unsqueeze(1) @ weights.unflatten(0, (-1, draws))  # (B, R, m, C)
            hits = (scores + biases.unflatten(0, (-1, draws))).argmax(-1) == expected.unsqueeze(1)
            tested = (expected >= 0).sum(-1, keepdim=True)
            accuracies[torch.tensor(some, device=x.device)] = hits.sum(-1) / tested.double()
    return accuracies
