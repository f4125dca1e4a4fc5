"""The encoder's own evaluation, against direct loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.images.encoders.tiny import colour_encoder
from thesis_rec.base.tables import TaskTokens
from thesis_rec.images.encoders.encoder_evaluation import (
    class_text_features,
    evaluated,
    mean_accuracies,
    nearest_class_mean_accuracy,
    zero_shot_accuracy,
)


def unit(shape, seed=0):
    x = np.random.default_rng(seed).normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@given(st.integers(2, 5), st.integers(2, 6), st.integers(0, 9))
def test_nearest_class_mean_leaves_the_batch_out(n_batches, n_classes, seed):
    features = unit((n_batches, n_classes, 3), seed)
    right = 0
    for b in range(n_batches):
        means = np.delete(features, b, axis=0).mean(0)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        right += sum(int(np.argmax(means @ features[b, c])) == c for c in range(n_classes))
    assert np.isclose(nearest_class_mean_accuracy(features), right / (n_batches * n_classes))


def test_nearest_class_mean_on_other_images_and_of_one_batch():
    features = np.eye(3)[None]
    assert nearest_class_mean_accuracy(features, np.eye(3)[None]) == 1
    assert nearest_class_mean_accuracy(features, np.eye(3)[None, [1, 0, 2]]) == 1 / 3
    assert np.isnan(nearest_class_mean_accuracy(features))


def test_zero_shot():
    assert zero_shot_accuracy(np.eye(4)[None], np.eye(4)) == 1
    assert zero_shot_accuracy(np.eye(4)[None], np.eye(4)[[1, 0, 2, 3]]) == 0.5


def test_prompts_are_averaged():
    encoder = colour_encoder()
    text = class_text_features(encoder, ["red", "light_blue"], ["a {}", "{}"])
    np.testing.assert_allclose(text, encoder.encode_text(["red", "light blue"]), atol=1e-6)


def test_document():
    encoder = colour_encoder()
    features = np.stack([encoder.encode_text(["red", "green", "blue"])] * 2)
    train = TaskTokens("d", features, ["red", "green", "blue"], 6, encoder.encoder_id)
    document = {"d": evaluated(encoder, train, train, ["{}"])}
    assert mean_accuracies(document) == {"nearest_class_mean": 1.0, "zero_shot": 1.0, "chance": 1 / 3}
    assert document["d"]["tested_on"] == "test"
    other = TaskTokens("d", features[:, :2], ["red", "green"], 4, encoder.encoder_id)
    encoder._text = None
    document = {"d": evaluated(encoder, train, other, ["{}"])}
    assert document["d"]["tested_on"] == "train"
    assert mean_accuracies(document)["zero_shot"] is None


def test_a_figure_that_a_dataset_lacks_is_left_out_of_the_mean():
    entries = {
        "a": {"nearest_class_mean": float("nan")},
        "b": {"nearest_class_mean": 0.5},
        "c": {"nearest_class_mean": None},
    }
    entries = {name: {"zero_shot": None, "chance": 0.5} | entry for name, entry in entries.items()}
    assert mean_accuracies(entries) == {"nearest_class_mean": 0.5, "zero_shot": None, "chance": 0.5}
