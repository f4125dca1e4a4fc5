"""Landmarks: which views tell tasks apart whose cue is known."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from thesis_rec.images.encoders import EncoderConfig, load_encoder
from thesis_rec.images.loading import LabelledImages
from thesis_rec.views import landmarks, tokens
from thesis_rec.views.landmarks import LANDMARKS, landmark_values
from thesis_rec.views.tokens import SplitTokens, TokenSettings


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(EncoderConfig(source=str(Path(__file__).parents[2] / "data/01_raw/starter/clip")))


def coloured(rng, label):
    """One of two hues, whatever the pattern."""
    base = np.array([200, 60, 60]) if label else np.array([60, 60, 200])
    pattern = rng.integers(0, 55, (32, 32, 1))
    return np.clip(base + pattern, 0, 255).astype(np.uint8)


def striped(rng, label):
    """Stripes along or across, in any colours and phase."""
    y, x = np.mgrid[:32, :32]
    wave = np.sin((x if label else y) * 0.9 + rng.uniform(0, 6)) > 0
    colours = rng.integers(0, 256, (2, 3))
    return np.where(wave[..., None], colours[0], colours[1]).astype(np.uint8)


def images(draw, count=16):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], count)
    return np.stack([draw(rng, label) for label in labels]), labels


def values(encoder, draw):
    return dict(zip(LANDMARKS, landmark_values(encoder, *images(draw)), strict=True))


def test_colour_is_seen_by_what_sees_colour(encoder):
    found = values(encoder, coloured)
    assert found["colours"] > 0.9
    assert found["pixels"] > 0.9
    assert found["orientations"] < 0.6


def test_orientation_is_seen_by_what_sees_gradients(encoder):
    found = values(encoder, striped)
    assert found["orientations"] > 0.9
    assert found["gradients"] > 0.9
    assert found["colours"] < 0.5


def test_they_are_repeatable_and_named(encoder):
    once, again = (landmark_values(encoder, *images(striped)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert once.shape == (len(LANDMARKS),)
    assert len(set(LANDMARKS)) == len(LANDMARKS)
    assert (once <= 1).all()


def test_labels_without_a_cue_are_at_chance(encoder):
    pixels, labels = images(striped, 40)
    shuffled = np.random.default_rng(1).permutation(labels)
    assert np.abs(landmark_values(encoder, pixels, shuffled)).mean() < 0.3


def test_a_class_of_one_image_is_left_out(encoder):
    pixels, labels = images(striped)
    odd = np.concatenate([labels, [2]])
    np.testing.assert_array_equal(
        landmark_values(encoder, np.concatenate([pixels, pixels[:1]]), odd), landmark_values(encoder, pixels, labels)
    )
    assert np.isnan(landmark_values(encoder, pixels[:17], odd[:17])).all()


def test_what_is_kept_for_testing_is_only_tested_on(encoder):
    pixels, labels = images(coloured)
    # The cue is turned round in the second half: a probe that had seen any of it would know.
    turned, tested = np.where(np.arange(32) % 16 >= 8, 1 - labels, labels), np.arange(32) % 16 >= 8
    found = dict(zip(LANDMARKS, landmark_values(encoder, pixels, turned, tested), strict=True))
    assert found["colours"] == pytest.approx(-1.0)
    assert dict(zip(LANDMARKS, landmark_values(encoder, pixels, turned), strict=True))["colours"] > -0.5
    # A class that has nothing to test on is left out.
    assert np.isnan(landmark_values(encoder, pixels, labels, labels == 0)).all()


def split(pixels, labels):
    names = [f"c{c}" for c in np.unique(labels)]
    return LabelledImages("d", labels, names, lambda i: pixels[i], np.arange(len(labels)))


@pytest.mark.parametrize(("classes", "each", "apart", "seen"), [(2, 200, 0, 160), (20, 30, 0, 320), (60, 17, 0, 768),
                                                               (2, 200, 30, 140)])  # fmt: skip
def test_few_classes_get_more_images(encoder, monkeypatch, classes, each, apart, seen):
    looked = []
    monkeypatch.setattr(tokens, "landmark_values", lambda _, pixels, labels, tested: looked.append(labels))
    train = split(np.zeros((classes * each, 8, 8, 3), np.uint8), np.repeat(np.arange(classes), each))
    test = split(np.zeros((classes * apart, 8, 8, 3), np.uint8), np.repeat(np.arange(classes), apart))
    SplitTokens(encoder, train, TokenSettings(), test if apart else None).landmarks()
    assert len(looked[0]) == seen
    assert len(set(np.bincount(looked[0])[np.unique(looked[0])])) == 1


def test_another_choice_of_images_hardly_matters(encoder):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 400)
    # Three of four images show the cue.
    pixels = np.stack([coloured(rng, label if rng.random() < 0.75 else 1 - label) for label in labels])
    found = np.stack(
        [SplitTokens(encoder, split(pixels, labels), TokenSettings(seed=seed)).landmarks() for seed in range(3)]
    )
    of_few = np.stack([landmark_values(encoder, pixels[i::25], labels[i::25]) for i in range(3)])
    assert found.std(0).mean() < 0.6 * of_few.std(0).mean()


def test_numbers_are_drawn_as_torch_draws_them():
    draw = torch.Generator().manual_seed(0)
    uniform = torch.cat([torch.rand(6, 3, generator=draw).ravel(), torch.rand(6, generator=draw)])
    np.testing.assert_array_equal(landmarks._uniform(24), uniform.numpy())
    draw = torch.Generator().manual_seed(0)
    normal = torch.cat([torch.randn(2400, generator=draw), torch.randn(1600, generator=draw)])
    np.testing.assert_allclose(landmarks._normal(4000), normal.numpy(), atol=2e-6)


@pytest.mark.parametrize("side", [4, 7, 8, 13])
def test_pooling_and_convolution_are_those_of_torch(side):
    x = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)
    given = torch.from_numpy(x)
    pooled = torch.nn.functional.adaptive_avg_pool2d(given, side).numpy()
    np.testing.assert_allclose(landmarks._pooled(x, side), pooled, atol=1e-6)
    kernels = np.random.default_rng(1).normal(size=(5, 3, 3, 3)).astype(np.float32)
    convolved = torch.nn.functional.conv2d(given, torch.from_numpy(kernels), padding=1).relu().numpy()
    np.testing.assert_allclose(landmarks._convolved(x, kernels.reshape(5, -1), 3), convolved, atol=1e-5)
    padded = torch.nn.functional.pad(given, (2,) * 4, mode="replicate")
    around = torch.nn.functional.avg_pool2d(padded, 5, 1).numpy()
    np.testing.assert_allclose(landmarks._box(8, 2) @ x @ landmarks._box(8, 2).T, around, atol=1e-6)


def test_formulas_by_loops():
    """Each pixel in turn, as the formulas' papers have it."""
    x = np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32)
    found, grey = landmarks._formulas(x), x.mean(axis=1, dtype=np.float64)
    for n in range(2):
        colours, greys, texture, oriented, sizes = np.zeros((4, 4, 4)), np.zeros(16), np.zeros(12), np.zeros(8), []
        for i, j in np.ndindex(32, 32):
            colours[tuple((4 * x[n, :, i, j]).astype(int))] += 1
            greys[int(16 * grey[n, i, j])] += 1
        for i, j in product(range(1, 31), repeat=2):
            down, across = grey[n, i + 1, j] - grey[n, i - 1, j], grey[n, i, j + 1] - grey[n, i, j - 1]
            sizes.append(np.hypot(down, across))
            oriented[int(math.atan2(down, across) % math.pi / math.pi * 8)] += sizes[-1] / 900
            ring = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
            bits = [grey[n, i + dy, j + dx] > grey[n, i, j] + 0.01 for dy, dx in ring]
            changes = sum(one != other for one, other in zip(bits, bits[1:] + bits[:1], strict=True))
            # Uniform patterns are told by how many bits they have, others by how often these change.
            texture[sum(bits) if changes <= 2 else 7 + changes // 2] += 1
        whole = np.array([*oriented, np.mean(sizes), np.std(sizes, ddof=1)])
        amplitude, rings = np.abs(np.fft.fft2(grey[n] - grey[n].mean())), np.zeros(17)
        for i, j in np.ndindex(32, 32):
            rings[min(round(math.hypot(min(i, 32 - i), min(j, 32 - j))), 16)] += amplitude[i, j]
        expected = {
            "colours": np.sqrt(colours.ravel() / 1024),
            "greys": np.sqrt(greys / 1024),
            "texture": np.sqrt(texture / 900),
            "orientations": whole / np.linalg.norm(whole),
            "spectrum": np.log(rings[1:] + 1e-3),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(found[name][n], values, atol=2e-5, err_msg=name)
