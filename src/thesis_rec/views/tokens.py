"""A dataset as an image encoder sees it: tokens of tasks, read from shards or made in memory."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from thesis_rec.base.errors import Failure, ItemError, listed
from thesis_rec.base.tables import TaskTokens
from thesis_rec.images.encoders.image_encoder import ImageEncoder
from thesis_rec.images.loading import LabelledImages
from thesis_rec.images.manifest import DatasetRow, base_rows
from thesis_rec.views.shards import Partitions, SplitTokens, TokenSettings, keys_by_split, read_shard

logger = logging.getLogger(__name__)


def load_task_tokens(
    partitions: Partitions,
    dataset_rows: Iterable[DatasetRow],
    split: str = "train",
    failures: list[Failure] | None = None,
) -> dict[str, TaskTokens]:
    """Tokens of datasets and of the sub-tasks that are selections of them.

    Args:
        partitions: Shards by key, or functions that read them.
        dataset_rows: Rows of the manifest: datasets, sub-tasks or both. A sub-task's parents needn't be among them.
        split: Split whose tokens are taken.
        failures: List to which rows that are left out are added, beside the warning that each gets: whose shards
            aren't all there, can't be read or were made with different settings, and sub-tasks one of whose classes
            was left out when they were made.

    Returns:
        Tokens by id, in the order of the rows.
    """
    rows = list(dataset_rows)
    needed = [row.dataset_id for row in base_rows(rows)] + [parent for row in rows for parent in row.parent]
    keys = keys_by_split(partitions)
    bases: dict[str, tuple[TaskTokens, dict[int, int]]] = {}
    absent = [] if failures is None else failures

    def leave_out(name: str, why: str) -> None:
        absent.append(Failure(name, f"{why}."))
        logger.warning("%s: %s; it is left out", name, why)

    for dataset_id in dict.fromkeys(needed):
        if not (shards := keys.get((dataset_id, split))):
            continue
        try:
            bases[dataset_id] = _base_tokens(partitions, shards, dataset_id)
        except Exception as error:  # readers of damaged files raise anything at all
            leave_out(dataset_id, " ".join(str(error).split()).rstrip("."))
    tasks: dict[str, TaskTokens] = {}
    for row in rows:
        if not row.is_subtask:
            if row.dataset_id in bases:
                tasks[row.dataset_id] = bases[row.dataset_id][0]
        elif all(parent in bases for parent, _ in row.class_subset):
            if any(index not in bases[parent][1] for parent, index in row.class_subset):
                leave_out(row.dataset_id, "a class of it has no images")
                continue
            members = [(bases[parent][0], bases[parent][1][index]) for parent, index in row.class_subset]
            tasks[row.dataset_id] = TaskTokens.selection(members, row.dataset_id)
    return tasks


def _base_tokens(partitions: Partitions, keys: list[str], dataset_id: str) -> tuple[TaskTokens, dict[int, int]]:
    """Tokens of a dataset and the row of each class id.

    Raises:
        ValueError: If shards are missing or of different settings; whatever reading a damaged one raises passes.
    """
    first = read_shard(partitions, keys[0])
    count = int(first.get("n_shards", len(keys)))
    if len(keys) < count:
        raise ValueError(f"{len(keys)} of {count} token shards are there")
    # More shards than that are left from an earlier run with other settings.
    shards = [first] + [read_shard(partitions, key) for key in keys[1:count]]
    if len({(str(shard["encoder_id"]), str(shard.get("settings_hash", ""))) for shard in shards}) > 1:
        raise ValueError("its token shards were made with different settings")
    features = np.concatenate([np.asarray(shard["features"], dtype=np.float32) for shard in shards])
    features /= np.linalg.norm(features, axis=-1, keepdims=True)  # float16 rounded it
    names = [str(name) for name in first["class_names"]]
    landmarks = np.asarray(first["landmarks"], dtype=np.float32) if "landmarks" in first else None
    tokens = TaskTokens(dataset_id, features, names, int(first["n_images"]), str(first["encoder_id"]), landmarks)
    return tokens, {int(class_id): place for place, class_id in enumerate(first["class_ids"])}


def check_one_encoder(tokens: Mapping[str, TaskTokens]) -> None:
    """Refuse tokens that can't be compared.

    Raises:
        ItemError: If a dataset was encoded by another encoder than most.
    """
    encoders = Counter(task.encoder_id for task in tokens.values())
    usual = next(iter(encoders.most_common(1)), ("", 0))[0]
    if strange := [name for name, task in tokens.items() if task.encoder_id != usual]:
        other = tokens[strange[0]].encoder_id
        error = f"its tokens were made by {other}, those of {encoders[usual]} others by {usual}."
        hint = "Run `kedro run --pipelines=dataset_features`, or take it out of the dataset manifest."
        raise ItemError(listed(strange, 3), error, hint)


def tokens_of_images(
    encoder: ImageEncoder,
    images: LabelledImages,
    settings: TokenSettings,
    test: LabelledImages | None = None,
) -> tuple[TaskTokens, list[Failure]]:
    """Tokens of one split at once, in memory: the path of a dataset that is recommended for, never stored.

    Args:
        encoder: The image encoder.
        images: The split; classes without an image are left out.
        settings: How many batches there are, B, and how they are made.
        test: The split that landmarks are tested on, if not on other images of the same.

    Returns:
        The tokens, (B, C, D); and images that were replaced, with notes on near copies.

    Raises:
        ItemError: If a class has no readable image.
    """
    made = SplitTokens(encoder, images, settings, test)
    landmarks = made.landmarks()
    features, failures = made.features(range(settings.batches))
    names, count = made.images.class_names, len(images)
    tokens = TaskTokens(images.dataset_id, features, names, count, encoder.encoder_id, landmarks)
    return tokens, failures + made.notes()
