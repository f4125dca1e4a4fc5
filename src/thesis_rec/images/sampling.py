"""Class-balanced batches: one image of every class in each."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray


class ClassBalancedSampler:
    """Deterministic batches of one image per class, without replacement until a class is exhausted.

    Each class's images are shuffled by a stream of their own, so batches don't depend on how many are asked for, and
    any batch can be made without those before it. A class that is exhausted is shuffled anew.

    Args:
        labels: (N,) class of each image, 0..C-1; each class has some.
        seed: Seed of the shuffles.
    """

    def __init__(self, labels: NDArray[np.int64], seed: int = 0) -> None:
        order = np.argsort(labels, kind="stable")
        self._members = np.split(order, np.cumsum(np.bincount(labels))[:-1])
        self._seed = seed
        self._cycle = cache(self._shuffled)

    def batch(self, number: int) -> NDArray[np.int64]:
        """(C,) one image of each class."""
        places = [divmod(number, len(members)) for members in self._members]
        return np.array([self._cycle(c, cycle)[place] for c, (cycle, place) in enumerate(places)], dtype=np.int64)

    def substitutes(self, number: int, class_index: int) -> list[int]:
        """Other images of a class for one place of a batch, each once, for when the image there can't be read."""
        cycle, place = divmod(number, len(self._members[class_index]))
        return np.roll(self._cycle(class_index, cycle), -place)[1:].tolist()

    def _shuffled(self, class_index: int, cycle: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, class_index, cycle]).permutation(self._members[class_index])
