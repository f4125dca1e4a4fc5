"""Few-shot linear probes in closed form.

The recipe, the same for every model and task:

1. **Draw.** In repeat ``r``, ``min(shots, 75 % of the class's images)`` training images of every class are drawn by
   seed. The draw of a class depends on its base dataset, its index there and ``r`` only, so a class contributes the
   same images to every sub-task and mixture that it is part of.
2. **Standardise.** Features get the mean and (population) standard deviation of the task's drawn images; a feature
   that is constant there keeps scale 1, exactly as in ``sklearn.preprocessing.StandardScaler``.
3. **Solve.** Ridge regression with intercept on one-hot targets, with ``lambda = ridge * n`` for ``n`` drawn images:
   the mean eigenvalue of the standardised Gram matrix is ``n``, so ``ridge`` is relative to it and means the same for
   every number of images and features. The normal equations are solved in the primal (features) or the dual (images),
   whichever is smaller; both give the same weights.
4. **Measure.** Accuracy of the argmax on all test images of the task's classes.

A task's classes are gathered by index from the features of the base tasks, so any class-subset or mixture costs a small
matrix and no forward pass.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import MeasuredTask
from thesis_rec.truth.settings import MAX_SHARE, ProbeRecipe

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassRows:
    """Where the images of one class are in the bank's feature matrix.

    Attributes:
        train: (n,) rows of training images.
        test: (m,) rows of test images.
    """

    train: Rows
    test: Rows


def draw_rows(rows: ClassRows, dataset_id: str, class_index: int, draw: int, shots: int, seed: int) -> Rows:
    """The training rows of one class in one draw.

    Args:
        rows: The class's rows.
        dataset_id: Base dataset of the class.
        class_index: Index of the class there.
        draw: Number of the repeat.
        shots: Images that are wanted.
        seed: Of all draws.

    Returns:
        (k,) rows, ``k = min(shots, 0.75 n)`` but at least one.
    """
    count = len(rows.train)
    k = min(shots, max(1, int(MAX_SHARE * count)), count)
    key = [seed, draw, zlib.crc32(dataset_id.encode()), class_index]
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

    train_rows: Rows
    train_class: Rows
    test_rows: Rows
    test_class: Rows
    n_classes: int


def by_class(rows: Sequence[Rows]) -> tuple[Rows, Rows]:
    """The rows (N,) of the classes one after another, and the number of the class of each."""
    return np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(one) for one in rows])


def plan_probes(
    tasks: Sequence[MeasuredTask], classes: Mapping[str, Sequence[ClassRows]], recipe: ProbeRecipe, seed: int = 0
) -> list[Probe]:
    """Draw the training images of every task and repeat.

    Args:
        tasks: What is measured.
        classes: For each base dataset, the rows of its classes in order.
        recipe: How many images, and how often.
        seed: Of all draws.

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
        draws = [draw_rows(rows, dataset_id, c, draw, recipe.shots, seed) for draw in range(recipe.draws)]
        return np.stack(draws, axis=1)

    probes = []
    for task in tasks:
        if len(task.members) < 2:
            raise ValueError(f"{task.dataset_id}: a task needs at least two classes")
        tests = [classes[dataset_id][c].test for dataset_id, c in task.members]
        if not any(len(rows) for rows in tests):
            raise ValueError(f"{task.dataset_id}: there is no test image")
        train_rows, train_class = by_class([drawn(*member) for member in task.members])
        probes.append(Probe(train_rows.T, train_class, *by_class(tests), len(tests)))
    return probes


def probe_weights(x: Floats, labels: Rows, n_classes: int, ridge: float) -> tuple[Floats, Floats]:
    """Linear classifiers of a task's probes, acting on unstandardised features.

    Args:
        x: (B, n, D) training features.
        labels: (n,) classes, the same in all.
        n_classes: C.
        ridge: Relative ridge penalty.

    Returns:
        Weights (B, D, C) and biases (B, 1, C), so that ``x @ weights + biases`` are the class scores.
    """
    _, count, width = x.shape
    mean, scale = x.mean(1, keepdims=True), x.std(1, keepdims=True)  # (B, 1, D)
    # The rule by which StandardScaler decides that a feature is constant.
    eps = np.finfo(np.float64).eps
    scale[scale**2 <= count * eps * scale**2 + (count * mean * eps) ** 2] = 1.0
    z = (x - mean) / scale
    y = np.eye(n_classes)[labels]  # (n, C)
    level, turned = y.mean(0), z.mT
    if width <= count:
        solved = np.linalg.solve(turned @ z + ridge * count * np.eye(width), turned @ (y - level))
    else:
        solved = turned @ np.linalg.solve(z @ turned + ridge * count * np.eye(count), y - level)
    weights = solved / scale.mT
    return weights, level - mean @ weights


def probe_accuracies(features: NDArray[np.floating], recipe: ProbeRecipe, probes: Sequence[Probe]) -> Floats:
    """Test accuracy of every probe for one model.

    Args:
        features: (N, D) features of all images of the bank.
        recipe: Of which the ridge penalty and the number of repeats R matter here.
        probes: Of P tasks, :func:`plan_probes`.

    Returns:
        (P, R) accuracies, a fraction 0..1.
    """
    x, accuracies = features.astype(np.float64), np.empty((len(probes), recipe.draws))
    for found, (train_rows, train_class, test_rows, test_class, classes) in zip(accuracies, probes, strict=True):
        weights, biases = probe_weights(x[train_rows], train_class, classes, recipe.ridge)
        found[:] = ((x[test_rows] @ weights + biases).argmax(-1) == test_class).mean(-1)
    return accuracies
