"""The features of a split, stored in shards.

A shard is a dictionary of arrays: ``features`` (batches, classes, D) float16, L2-normalised; ``class_ids`` and
``class_names`` (classes,); ``n_images`` of the split; ``encoder_id``; ``settings_hash``; ``shard`` and ``n_shards``;
``notes``, what was left out and why; in the first shard ``landmarks``, accuracies of linear probes on fixed views. Its
key is ``<dataset>/<split>/<00000>``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from thesis_rec.base.errors import Failure
from thesis_rec.images.encoders.image_encoder import ImageEncoder
from thesis_rec.images.loading import LabelledImages
from thesis_rec.images.sampling import ClassBalancedSampler
from thesis_rec.views.encoding import encode_groups, measure_landmarks, without_empty_classes

logger = logging.getLogger(__name__)

#: Shards with other landmarks are made again.
LANDMARKS_VERSION = 2

Shard = dict[str, Any]
Partitions = Mapping[str, Callable[[], Shard] | Shard]


def shard_key(dataset_id: str, split: str, number: int) -> str:
    """Key of a shard: ``<dataset>/<split>/<00000>``."""
    return f"{dataset_id}/{split}/{number:05d}"


def batch_ranges(n_batches: int, n_classes: int, images_per_shard: int) -> list[range]:
    """The batches of each shard: as many as ``images_per_shard`` allows, at least one."""
    step = max(1, images_per_shard // max(n_classes, 1))
    return [range(start, min(start + step, n_batches)) for start in range(0, n_batches, step)]


def make_shards(
    encoder: ImageEncoder,
    images: LabelledImages,
    split: str,
    *,
    test: LabelledImages | None = None,
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
        test: The split that landmarks are tested on, if not on other images of the same.
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
    class_ids, whole = np.unique(images.labels), images
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
            shard["landmarks"] = measure_landmarks(encoder, whole, seed, test=test, fit=fit)
        yield shard_key(images.dataset_id, split, number), shard


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
            shard = read_shard(partitions, key)
        except Exception as error:  # whatever is wrong with it, it is made again
            logger.warning("token shard %s is unreadable and is made again (%s)", key, error)
            continue
        if str(shard.get("settings_hash", "")) == settings_hash:
            done[int(shard["shard"])] = shard
    return done


def read_shard(partitions: Partitions, key: str) -> Shard:
    """One shard, read if it wasn't yet."""
    value = partitions[key]
    return value() if callable(value) else value
