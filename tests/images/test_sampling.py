"""Class-balanced batches: balance, no repetition before exhaustion, determinism."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_rec.base.errors import ItemError
from thesis_rec.images.encoders.streaming import BatchImages, decoded

labels = st.integers(1, 5).flatmap(
    lambda c: st.tuples(st.just(c), st.permutations(list(range(c)) * 2 + [0] * 3).map(lambda p: np.array(p, np.int64)))
)


def chosen(labels, seed=0):
    return BatchImages(SimpleNamespace(labels=labels), (), 0, seed)


def batches(sampler, n_classes, count):
    """(count, C) the first choices."""
    return np.array([[sampler.candidates(number, c)[0] for c in range(n_classes)] for number in range(count)])


@given(labels, st.integers(1, 12), st.integers(0, 3))
def test_every_batch_has_each_class_once_and_repeats_only_when_exhausted(case, n_batches, seed):
    n_classes, y = case
    found = batches(chosen(y, seed), n_classes, n_batches)
    assert found.shape == (n_batches, n_classes)
    assert (y[found] == np.arange(n_classes)).all()
    for c in range(n_classes):
        size = int((y == c).sum())
        for start in range(0, n_batches - size + 1, size):
            assert len(set(found[start : start + size, c])) == size


@given(labels, st.integers(0, 9))
def test_a_batch_does_not_depend_on_those_before_it(case, number):
    n_classes, y = case
    alone = [chosen(y, 1).candidates(number, c)[0] for c in range(n_classes)]
    assert np.array_equal(alone, batches(chosen(y, 1), n_classes, number + 1)[number])


def test_seed_matters_and_the_other_candidates_are_the_other_images():
    y = np.zeros(50, np.int64)
    first, second = (batches(chosen(y, seed), 1, 50) for seed in (0, 1))
    assert not np.array_equal(first, second)
    sampler = chosen(np.array([0, 0, 0, 1]))
    assert sorted(sampler.candidates(4, 0)) == [0, 1, 2]
    assert sampler.candidates(0, 1).tolist() == [3]


class Partly:
    """Images of two classes, of which some can't be read."""

    dataset_id, class_names, labels = "d", ["cat", "dog"], np.array([0, 0, 0, 1])

    def __init__(self, broken):
        self.broken = broken

    def square(self, index, size):
        if index in self.broken:
            raise ItemError(f"{index}.png", "is cut off.", "Copy it again.")
        return np.full((size, size, 3), index, np.uint8)


@pytest.mark.parametrize("workers", [0, 1])
def test_another_image_stands_for_one_that_cannot_be_read(workers):
    images = Partly({0, 1})
    order = BatchImages(images, [0], 4).candidates(0, 0).tolist()
    ((which, pixels, failures),) = decoded(BatchImages(images, [0], 4), [np.arange(2)], workers)
    assert which.tolist() == [2, 3]
    assert pixels[:, 0, 0, 0].tolist() == [2, 3]
    # Told is the image that was to be shown, not the last that failed.
    assert [order[0] == 2 or f"{order[0]}.png" in failure.error for failure in failures] == [True] * (order[0] != 2)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_class_without_any_image_that_can_be_read_is_refused(workers):
    with pytest.raises(ItemError, match="class 'dog' has no image that can be read") as caught:
        list(decoded(BatchImages(Partly({3}), [0], 4), [np.arange(2)], workers))
    assert "3.png" in caught.value.error
    assert "is cut off" in caught.value.error
