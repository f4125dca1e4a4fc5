"""Class-balanced batches of a split through an image encoder, and landmarks of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import Failure, ItemError
from thesis_rec.images.copies import Glimpses
from thesis_rec.images.encoders.image_encoder import ImageEncoder
from thesis_rec.images.loading import LabelledImages
from thesis_rec.images.sampling import ClassBalancedSampler


def without_empty_classes(images: LabelledImages) -> LabelledImages:
    """The images without the classes that have none."""
    present = np.unique(images.labels)
    return images if len(present) == len(images.class_names) else images.select_classes(present.tolist())


def encode_groups(
    encoder: ImageEncoder,
    images: LabelledImages,
    sampler: ClassBalancedSampler,
    groups: Sequence[Sequence[int]],
    *,
    batch_size: int = 256,
    workers: int = 0,
    fit: str = "crop",
    glimpses: Glimpses | None = None,
) -> Iterator[tuple[NDArray[np.float32], list[Failure]]]:
    """Encode groups of class-balanced batches, one stream through all of them.

    An image that can't be read is replaced by another one of its class, and noted. A group's features have the same
    bits whichever groups are encoded with it, so that a resumed run ends like an undisturbed one.

    Args:
        encoder: The image encoder.
        images: A split, every class of which has an image.
        sampler: Chooses the images.
        groups: Numbers of the B batches of each group.
        batch_size: Images at a time.
        workers: Processes that decode.
        fit: What happens to images that aren't square.
        glimpses: What looks at the images as training images.

    Yields:
        For each group (B, C, D) float32, L2-normalised, and the images that were replaced.

    Raises:
        ItemError: If a class has no image that can be read.
    """
    from thesis_rec.images.encoders.streaming import encode_images

    chosen = [np.stack([sampler.batch(b) for b in group]) for group in groups]  # (B, C) each
    pieces = [np.array_split(index.ravel(), -(-index.size // batch_size)) for index in chosen]

    def see(index: NDArray[np.int64], pixels: NDArray[np.uint8]) -> None:
        if glimpses is not None:
            glimpses.add("train", images.positions[index], images.names_of(index), pixels)

    batches = [piece for group in pieces for piece in group]
    stream = encode_images(encoder, images, batches, workers=workers, fit=fit, see=see)
    for group, index, parts in zip(groups, chosen, pieces, strict=True):
        # Reserved at once and filled: small arrays kept from every batch would each pin down a piece of the heap that
        # the next batch's pixels then don't fit into, and memory would grow with the number of images.
        features = np.empty((index.size, encoder.dim), dtype=np.float32)
        problems: list[Failure | None] = []
        for _ in parts:
            block, failed = next(stream)
            features[len(problems) : len(problems) + len(block)] = block
            problems += failed
        for place in (place for place, problem in enumerate(problems) if problem is not None):
            row, class_index = divmod(place, sampler.n_classes)
            features[place] = _substitute(encoder, images, sampler, number=group[row], class_index=class_index, fit=fit)
        yield features.reshape(*index.shape, encoder.dim), [problem for problem in problems if problem is not None]


def _substitute(
    encoder: ImageEncoder,
    images: LabelledImages,
    sampler: ClassBalancedSampler,
    *,
    number: int,
    class_index: int,
    fit: str,
) -> NDArray[np.float32]:
    """Feature of the first readable other image of a class."""
    from thesis_rec.images.decoding import resize_image

    for other in sampler.substitutes(number, class_index):
        try:
            pixels = resize_image(images.image(other), encoder.image_size, fit)
        except ItemError:
            continue
        row: NDArray[np.float32] = encoder.encode(pixels[None])[0]
        return row
    error = f"class {images.class_names[class_index]!r} has no image that can be read."
    raise ItemError(images.dataset_id, error, "Replace its images, or remove the class.")


def measure_landmarks(
    encoder: ImageEncoder,
    images: LabelledImages,
    seed: int,
    *,
    test: LabelledImages | None = None,
    fit: str = "crop",
    glimpses: Glimpses | None = None,
) -> NDArray[np.float32]:
    """Landmarks of a split, from some images of each class; those that can't be read are left out.

    Args:
        encoder: The image encoder.
        images: The split.
        seed: Seed of the choice of images.
        test: The split that probes are tested on, its classes numbered alike; by default other images of ``images``.
        fit: What happens to images that aren't square.
        glimpses: What looks at the images.

    Returns:
        (L,) in the order of :data:`thesis_rec.views.landmarks.LANDMARKS`.
    """
    from thesis_rec.images.loading import read_images
    from thesis_rec.views.landmarks import IMAGES, MAX_CLASSES, PER_CLASS, landmark_values

    classes = np.unique(images.labels)
    if len(classes) > MAX_CLASSES:
        classes = classes[np.linspace(0, len(classes) - 1, MAX_CLASSES).round().astype(int)]
    splits = [images] if test is None else [images, test]
    count = max(IMAGES // len(classes), PER_CLASS) // len(splits)
    pixels, labels = [], []
    for split, part in zip(splits, ("train", "test"), strict=False):
        members = [np.random.default_rng([seed, c]).permutation(np.flatnonzero(split.labels == c)) for c in classes]
        read, kept = read_images(split, np.concatenate([m[:count] for m in members]), encoder.image_size, fit)
        if glimpses is not None:
            glimpses.add(part, split.positions[kept], split.names_of(kept), read)
        pixels.append(read)
        labels.append(split.labels[kept])
    tested = None if test is None else np.repeat([False, True], [len(part) for part in labels])
    return landmark_values(encoder, np.concatenate(pixels), np.concatenate(labels), tested)
