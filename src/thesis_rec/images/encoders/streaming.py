"""Many images through an encoder: decoding in worker processes while the encoder computes, in bounded memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import Failure, ItemError
from thesis_rec.images.encoders.image_encoder import ImageEncoder, check_features
from thesis_rec.images.loading import LabelledImages, unreadable

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader

Sample = tuple[NDArray[np.uint8], Failure | None]
Decoded = tuple[NDArray[np.uint8], list[Failure | None]]


class DecodedImages:
    """Decoded, resized images by their index; what can't be read becomes a black image and a failure.

    Args:
        images: Where they come from.
        size: Side, in pixels.
    """

    def __init__(self, images: LabelledImages, size: int) -> None:
        self._images, self._size = images, size

    def __getitem__(self, index: int) -> Sample:
        try:
            return self._images.square(index, self._size), None
        except ItemError as error:
            blank = np.zeros((self._size, self._size, 3), dtype=np.uint8)
            return blank, unreadable(self._images.dataset_id, error)


def _stacked(samples: list[Sample]) -> Decoded:
    pixels, failures = zip(*samples, strict=True)
    return np.stack(pixels), list(failures)


def _collate(samples: list[Sample]) -> tuple[torch.Tensor, list[Failure | None]]:
    import torch

    pixels, failures = _stacked(samples)
    return torch.from_numpy(pixels), failures


def image_loader(
    decoded: DecodedImages, batches: Sequence[NDArray[np.integer]], *, workers: int, pin: bool = False
) -> DataLoader[Sample]:
    """Batches of decoded images in order; ``workers`` processes decode, 0 decodes in this one."""
    from torch.utils.data import DataLoader

    return DataLoader(
        decoded,  # type: ignore[arg-type]  # it is a dataset by its method
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin,
        # Two batches ahead of each worker hide its slowest image, and bound the memory.
        prefetch_factor=2 if workers else None,
    )


def encode_images(
    encoder: ImageEncoder,
    images: LabelledImages,
    batches: Sequence[NDArray[np.integer]],
    *,
    workers: int = 0,
    see: Callable[[NDArray[np.int64], NDArray[np.uint8]], None],
) -> Iterator[tuple[NDArray[np.float32], list[Failure | None]]]:
    """Encode images, batch by batch, in order.

    While the GPU encodes a batch the next one is copied from pinned memory and workers decode those after it; results
    are fetched one batch late, so that the host never waits for a batch it has just started. The batches are the
    caller's: an image encoded in the same company has the same bits, whatever else is encoded in the same run.

    Args:
        encoder: The encoder.
        images: Where they come from.
        batches: Which images, (B,) each.
        workers: Processes that decode; 0 for none.
        see: Gets those images of each batch that could be read, (B,) which and (B, S, S, 3) pixels.

    Yields:
        For each batch the features (B, D) float32, and the failure of each image or None; the features of a failed
        image mean nothing.
    """
    pin = str(encoder.device).startswith("cuda")
    decoded = DecodedImages(images, encoder.image_size)
    if not workers and not pin:
        for batch in batches:
            pixels, failures = _stacked([decoded[index] for index in batch.tolist()])
            see(*_readable(batch, pixels, failures))
            yield encoder.encode(pixels, len(batch)), failures
        return
    if workers:
        _map_large_blocks()
    waiting: list[tuple[torch.Tensor, list[Failure | None]]] = []
    loader = image_loader(decoded, batches, workers=workers, pin=pin)
    for batch, (block, failures) in zip(batches, loader, strict=True):
        waiting.append((encoder.encode_tensor(block), failures))
        see(*_readable(batch, block.numpy(), failures))
        if len(waiting) > 1:
            yield _finished(encoder, *waiting.pop(0))
    for features, failures in waiting:
        yield _finished(encoder, features, failures)


def _readable(
    batch: NDArray[np.integer], pixels: NDArray[np.uint8], failures: list[Failure | None]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    good = [failure is None for failure in failures]
    return batch[good].astype(np.int64), pixels[good]


def _map_large_blocks() -> None:
    """Have glibc take large blocks from the system and give them back at once.

    Torch keeps a small entry for each of the last 128 batches that came from workers. glibc puts it into the hole that
    the batch's pixels left in the heap, the next batch finds no hole of its size, and the heap grows by one batch each
    time: gigabytes. Mapped blocks leave no holes; the cost is a few page faults per batch.
    """
    threshold_option, four_mebibytes = -3, 4 << 20  # M_MMAP_THRESHOLD of malloc.h
    with suppress(OSError, AttributeError):  # another C library, which doesn't do this
        ctypes.CDLL(None).mallopt(threshold_option, four_mebibytes)


def _finished(
    encoder: ImageEncoder, features: torch.Tensor, failures: list[Failure | None]
) -> tuple[NDArray[np.float32], list[Failure | None]]:
    return check_features(features.cpu().numpy(), encoder.encoder_id), failures
