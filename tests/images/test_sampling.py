"""Class-balanced batches: balance, no repetition before exhaustion, determinism."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_rec.images.sampling import ClassBalancedSampler

labels = st.integers(1, 5).flatmap(
    lambda c: st.tuples(st.just(c), st.permutations(list(range(c)) * 2 + [0] * 3).map(lambda p: np.array(p, np.int64)))
)


@given(labels, st.integers(1, 12), st.integers(0, 3))
def test_every_batch_has_each_class_once_and_repeats_only_when_exhausted(case, n_batches, seed):
    n_classes, y = case
    batches = ClassBalancedSampler(y, n_classes, seed).batches(n_batches)
    assert batches.shape == (n_batches, n_classes)
    assert (y[batches] == np.arange(n_classes)).all()
    for c in range(n_classes):
        size = int((y == c).sum())
        for start in range(0, n_batches - size + 1, size):
            assert len(set(batches[start : start + size, c])) == size


@given(labels, st.integers(0, 9))
def test_a_batch_does_not_depend_on_those_before_it(case, number):
    n_classes, y = case
    alone = ClassBalancedSampler(y, n_classes, 1).batch(number)
    assert np.array_equal(alone, ClassBalancedSampler(y, n_classes, 1).batches(number + 1)[number])


def test_seed_matters_and_substitutes_are_the_other_images():
    y = np.zeros(50, np.int64)
    first, second = (ClassBalancedSampler(y, 1, seed).batches(50) for seed in (0, 1))
    assert not np.array_equal(first, second)
    sampler = ClassBalancedSampler(np.array([0, 0, 0, 1]), 2, 0)
    others = list(sampler.substitutes(4, 0))
    assert sorted([*others, int(sampler.batch(4)[0])]) == [0, 1, 2]
    assert list(sampler.substitutes(0, 1)) == []


def test_an_empty_class_is_refused():
    with pytest.raises(ValueError, match="class 1 has no image"):
        ClassBalancedSampler(np.array([0, 2]), 3)
