"""Class-balanced batches: one image of every class in each."""

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

    def candidates(self, number: int, class_index: int) -> NDArray[np.int64]:
        """The image of a class in a batch, and then its others, each once, for when that can't be read."""
        members = self._members[class_index]
        cycle, place = divmod(number, len(members))
        return np.roll(np.random.default_rng([self._seed, class_index, cycle]).permutation(members), -place)
