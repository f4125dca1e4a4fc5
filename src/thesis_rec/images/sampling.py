"""Class-balanced batches: one image of every class in each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


class ClassBalancedSampler:
    """Deterministic batches of one image per class, without replacement until a class is exhausted.

    Each class's images are shuffled by a stream of their own, so batches don't depend on how many are asked for, and
    any batch can be made without those before it. A class that is exhausted is shuffled anew.

    Args:
        labels: (N,) class of each image, 0..C-1.
        n_classes: C.
        seed: Seed of the shuffles.

    Raises:
        ValueError: If a class has no image.
    """

    def __init__(self, labels: NDArray[np.int64], n_classes: int, seed: int = 0) -> None:
        order = np.argsort(labels, kind="stable")
        bounds = np.searchsorted(labels[order], np.arange(n_classes + 1))
        self._members = [order[bounds[c] : bounds[c + 1]] for c in range(n_classes)]
        if empty := [c for c, members in enumerate(self._members) if len(members) == 0]:
            raise ValueError(f"class {empty[0]} has no image; leave it out first")
        self._seed = seed
        self._shuffled: dict[tuple[int, int], NDArray[np.int64]] = {}

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self._members)

    def batch(self, number: int) -> NDArray[np.int64]:
        """(C,) one image of each class."""
        return np.array([self._at(c, number) for c in range(self.n_classes)], dtype=np.int64)

    def batches(self, n_batches: int) -> NDArray[np.int64]:
        """(B, C) the first batches."""
        return np.stack([self.batch(b) for b in range(n_batches)])

    def substitutes(self, number: int, class_index: int) -> Iterator[int]:
        """Other images of a class for one place of a batch, each once, for when the image there can't be read."""
        members = self._members[class_index]
        cycle, start = divmod(number, len(members))
        shuffled = self._cycle(class_index, cycle)
        for step in range(1, len(members)):
            yield int(shuffled[(start + step) % len(members)])

    def _at(self, class_index: int, number: int) -> int:
        cycle, place = divmod(number, len(self._members[class_index]))
        return int(self._cycle(class_index, cycle)[place])

    def _cycle(self, class_index: int, cycle: int) -> NDArray[np.int64]:
        key = (class_index, cycle)
        if key not in self._shuffled:
            rng = np.random.default_rng([self._seed, class_index, cycle])
            self._shuffled[key] = rng.permutation(self._members[class_index])
        return self._shuffled[key]
