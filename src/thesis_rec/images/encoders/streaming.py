"""Many images on their way to an encoder: decoded by worker processes while it computes, in bounded memory.

Processes, because threads wait for the interpreter: 15 of them decode 1,500 JPEG files of 96 pixels a second where 15
processes decode 8,650 (16 cores). Pinned memory, and features fetched one batch late, bring nothing beside them: on an
H200 with a ViT-B/32 in bf16, 5,400 to 5,900 images a second with both and 5,300 to 6,300 without.
"""

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import Failure, ItemError
from thesis_rec.images.dataset_source import FileNote
from thesis_rec.images.loading import LabelledImages, by_class

#: An image: which one, its pixels, and what is wrong with the one that it stands for.
Sample = tuple[int, NDArray[np.uint8], Failure | None]


class BatchImages:
    """The images of class-balanced batches, decoded and resized, by their places: row by row, class by class.

    Batches are deterministic and have one image per class, without replacement until a class is exhausted, which is
    shuffled anew then. Each class's images are shuffled by a stream of their own, so batches don't depend on how many
    are asked for, and any batch can be made without those before it.

    Args:
        images: Where they come from; each class has some.
        numbers: Numbers of the batches.
        size: Side, in pixels.
        seed: Seed of the shuffles.
    """

    def __init__(self, images: LabelledImages, numbers: Sequence[int], size: int, seed: int = 0) -> None:
        self.images, self.numbers, self.size, self.seed = images, numbers, size, seed
        self._members = by_class(images.labels)

    def candidates(self, number: int, class_index: int) -> NDArray[np.int64]:
        """The image of a class in a batch, and then its others, each once, for when that can't be read."""
        members = self._members[class_index]
        cycle, place = divmod(number, len(members))
        return np.roll(np.random.default_rng([self.seed, class_index, cycle]).permutation(members), -place)

    def __getitem__(self, place: int) -> Sample:
        """An image, or another one of its class where that can't be read; -1 and a black one where none of them can."""
        row, class_index = divmod(place, len(self.images.class_names))
        first: Failure | None = None
        for index in self.candidates(self.numbers[row], class_index).tolist():
            try:
                return index, self.images.square(index, self.size), first
            except ItemError as error:
                first = first or FileNote.skipped(self.images.dataset_id, error)
        name = self.images.class_names[class_index]
        reason = f"class {name!r} has no image that can be read; {first and first.error}"
        none = Failure(self.images.dataset_id, reason, "Replace its images, or remove the class.")
        return -1, np.zeros((self.size, self.size, 3), dtype=np.uint8), none


def decoded(
    chosen: BatchImages, pieces: Sequence[NDArray[np.integer]], workers: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8], list[Failure]]]:
    """Decode images piece by piece, in order; ``workers`` processes are at most two pieces ahead each.

    Args:
        chosen: The images.
        pieces: (B,) places each.
        workers: Processes that decode; 0 decodes in this one.

    Yields:
        For each piece (B,) which images, (B, S, S, 3) pixels, and what is wrong with those that others stand for.

    Raises:
        ItemError: If a class has no readable image.
    """
    samples = (_stacked([chosen[place] for place in piece.tolist()]) for piece in pieces)
    for which, pixels, failures in _by_workers(chosen, pieces, workers) if workers else samples:
        if -1 in which:
            bad = failures[which.index(-1)]
            raise ItemError(bad.item, bad.error, bad.hint)
        yield np.array(which), np.asarray(pixels), [failure for failure in failures if failure is not None]


def _stacked(samples: list[Sample]) -> tuple[Any, ...]:
    which, pixels, failures = zip(*samples, strict=True)
    return which, np.stack(pixels), failures


def _by_workers(chosen: BatchImages, pieces: Sequence[NDArray[np.integer]], workers: int) -> Iterable[tuple[Any, ...]]:
    from torch.utils.data import DataLoader

    _map_large_blocks()
    return DataLoader(
        chosen,  # type: ignore[arg-type]  # it is a dataset by its method
        batch_sampler=[piece.tolist() for piece in pieces],
        num_workers=workers,
        collate_fn=_shared,
        # Two pieces ahead of each worker hide its slowest image, and bound the memory.
        prefetch_factor=2,
    )


def _shared(samples: list[Sample]) -> tuple[Any, ...]:
    """A piece whose pixels come from their process through shared memory, as those of tensors do."""
    import torch

    which, pixels, failures = _stacked(samples)
    return which, torch.from_numpy(pixels), failures


def _map_large_blocks() -> None:
    """Have glibc take large blocks from the system and give them back at once.

    Torch keeps a small entry for each of the last 128 batches that came from workers. glibc puts it into the hole that
    the batch's pixels left in the heap, the next batch finds no hole of its size, and the heap grows by one batch each
    time: gigabytes. Mapped blocks leave no holes; the cost is a few page faults per batch.
    """
    threshold_option, four_mebibytes = -3, 4 << 20  # M_MMAP_THRESHOLD of malloc.h
    with suppress(OSError, AttributeError):  # another C library, which doesn't do this
        ctypes.CDLL(None).mallopt(threshold_option, four_mebibytes)
