"""Image classification tasks made from formulas and fonts: the worlds in which the starter zoo lives.

`BASE_TASKS` maps a task's id to what draws it; `generate_split` draws a split of it, `task_images` what is measured
on. Every (task, split, class) has its own random stream, so that nothing depends on what else is drawn.
"""

import zlib

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import TaskImages
from thesis_rec.tasks import (
    automata,
    cells,
    charts,
    colour,
    counting,
    defects,
    digits,
    flags,
    flow,
    foliage,
    fractals,
    fruit,
    glyphs,
    gratings,
    indicators,
    lattices,
    maps,
    minerals,
    noise_spectra,
    position,
    relation,
    scenes,
    search,
    shading,
    shapes,
    signs,
    skies,
    spectrograms,
    strokes,
    symmetry,
    textiles,
    topology,
    turing,
    voronoi,
)
from thesis_rec.tasks.base import BaseTask

SPLITS = ("pretrain", "train", "test")
PRETRAIN_PER_CLASS = 200
TRAIN_PER_CLASS = 48
TEST_PER_CLASS = 60

#: The modules of this package that define families, in the order of the catalogue.
THEMES = (
    shapes,
    counting,
    position,
    colour,
    gratings,
    noise_spectra,
    voronoi,
    turing,
    fractals,
    glyphs,
    strokes,
    shading,
    topology,
    cells,
    scenes,
    signs,
    charts,
    search,
    digits,
    symmetry,
    automata,
    relation,
    spectrograms,
    defects,
    lattices,
    maps,
    flow,
    flags,
    fruit,
    foliage,
    indicators,
    minerals,
    textiles,
    skies,
)


def _collect() -> dict[str, BaseTask]:
    found: dict[str, BaseTask] = {}
    for theme in THEMES:
        for task in theme.TASKS:
            if task.task_id in found:
                raise ValueError(f"two tasks are called {task.task_id}")
            found[task.task_id] = task
    return found


BASE_TASKS: dict[str, BaseTask] = _collect()


def families() -> dict[str, list[str]]:
    """Return the task ids of every family."""
    grouped: dict[str, list[str]] = {}
    for task in BASE_TASKS.values():
        grouped.setdefault(task.family, []).append(task.task_id)
    return grouped


def generate_split(
    task_id: str, split: str, n_per_class: int, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw a split of a base task.

    Args:
        task_id: Key of `BASE_TASKS`.
        split: `pretrain`, `train` or `test`; they never share an image.
        n_per_class: Images of each class.
        seed: Draws another world's images of the same task.

    Returns:
        Images (N, 32, 32, 3) uint8 RGB and labels (N,) int64, class by class.

    Raises:
        KeyError: Unknown task.
        ValueError: Unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    task = BASE_TASKS[task_id]
    images = []
    for k in range(len(task.class_names)):
        stream = np.random.SeedSequence([seed, zlib.crc32(task_id.encode()), SPLITS.index(split), k])
        images.append(task.render(k, n_per_class, np.random.default_rng(stream), split))
    return np.concatenate(images), np.repeat(np.arange(len(images), dtype=np.int64), n_per_class)


def task_images(
    task_id: str, n_train: int = TRAIN_PER_CLASS, n_test: int = TEST_PER_CLASS, seed: int = 0
) -> TaskImages:
    """Draw what a base task is measured on: `n_train` and `n_test` images of each class."""
    train, test = generate_split(task_id, "train", n_train, seed), generate_split(task_id, "test", n_test, seed)
    return TaskImages(task_id, *train, *test, class_names=list(BASE_TASKS[task_id].class_names))


def example_grid(task_id: str, per_class: int = 4, seed: int = 0) -> NDArray[np.uint8]:
    """Draw a task's examples, one column per class and `per_class` rows, with 2-pixel gaps.

    Returns:
        (per_class * 34 - 2, classes * 34 - 2, 3) uint8.
    """
    images, labels = generate_split(task_id, "train", per_class, seed)
    n_classes = int(labels.max()) + 1
    tiles = np.full((per_class, 34, n_classes, 34, 3), 255, dtype=np.uint8)
    tiles[:, :32, :, :32] = images.reshape(n_classes, per_class, 32, 32, 3).transpose(1, 2, 0, 3, 4)
    return tiles.reshape(per_class * 34, n_classes * 34, 3)[:-2, :-2]
