"""A dataset as an image encoder sees it: tokens of tasks, read from shards or made in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import numpy as np

from thesis_rec.base.errors import Failure
from thesis_rec.base.tables import TaskTokens
from thesis_rec.images.copies import Glimpses
from thesis_rec.images.encoders.image_encoder import ImageEncoder
from thesis_rec.images.loading import LabelledImages
from thesis_rec.images.manifest import DatasetRow, base_rows
from thesis_rec.views.shards import (
    Partitions,
    TokenSettings,
    encode_groups,
    keys_by_split,
    measure_landmarks,
    read_shard,
    without_empty_classes,
)

logger = logging.getLogger(__name__)


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
    keys = keys_by_split(partitions)
    bases: dict[str, tuple[TaskTokens, dict[int, int]]] = {}
    for dataset_id in dict.fromkeys(needed):
        if found := _base_tokens(partitions, keys.get((dataset_id, split), []), dataset_id):
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
    first = read_shard(partitions, keys[0])
    count = int(first.get("n_shards", len(keys)))
    if len(keys) < count:
        logger.warning("%s: %d of %d token shards are there; it is left out", dataset_id, len(keys), count)
        return None
    # More shards than that are left from an earlier run with other settings.
    shards = [first] + [read_shard(partitions, key) for key in keys[1:count]]
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
    """Tokens of a sub-task: its classes in the order of ``class_subset``, as many batches as all its parents have."""
    if any(parent not in bases for parent, _ in row.class_subset):
        return None
    if any(index not in bases[parent][1] for parent, index in row.class_subset):
        logger.warning("%s: a class of it has no images; it is left out", row.dataset_id)
        return None
    members = [(bases[parent][0], bases[parent][1][index]) for parent, index in row.class_subset]
    return TaskTokens.selection(members, row.dataset_id)


def tokens_of_images(
    encoder: ImageEncoder,
    images: LabelledImages,
    n_batches: int = 8,
    seed: int = 0,
    *,
    test: LabelledImages | None = None,
    workers: int = 0,
    warnings: list[Failure] | None = None,
) -> TaskTokens:
    """Tokens of one split at once, in memory: the path of a dataset that is recommended for, never stored.

    Args:
        encoder: The image encoder.
        images: The split; classes without an image are left out.
        n_batches: Number of batches, B.
        seed: Seed of the choice of images.
        test: The split that landmarks are tested on, if not on other images of the same.
        workers: Processes that decode.
        warnings: List to which images that were replaced, and notes on near copies, are added.

    Returns:
        The tokens, (B, C, D).

    Raises:
        ItemError: If a class has no readable image.
    """
    glimpses, settings = Glimpses(), TokenSettings(seed=seed, workers=workers)
    landmarks = measure_landmarks(encoder, images, seed, test=test, glimpses=glimpses)
    images = without_empty_classes(images)
    features, failures = next(encode_groups(encoder, images, settings, [range(n_batches)], glimpses))
    if warnings is not None:
        warnings.extend(failures)
        warnings.extend(Failure(images.dataset_id, note) for note in glimpses.notes())
    return TaskTokens(images.dataset_id, features, images.class_names, len(images), encoder.encoder_id, landmarks)
