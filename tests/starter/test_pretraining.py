import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_rec.starter.pretraining import (
    Bank,
    head_names,
    normalise,
    nt_xent,
    rotated,
    shifted,
    shuffled_batches,
    toned,
    train_recipes,
    training_job,
    view_parameters,
    viewed,
)
from thesis_rec.starter.recipes import ModelRecipe, Source


def recipe(source, steps=3, architecture="convnext_a", augment=False, seed=0):
    return ModelRecipe(
        f"{architecture}__{source.name}__{steps}", architecture, source, steps, 4e-3, 1e-2, 0.1, augment, 6, seed
    )


@pytest.fixture(scope="module")
def bank():
    rng = np.random.default_rng(0)

    def data(classes):
        labels = np.repeat(np.arange(classes), 12)
        images = rng.normal(60, 10, (len(labels), 32, 32, 3))
        for image, label in zip(images, labels, strict=True):
            # A bright quarter, another one for each class.
            image[16 * (label // 2) :][:16, 16 * (label % 2) :][:, :16] += 120
        return np.clip(images, 0, 255).astype(np.uint8), labels, list("abcd")[:classes]

    return Bank.of({"t0": data(2), "t1": data(4)})


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_shifts_move_whole_pixels(seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    shifts = rng.integers(-3, 4, (3, 2))
    found = shifted(torch.from_numpy(images), torch.from_numpy(shifts)).numpy()
    for i, (dy, dx) in enumerate(shifts):
        padded = np.pad(images[i], ((3, 3), (3, 3), (0, 0)), mode="edge")
        np.testing.assert_array_equal(found[i], padded[3 + dy : 11 + dy, 3 + dx : 11 + dx])


def test_rotations_are_those_of_numpy():
    images = torch.arange(4 * 3 * 5 * 5, dtype=torch.float32).reshape(4, 3, 5, 5)
    found = rotated(images, torch.tensor([0, 1, 2, 3])).numpy()
    for k in range(4):
        np.testing.assert_array_equal(found[k], np.rot90(images[k].numpy(), k, axes=(1, 2)))


def test_nt_xent_is_the_formula():
    z = np.random.default_rng(0).normal(size=(6, 4))
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    expected = 0.0
    for i in range(6):
        partner = (i + 3) % 6
        similar = np.exp(unit @ unit[i] / 0.2)
        expected -= np.log(similar[partner] / (similar.sum() - similar[i])) / 6
    assert float(nt_xent(torch.from_numpy(z))) == pytest.approx(expected)


def test_normalised_pixels_lie_between_minus_one_and_one():
    images = torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)
    np.testing.assert_allclose(normalise(images).flatten(), [-1, 1, -0.6], atol=1e-6)
    np.testing.assert_allclose(
        toned(normalise(images), torch.tensor([[0.1, 0.0]])).flatten(), [-0.8, 1.2, -0.4], atol=1e-6
    )


def test_the_neutral_view_is_the_image():
    images = torch.randn(2, 3, 6, 6)
    neutral = torch.tensor([[1.0, 0, 0, 1, 0, 0, 0, 0]]).repeat(2, 1)
    np.testing.assert_allclose(viewed(images, neutral), images, atol=1e-5)
    neutral[:, 3] = -1
    np.testing.assert_allclose(viewed(images, neutral), images.flip(3), atol=1e-5)


def test_views_stay_inside_the_image():
    p = view_parameters(5, 7, np.random.default_rng(0))
    assert p.shape == (5, 7, 8)
    assert (np.abs(p[..., 1:3]) + p[..., :1] <= 1 + 1e-6).all()


@given(st.integers(1, 30), st.integers(0, 7), st.integers(1, 9))
@settings(max_examples=20)
def test_batches_pass_evenly_through_all_images(n, steps, batch):
    found = shuffled_batches(np.zeros(n, np.int64), steps, batch, np.random.default_rng(0))
    assert found.shape == (steps, batch)
    counts = np.bincount(found.ravel(), minlength=n)
    assert counts.max() - counts.min() <= 1


def test_heads_are_named_after_what_is_learned():
    names = {"t0": ["a", "b"], "t1": ["a", "c"]}
    assert head_names(Source("s", "classify", ("t0",)), names) == ["a", "b"]
    assert head_names(Source("s", "classify", ("t0", "t1")), names) == ["t0 a", "t0 b", "t1 a", "t1 c"]
    assert len(head_names(Source("s", "rotate", ("t0",)), names)) == 4
    assert len(head_names(Source("s", "contrast", ("t0",)), names)) == 32


def test_labels_of_mixtures_count_through_the_tasks(bank):
    job = training_job(recipe(Source("mix", "classify", ("t1", "t0")), steps=2), bank)
    rows, labels = job.inputs["rows"].numpy().ravel(), job.inputs["labels"].numpy().ravel()
    expected = np.where(rows < 24, 4 + rows // 12, (rows - 24) // 12)
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("objective", ["classify", "rotate", "contrast"])
def test_training_is_repeatable_and_learns(objective, bank):
    source = Source("s", objective, ("t1",))
    runs = [next(train_recipes([recipe(source, augment=True)], bank)) for _ in range(2)]
    first, second = (module.state_dict() for _, module, _ in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = next(train_recipes([recipe(source, augment=True, seed=1)], bank))[1].state_dict()
    assert any(not torch.equal(first[key], other[key]) for key in first)
    assert np.isfinite(runs[0][2].loss)


def test_an_easy_source_is_learned_and_the_control_is_not_trained(bank):
    recipes = [recipe(Source("easy", "classify", ("t0",)), steps=25), recipe(Source("random", "none", ()), steps=0)]
    found = {r.source.name: (module, outcome) for r, module, outcome in train_recipes(recipes, bank)}
    assert found["random"][1] is None
    module, outcome = found["easy"]
    assert outcome.loss < 0.4
    assert not module.training
    with torch.no_grad():
        predicted = module(normalise(bank.images[:24])).argmax(1).numpy()
    assert (predicted == bank.labels["t0"]).mean() == 1
