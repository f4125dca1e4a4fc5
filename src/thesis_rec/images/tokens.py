"""A dataset as an image encoder sees it: made batch by batch, stored in shards, read back as tokens of tasks.

A shard is a dictionary of arrays: ``features`` (batches, classes, D) float16, L2-normalised; ``class_ids`` and
``class_names`` (classes,); ``n_images`` of the split; ``encoder_id``; ``settings_hash``; ``shard`` and ``n_shards``;
``notes``, what was left out and why; in the first shard ``landmarks``, accuracies of linear probes on fixed views. Its
key is ``<dataset>/<split>/<00000>``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.errors import Failure, ItemError
from thesis_rec.images.loading import LabelledImages
from thesis_rec.images.manifest import DatasetRow, base_rows
from thesis_rec.images.sampling import ClassBalancedSampler
from thesis_rec.ranking.data import TaskTokens

if TYPE_CHECKING:
    from thesis_rec.encoders.torch_encoder import TorchEncoder

logger = logging.getLogger(__name__)

#: Shards with other landmarks are made again.
LANDMARKS_VERSION = 1

Shard = dict[str, Any]
Partitions = Mapping[str, Callable[[], Shard] | Shard]


def shard_key(dataset_id: str, split: str, number: int) -> str:
    """Key of a shard: ``<dataset>/<split>/<00000>``."""
    return f"{dataset_id}/{split}/{number:05d}"


def batch_ranges(n_batches: int, n_classes: int, images_per_shard: int) -> list[range]:
    """The batches of each shard: as many as ``images_per_shard`` allows, at least one."""
    step = max(1, images_per_shard // max(n_classes, 1))
    return [range(start, min(start + step, n_batches)) for start in range(0, n_batches, step)]


def without_empty_classes(images: LabelledImages) -> LabelledImages:
    """The images without the classes that have none."""
    present = np.unique(images.labels)
    return images if len(present) == len(images.class_names) else images.select_classes(present.tolist())


def encode_groups(
    encoder: TorchEncoder,
    images: LabelledImages,
    sampler: ClassBalancedSampler,
    groups: Sequence[Sequence[int]],
    *,
    batch_size: int = 256,
    workers: int = 0,
    fit: str = "crop",
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

    Yields:
        For each group (B, C, D) float32, L2-normalised, and the images that were replaced.

    Raises:
        ItemError: If a class has no image that can be read.
    """
    from thesis_rec.encoders.streaming import encode_images

    chosen = [np.stack([sampler.batch(b) for b in group]) for group in groups]  # (B, C) each
    pieces = [np.array_split(index.ravel(), -(-index.size // batch_size)) for index in chosen]
    stream = encode_images(encoder, images, [piece for group in pieces for piece in group], workers=workers, fit=fit)
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
    encoder: TorchEncoder,
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


def make_shards(
    encoder: TorchEncoder,
    images: LabelledImages,
    split: str,
    *,
    n_batches: int,
    seed: int,
    settings_hash: str,
    done: Iterable[int] = (),
    images_per_shard: int = 4096,
    batch_size: int = 256,
    workers: int = 0,
    fit: str = "crop",
) -> Iterator[tuple[str, Shard]]:
    """Encode a split shard by shard; shards that are done already are left out.

    Args:
        encoder: The image encoder.
        images: The split.
        split: Its name.
        n_batches: Number of batches, B: each gives one token per class.
        seed: Seed of the choice of images.
        settings_hash: Kept in every shard: tokens made otherwise are made again.
        done: Numbers of finished shards.
        images_per_shard: Largest number of images of a shard (but one batch at least).
        batch_size: Images at a time.
        workers: Processes that decode.
        fit: What happens to images that aren't square.

    Yields:
        Key and content of each shard.

    Raises:
        ItemError: If a class has no readable image.
    """
    class_ids = np.unique(images.labels)
    images = without_empty_classes(images)
    sampler = ClassBalancedSampler(images.labels, len(images.class_names), seed)
    ranges = batch_ranges(n_batches, len(images.class_names), images_per_shard)
    finished = set(done)
    todo = [number for number in range(len(ranges)) if number not in finished]
    groups = encode_groups(
        encoder, images, sampler, [ranges[n] for n in todo], batch_size=batch_size, workers=workers, fit=fit
    )
    for number, (features, failures) in zip(todo, groups, strict=True):
        shard = {
            "features": features.astype(np.float16),
            "class_ids": class_ids.astype(np.int64),
            "class_names": np.array(images.class_names),
            "n_images": np.int64(len(images)),
            "encoder_id": np.array(encoder.encoder_id),
            "settings_hash": np.array(settings_hash),
            "shard": np.int64(number),
            "n_shards": np.int64(len(ranges)),
            "notes": np.array(_notes([*(images.warnings if number == 0 else ()), *failures]), dtype=np.str_),
        }
        if number == 0:
            shard["landmarks"] = measure_landmarks(encoder, images, sampler, fit=fit)
        yield shard_key(images.dataset_id, split, number), shard


def measure_landmarks(
    encoder: TorchEncoder, images: LabelledImages, sampler: ClassBalancedSampler, *, fit: str = "crop"
) -> NDArray[np.float32]:
    """Landmarks of a split, from its first class-balanced batches; images that can't be read are left out.

    Returns:
        (L,) in the order of :data:`thesis_rec.encoders.landmarks.LANDMARKS`.
    """
    from thesis_rec.encoders.landmarks import MAX_CLASSES, PER_CLASS, landmark_values
    from thesis_rec.images.decoding import resize_image

    classes = np.arange(sampler.n_classes)
    if len(classes) > MAX_CLASSES:
        classes = np.linspace(0, len(classes) - 1, MAX_CLASSES).round().astype(int)
    # A class with fewer images repeats them; an image must not be both fitted to and tested on.
    chosen = np.unique(np.concatenate([sampler.batch(number)[classes] for number in range(PER_CLASS)]))
    pixels, labels = [], []
    for index in chosen.tolist():
        try:
            pixels.append(resize_image(images.image(index), encoder.image_size, fit))
        except ItemError:
            continue
        labels.append(int(images.labels[index]))
    return landmark_values(encoder, np.stack(pixels), np.asarray(labels))


def _notes(failures: Sequence[Failure]) -> list[str]:
    return [f"{failure.error}\t{failure.hint}" for failure in failures]


def shard_notes(dataset_id: str, shard: Shard) -> list[Failure]:
    """What was left out of a shard, as rows of the failures table."""
    return [Failure(dataset_id, *str(note).split("\t", 1)) for note in shard.get("notes", ())]


def finished_shards(partitions: Partitions, dataset_id: str, split: str, settings_hash: str) -> dict[int, Shard]:
    """Shards of a split that were made with the same settings, by number."""
    prefix = f"{dataset_id}/{split}/"
    done: dict[int, Shard] = {}
    for key in partitions:
        if not key.startswith(prefix) or "/" in key[len(prefix) :]:
            continue
        try:
            shard = _read(partitions, key)
        except Exception as error:  # whatever is wrong with it, it is made again
            logger.warning("token shard %s is unreadable and is made again (%s)", key, error)
            continue
        if str(shard.get("settings_hash", "")) == settings_hash:
            done[int(shard["shard"])] = shard
    return done


def _read(partitions: Partitions, key: str) -> Shard:
    value = partitions[key]
    return value() if callable(value) else value


def load_task_tokens(
    partitions: Partitions, dataset_rows: Iterable[DatasetRow], split: str = "train"
) -> dict[str, TaskTokens]:
    """Tokens of datasets and of the sub-tasks that are selections of them.

    Args:
        partitions: Shards by key, or functions that read them.
        dataset_rows: Rows of the manifest: datasets, sub-tasks or both. A sub-task's parents needn't be among them.
        split: Split whose tokens are taken.

    Returns:
        Tokens by id, in the order of the rows. Rows whose shards aren't all there, or one of whose classes was left
        out when they were made, are absent.
    """
    rows = list(dataset_rows)
    needed = [row.dataset_id for row in base_rows(rows)] + [parent for row in rows for parent in row.parent]
    keys: dict[str, list[str]] = {}
    for key in partitions:
        dataset_id, key_split, _ = key.rsplit("/", 2)
        if key_split == split:
            keys.setdefault(dataset_id, []).append(key)
    bases: dict[str, tuple[TaskTokens, dict[int, int]]] = {}
    for dataset_id in dict.fromkeys(needed):
        if found := _base_tokens(partitions, sorted(keys.get(dataset_id, [])), dataset_id):
            bases[dataset_id] = found
    tasks: dict[str, TaskTokens] = {}
    for row in rows:
        if not row.is_subtask:
            if row.dataset_id in bases:
                tasks[row.dataset_id] = bases[row.dataset_id][0]
        elif (tokens := _subtask_tokens(row, bases)) is not None:
            tasks[row.dataset_id] = tokens
    return tasks


def _base_tokens(partitions: Partitions, keys: list[str], dataset_id: str) -> tuple[TaskTokens, dict[int, int]] | None:
    """Tokens of a dataset and the row of each class id, or None if shards are missing."""
    if not keys:
        return None
    first = _read(partitions, keys[0])
    count = int(first.get("n_shards", len(keys)))
    if len(keys) < count:
        logger.warning("%s: %d of %d token shards are there; it is left out", dataset_id, len(keys), count)
        return None
    # More shards than that are left from an earlier run with other settings.
    shards = [first] + [_read(partitions, key) for key in keys[1:count]]
    if len({(str(shard["encoder_id"]), str(shard.get("settings_hash", ""))) for shard in shards}) > 1:
        logger.warning("%s: its token shards were made with different settings; it is left out", dataset_id)
        return None
    features = np.concatenate([np.asarray(shard["features"], dtype=np.float32) for shard in shards])
    features /= np.linalg.norm(features, axis=-1, keepdims=True)  # float16 rounded it
    names = [str(name) for name in first["class_names"]]
    landmarks = np.asarray(first["landmarks"], dtype=np.float32) if "landmarks" in first else None
    tokens = TaskTokens(dataset_id, features, names, int(first["n_images"]), str(first["encoder_id"]), landmarks)
    return tokens, {int(class_id): place for place, class_id in enumerate(first["class_ids"])}


def _subtask_tokens(row: DatasetRow, bases: Mapping[str, tuple[TaskTokens, dict[int, int]]]) -> TaskTokens | None:
    """Tokens of a sub-task: its classes in the order of ``class_subset``."""
    if any(parent not in bases for parent, _ in row.class_subset):
        return None
    if any(index not in bases[parent][1] for parent, index in row.class_subset):
        logger.warning("%s: a class of it has no images; it is left out", row.dataset_id)
        return None
    parts = []
    for parent in dict.fromkeys(parent for parent, _ in row.class_subset):
        tokens, places = bases[parent]
        classes = [places[index] for base, index in row.class_subset if base == parent]
        parts.append(tokens.select_classes(classes, row.dataset_id))
    if len(parts) == 1:
        return parts[0]
    mixture = TaskTokens.mixture(parts, row.dataset_id)
    # The parts come parent by parent; the classes' order is that of the row.
    grouped = [
        member
        for parent in dict.fromkeys(p for p, _ in row.class_subset)
        for member in row.class_subset
        if member[0] == parent
    ]
    order = [grouped.index(member) for member in row.class_subset]
    if order == list(range(len(order))):
        return mixture
    return TaskTokens(
        row.dataset_id,
        mixture.features[:, order],
        [mixture.class_names[i] for i in order],
        mixture.n_images,
        mixture.encoder_id,
    )


def tokens_of_images(
    encoder: TorchEncoder,
    images: LabelledImages,
    n_batches: int = 8,
    seed: int = 0,
    *,
    batch_size: int = 256,
    workers: int = 0,
    fit: str = "crop",
    warnings: list[Failure] | None = None,
) -> TaskTokens:
    """Tokens of one split at once, in memory: the path of a dataset that is recommended for, never stored.

    Args:
        encoder: The image encoder.
        images: The split; classes without an image are left out.
        n_batches: Number of batches, B.
        seed: Seed of the choice of images.
        batch_size: Images at a time.
        workers: Processes that decode.
        fit: What happens to images that aren't square.
        warnings: List to which images that were replaced are added.

    Returns:
        The tokens, (B, C, D).

    Raises:
        ItemError: If a class has no readable image.
    """
    images = without_empty_classes(images)
    sampler = ClassBalancedSampler(images.labels, len(images.class_names), seed)
    groups = encode_groups(
        encoder, images, sampler, [range(n_batches)], batch_size=batch_size, workers=workers, fit=fit
    )
    features, failures = next(groups)
    if warnings is not None:
        warnings.extend(failures)
    landmarks = measure_landmarks(encoder, images, sampler, fit=fit)
    return TaskTokens(images.dataset_id, features, images.class_names, len(images), encoder.encoder_id, landmarks)
