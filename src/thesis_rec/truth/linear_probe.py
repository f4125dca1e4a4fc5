"""Few-shot linear probes in closed form, thousands of tasks at once.

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

A task's classes are gathered by index from the features of the base tasks, padded with zero rows (which change
neither system), so any class-subset or mixture costs a small matrix and no forward pass.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import MeasuredTask
from thesis_rec.truth.settings import ProbeSettings

if TYPE_CHECKING:
    from torch import Tensor

Rows = NDArray[np.int64]

#: Memory of one chunk's largest arrays, in bytes: big enough to fill a GPU, small enough for a CPU's cache levels.
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


@dataclass(frozen=True)
class ProbeChunk:
    """Probes that are solved together; -1 marks padding.

    Attributes:
        probes: (B,) positions among all probes.
        n_classes: (B,) number of classes.
        train_rows: (B, n) rows of the feature matrix.
        train_class: (B, n) class of each, or -1.
        test_rows: (B, m) rows of the feature matrix.
        test_class: (B, m) class of each, or -1.
    """

    probes: Tensor
    n_classes: Tensor
    train_rows: Tensor
    train_class: Tensor
    test_rows: Tensor
    test_class: Tensor


class Probe(NamedTuple):
    """One probe of a task: rows of the feature matrix and their classes, for training and testing."""

    train_rows: Rows
    train_class: Rows
    test_rows: Rows
    test_class: Rows
    n_classes: int


def probe_chunks(probes: Sequence[Probe], width: int, device: str) -> list[ProbeChunk]:
    """Probes as padded chunks on a device, similar sizes together.

    Args:
        probes: What is solved.
        width: Number of features, which decides how many probes fit in a chunk.
        device: Torch device.
    """
    import torch

    def cost(n: int, m: int, classes: int) -> float:
        # float64 arrays of one probe: gathered train (three copies at worst), gathered test, scores, system.
        return 8 * (3 * n * width + m * (width + 2 * classes) + 3 * min(n, width) ** 2)

    sizes = [(len(probe.train_rows), len(probe.test_rows), probe.n_classes) for probe in probes]
    chunks = []
    for group in grouped(sizes, cost, CHUNK_BYTES["cuda" if device.startswith("cuda") else "cpu"]):
        *arrays, counts = zip(*(probes[index] for index in group), strict=True)
        rows = [padded(array, device) for array in arrays]
        chunks.append(ProbeChunk(torch.tensor(group, device=device), torch.tensor(counts, device=device), *rows))
    return chunks


def grouped(sizes: Sequence[tuple[int, ...]], cost: Callable[..., float], budget: float) -> list[list[int]]:
    """Items of similar sizes together, as many as fit into a budget when they are padded to the largest among them.

    Args:
        sizes: Sizes of each item.
        cost: Bytes of an item of some sizes.
        budget: Bytes of a group.
    """
    groups: list[list[int]] = []
    largest: tuple[int, ...] = ()
    for index in sorted(range(len(sizes)), key=sizes.__getitem__):
        joined = tuple(map(max, largest, sizes[index]))
        if not groups or (len(groups[-1]) + 1) * cost(*joined) > budget:
            groups.append([])
            joined = sizes[index]
        groups[-1].append(index)
        largest = joined
    return groups


def padded(rows: Sequence[Rows], device: str) -> Tensor:
    """(B, longest) rows one below the other, -1 where they have ended."""
    import torch

    return torch.nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], True, -1.0).to(device)


def by_class(rows: Sequence[Rows]) -> tuple[Rows, Rows]:
    """The rows (N,) of the classes one after another, and the number of the class of each."""
    return np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(one) for one in rows])


def plan_probes(
    tasks: Sequence[MeasuredTask], classes: Mapping[str, Sequence[ClassRows]], settings: ProbeSettings
) -> list[Probe]:
    """Draw the training images of every task and repeat.

    Args:
        tasks: What is measured.
        classes: For each base dataset, the rows of its classes in order.
        settings: Recipe.

    Returns:
        The probes, task by task and draw by draw.

    Raises:
        KeyError: If a task has a class of a dataset that isn't in ``classes``.
        ValueError: If a task has fewer than two classes, a class without a training image, or no test image.
    """
    probes = []

    @cache  # a class is a part of many tasks
    def drawn(dataset_id: str, c: int, draw: int) -> Rows:
        rows = classes[dataset_id][c]
        if not len(rows.train):
            raise ValueError(f"class {c} of {dataset_id} has no training image")
        return draw_rows(rows, dataset_id, c, draw, settings)

    for task in tasks:
        if len(task.members) < 2:
            raise ValueError(f"{task.dataset_id}: a task needs at least two classes")
        tests = [classes[dataset_id][c].test for dataset_id, c in task.members]
        if not any(len(rows) for rows in tests):
            raise ValueError(f"{task.dataset_id}: there is no test image")
        tested = by_class(tests)
        for draw in range(settings.draws):
            trains = [drawn(dataset_id, c, draw) for dataset_id, c in task.members]
            probes.append(Probe(*by_class(trains), *tested, len(tests)))
    return probes


def probe_weights(x: Tensor, labels: Tensor, n_classes: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Linear classifiers of a batch of tasks, acting on unstandardised features.

    Args:
        x: (B, n, D) float64 training features; padded rows hold anything finite.
        labels: (B, n) classes, -1 for padding.
        n_classes: C, the largest number of classes in the batch.
        ridge: Relative ridge penalty.

    Returns:
        Weights (B, D, C) and biases (B, C), so that ``x @ weights + biases`` are the class scores.
    """
    import torch

    valid = (labels >= 0).unsqueeze(-1)
    count = valid.sum(1).to(x.dtype)  # (B, 1)
    x = x.masked_fill(~valid, 0.0)
    mean = x.sum(1) / count  # (B, D)
    centred = (x - mean.unsqueeze(1)).masked_fill(~valid, 0.0)
    variance = centred.square().sum(1) / count
    # The rule by which StandardScaler decides that a feature is constant.
    eps = torch.finfo(x.dtype).eps
    constant = variance <= count * eps * variance + (count * mean * eps).square()
    scale = torch.where(constant, torch.ones_like(variance), variance.sqrt())  # (B, D)
    z = centred / scale.unsqueeze(1)
    y = torch.nn.functional.one_hot(labels.clamp(min=0), n_classes).to(x.dtype).masked_fill(~valid, 0.0)
    y_mean = y.sum(1) / count  # (B, C)
    y = (y - y_mean.unsqueeze(1)).masked_fill(~valid, 0.0)
    penalty = (ridge * count).unsqueeze(-1)  # (B, 1, 1)
    rows, width = z.shape[1], z.shape[2]
    if width <= rows:
        gram = z.mT @ z
        weights = _solve(gram, penalty, z.mT @ y)
    else:
        weights = z.mT @ _solve(z @ z.mT, penalty, y)
    weights = weights / scale.unsqueeze(-1)
    biases = y_mean - (mean.unsqueeze(1) @ weights).squeeze(1)
    return weights, biases


def _solve(gram: Tensor, penalty: Tensor, right: Tensor) -> Tensor:
    import torch

    system = gram + penalty * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor, _ = torch.linalg.cholesky_ex(system)
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)


def probe_accuracies(features: Tensor, settings: ProbeSettings, chunks: Sequence[ProbeChunk]) -> Tensor:
    """Test accuracy of every probe for one model.

    Args:
        features: (N, D) features of all images of the bank.
        settings: Recipe.
        chunks: :func:`probe_chunks` for D features, on the features' device.

    Returns:
        (P,) float64 accuracies, a fraction 0..1, on the features' device.
    """
    import torch

    x = features.double()
    accuracies = torch.empty(sum(len(chunk.probes) for chunk in chunks), dtype=torch.float64, device=x.device)
    for chunk in chunks:
        classes = int(chunk.n_classes.max())
        weights, biases = probe_weights(x[chunk.train_rows.clamp(min=0)], chunk.train_class, classes, settings.ridge)
        scores = x[chunk.test_rows.clamp(min=0)] @ weights + biases.unsqueeze(1)  # (B, m, C)
        absent = torch.arange(classes, device=x.device) >= chunk.n_classes.unsqueeze(-1)  # (B, C)
        predicted = scores.masked_fill(absent.unsqueeze(1), -torch.inf).argmax(-1)
        valid = chunk.test_class >= 0
        hits = ((predicted == chunk.test_class) & valid).sum(1)
        accuracies[chunk.probes] = hits.double() / valid.sum(1).double()
    return accuracies
