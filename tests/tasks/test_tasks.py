"""Generated tasks: what they give, that they repeat, and that their classes can be told apart."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from thesis_rec import tasks
from thesis_rec.tasks import BASE_TASKS, canvas, digits, generate_split, styles

FAMILIES = tasks.families()
FINGERPRINTS = Path(__file__).with_name("task_fingerprints.json")
# One task of every family and style is drawn in most tests; every task is drawn once in `test_every_task`.
SAMPLE = [ids[len(ids) // 2] for ids in FAMILIES.values()]


def test_catalogue_is_large_and_well_formed():
    assert len(FAMILIES) >= 39
    assert len(BASE_TASKS) >= 289
    for task_id, task in BASE_TASKS.items():
        assert re.fullmatch("[a-z0-9_]+", task_id)
        assert task_id == task.task_id
        assert 3 <= len(task.class_names) <= 16
        assert len(set(task.class_names)) == len(task.class_names), task_id
        assert task.style in styles.STYLES
        assert task.group in ("structured", "natural")
        assert task.description.endswith(".")


def test_families_have_enough_tasks_and_styles():
    for family, ids in FAMILIES.items():
        assert 6 <= len(ids) <= 10, family
        assert len({BASE_TASKS[i].style for i in ids}) >= 5, family


def fingerprint(images: np.ndarray) -> list[float]:
    """Mean brightness of the four quarters of a stack of images, and the spread of all."""
    quarters = images.reshape(len(images), 2, 16, 2, 16, 3).mean((0, 2, 4, 5), dtype=np.float64).ravel()
    return [round(float(q), 2) for q in (*quarters, images.std(dtype=np.float64))]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_task(family):
    """Also that tasks are drawn as they were when the embedded zoo was measured: they mustn't change under it."""
    frozen = json.loads(FINGERPRINTS.read_text())
    for task_id in FAMILIES[family]:
        images, labels = generate_split(task_id, "test", 2)
        n_classes = len(BASE_TASKS[task_id].class_names)
        assert images.shape == (2 * n_classes, 32, 32, 3)
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64
        assert np.bincount(labels).tolist() == [2] * n_classes
        # Pictures differ from each other and aren't empty.
        assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images), task_id
        assert (images.reshape(len(images), -1).std(axis=1) > 1).all(), task_id
        # Versions of numpy and FreeType may differ by a grey level here and there.
        assert fingerprint(images) == pytest.approx(frozen[task_id], abs=0.6), task_id


@pytest.mark.parametrize("task_id", SAMPLE)
def test_same_seed_gives_same_images(task_id):
    first, again = generate_split(task_id, "train", 2, seed=3), generate_split(task_id, "train", 2, seed=3)
    assert np.array_equal(first[0], again[0])
    other = generate_split(task_id, "train", 2, seed=4)
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("task_id", SAMPLE[:8])
def test_splits_are_different_images(task_id):
    drawn = {s: generate_split(task_id, s, 3)[0].reshape(-1, 3072) for s in tasks.SPLITS}
    together = np.concatenate(list(drawn.values()))
    assert len(np.unique(together, axis=0)) == len(together)


def test_split_streams_depend_on_nothing_else():
    before = generate_split("shapes_filled", "test", 2)[0]
    generate_split("shapes_filled", "train", 5)
    np.random.default_rng(0).random(100)
    assert np.array_equal(before, generate_split("shapes_filled", "test", 2)[0])


def test_unknown_names_are_refused():
    with pytest.raises(KeyError):
        generate_split("no_such_task", "train", 1)
    with pytest.raises(ValueError, match="split 'valid'"):
        generate_split("shapes_filled", "valid", 1)
    with pytest.raises(ValueError, match="style 'ugly'"):
        styles.finish(np.zeros((1, 32, 32, 3)), "ugly", np.random.default_rng(0))


def test_digits_of_different_splits_are_different_writings():
    pools = [digits._pool(4, split).reshape(-1, 64) for split in tasks.SPLITS]
    assert min(map(len, pools)) >= 55
    for i in range(3):
        for j in range(i):
            same = (pools[i][:, None] == pools[j][None]).all(-1)
            assert not same.any()


def _features(images: np.ndarray) -> np.ndarray:
    """Coarse colours and gradient energies in a 4 x 4 board of cells, and the spectrum's radial profile."""
    x = images.astype(np.float32) / 255
    grey = x.mean(-1)
    gy, gx = np.gradient(grey, axis=(1, 2))
    angle, size = np.arctan2(gy, gx), np.hypot(gx, gy)
    maps = [x[..., c] for c in range(3)] + [size] + [size * np.cos(k * angle) for k in (1, 2, 4)]
    maps += [size * np.sin(k * angle) for k in (1, 2, 4)] + [np.abs(grey - grey.mean((1, 2), keepdims=True))]
    cells = [m.reshape(len(x), 4, 8, 4, 8).mean((2, 4)).reshape(len(x), -1) for m in maps]
    spectrum = np.log1p(np.abs(np.fft.rfft2(grey))[:, :16, :16]).reshape(len(x), -1)
    return np.concatenate([*cells, spectrum], axis=1)


def _accuracy(task_id: str, shots: int = 14) -> tuple[float, int]:
    """Few-shot ridge classification of simple features."""
    train, y = generate_split(task_id, "train", shots)
    test, z = generate_split(task_id, "test", 8)
    f, g = _features(train), _features(test)
    mean, std = f.mean(0), f.std(0) + 1e-6
    f, g = (f - mean) / std, (g - mean) / std
    n_classes = len(BASE_TASKS[task_id].class_names)
    kernel = f @ f.T
    weights = np.linalg.solve(
        kernel + 0.1 * np.trace(kernel) / len(f) * np.eye(len(f)), np.eye(n_classes)[y] - 1 / n_classes
    )
    return float(((g @ f.T @ weights).argmax(1) == z).mean()), n_classes


@pytest.mark.parametrize(
    "task_id",
    [
        "shapes_filled", "counting_many", "position_grid3", "colour_dominant", "gratings_orientation",
            "noise_spectra_exponent",
        "voronoi_kind", "turing_wavelength", "fractals_attractor", "strokes_digits_bold", "shading_relief",
        "cells_nucleus", "scenes_landscape", "signs_plate", "charts_trend",
        "digits", "automata_rule", "spectrograms_kind", "maps_land_use_grey",
    ],
)  # fmt: skip
def test_classes_can_be_told_apart(task_id):
    accuracy, n_classes = _accuracy(task_id)
    assert accuracy > 1.7 / n_classes


def test_mean_task_is_neither_trivial_nor_hopeless():
    scores = [_accuracy(i, 8)[0] for i in SAMPLE[::4]]
    assert 0.2 < float(np.mean(scores)) < 0.95


def test_task_images_match_the_contract():
    task = tasks.task_images("topology_inside", n_train=3, n_test=2)
    assert task.dataset_id == "topology_inside"
    assert task.class_names == ["inside", "on", "outside"]
    assert task.train_images.shape == (9, 32, 32, 3)
    assert np.bincount(task.test_labels).tolist() == [2, 2, 2]


def test_example_grid():
    grid = tasks.example_grid("counting_gaps", per_class=2)
    assert grid.shape == (2 * 34 - 2, 8 * 34 - 2, 3)
    first = generate_split("counting_gaps", "train", 2)[0]
    assert np.array_equal(grid[:32, :32], first[0])
    assert np.array_equal(grid[34:66, 34:66], first[3])


def test_two_tasks_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(tasks, "THEMES", (tasks.shapes, tasks.shapes))
    with pytest.raises(ValueError, match="two tasks are called"):
        tasks._collect()


@pytest.mark.parametrize("style", styles.STYLES)
def test_styles_keep_the_figure_visible(style):
    """The figure's pixels still differ from the ground's, more or less so by style."""
    rng = np.random.default_rng(5)
    x, y = canvas.grid()
    mask = np.repeat(canvas.cover(canvas.disc(x, y, 0.6)), 24, axis=0)
    image = styles.finish(styles.paint(mask, style, rng), style, rng)
    inside, outside = mask[0] > 0.9, mask[0] < 0.1
    gap = np.abs(image[:, inside].mean(1) - image[:, outside].mean(1)).max(-1)
    assert (gap > 0.05).mean() > 0.8
    assert image.shape == (24, 32, 32, 3)
