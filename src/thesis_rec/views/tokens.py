"""A dataset as an image encoder sees it: its tokens, made in memory or in shards, which are read again.

Tokens of many datasets are made resumably, shard by shard; one bad dataset doesn't stop the others.

A shard has the features of class-balanced batches of a split: it is a dictionary of arrays: ``features`` (batches,
classes, D) float16, L2-normalised; ``class_ids`` and ``class_names`` (classes,); ``n_images`` of the split;
``encoder_id``; ``settings_hash``; ``shard`` and ``n_shards``; ``notes``, what was left out and why; in the first shard
``landmarks``, accuracies of linear probes on fixed views. Its key is ``<dataset>/<split>/<00000>``.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thesis_rec.base.errors import ConfigurationError, Failure, ItemError, listed
from thesis_rec.base.files import file_state, readable, sha256_json
from thesis_rec.base.resuming import Outcome, Stored, work_on
from thesis_rec.base.settings import evenly
from thesis_rec.base.tables import TaskTokens
from thesis_rec.images.copies import Glimpses, content_digest
from thesis_rec.images.dataset_source import ImageLimits, Tell
from thesis_rec.images.decoding import MAX_PIXELS
from thesis_rec.images.encoders.encoder_evaluation import evaluated
from thesis_rec.images.encoders.image_encoder import ImageEncoder
from thesis_rec.images.encoders.streaming import BatchImages, decoded
from thesis_rec.images.loading import LabelledImages, open_dataset, read_images, split_fingerprint
from thesis_rec.images.manifest import DatasetRow
from thesis_rec.views.landmarks import IMAGES, MAX_CLASSES, PER_CLASS, landmark_values

logger = logging.getLogger(__name__)

#: Shards with other landmarks are made again.
LANDMARKS_VERSION = 2


class TokenSettings(ImageLimits):
    """How tokens are made, and of how much of each dataset.

    Attributes:
        splits: Splits that are encoded.
        batches: Batches of one image per class, B.
        images_per_shard: Largest number of images of a shard.
        batch_size: Images that are encoded at a time.
        workers: Processes that decode.
        precision: Of the encoder.
        prompts: Of the zero-shot evaluation, with ``{}`` where a class's name goes.
    """

    splits: tuple[Literal["pretrain", "train", "test"], ...] = ("train",)
    batches: int = Field(default=8, ge=1)
    images_per_shard: int = Field(default=4096, ge=1)
    batch_size: int = Field(default=256, ge=1)
    workers: int = Field(default=0, ge=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    prompts: tuple[Annotated[str, Field(pattern=r"\{\}")], ...] = Field(default=("a photo of {}.",), min_length=1)

    def hash_for(self, row: DatasetRow, split: str, root: Path, encoder_id: str, tell: Tell = content_digest) -> str:
        """Hash of everything that a row's tokens depend on; batch size and workers aren't among it.

        Args:
            row: The dataset.
            split: Which split, or which.
            root: Folder to which sources are relative.
            encoder_id: Which encoder.
            tell: What tells a file.

        Raises:
            ItemError: If the row's source is absent.
        """
        made_by = self.model_dump(include={"batches", "images_per_shard", "precision", "seed"})
        made_by["encoder_id"] = encoder_id
        limits = self.model_dump(include=set(ImageLimits.model_fields)) | {"max_pixels": MAX_PIXELS, "fit": "crop"}
        read_as = {"loader", "source", "image_column", "label_column", "splits", "config", "revision", "label_map"}
        source = row.model_dump(include=read_as | ({"labels"} if row.labels else set()))
        return sha256_json([made_by, LANDMARKS_VERSION, limits, source, split, split_fingerprint(row, root, tell)])


Shard = dict[str, Any]


def shard_key(dataset_id: str, split: str, number: int) -> str:
    """Key of a shard: ``<dataset>/<split>/<00000>``."""
    return f"{dataset_id}/{split}/{number:05d}"


def batch_ranges(n_batches: int, n_classes: int, images_per_shard: int) -> list[range]:
    """The batches of each shard: as many as ``images_per_shard`` allows, at least one."""
    step = max(1, images_per_shard // max(n_classes, 1))
    return [range(start, min(start + step, n_batches)) for start in range(0, n_batches, step)]


class SplitTokens:
    """What one encoder makes of a split: class-balanced batches of features, and landmarks.

    Args:
        encoder: The image encoder.
        images: The split; classes without an image are left out.
        settings: How images are chosen and tokens are made.
        test: The split that landmarks are tested on, its classes numbered alike; None for other images of ``images``.
    """

    def __init__(
        self, encoder: ImageEncoder, images: LabelledImages, settings: TokenSettings, test: LabelledImages | None = None
    ) -> None:
        self.encoder, self.settings = encoder, settings
        self.images = images.without_empty_classes()
        self._whole, self._test = images, test
        self.class_ids = np.unique(images.labels)
        self._glimpses = Glimpses()

    def features(self, numbers: Sequence[int]) -> tuple[NDArray[np.float32], list[Failure]]:
        """Encode some class-balanced batches.

        An image that can't be read is replaced by another one of its class, and noted. The features have the same bits
        whatever else is encoded in the same run, so that a resumed run ends like an undisturbed one.

        Args:
            numbers: Numbers of the B batches.

        Returns:
            (B, C, D) float32, L2-normalised, and the images that were replaced.

        Raises:
            ItemError: If a class has no image that can be read.
        """
        images, settings = self.images, self.settings
        chosen = BatchImages(images, numbers, self.encoder.image_size, settings.seed)
        count = len(numbers) * len(images.class_names)
        pieces = np.array_split(np.arange(count), -(-count // settings.batch_size))
        features, problems = [], []
        for which, pixels, failures in decoded(chosen, pieces, settings.workers):
            self._glimpses.add("train", images.positions[which], images.names_of(which), pixels)
            features.append(self.encoder.encode(pixels))
            problems += failures
        return np.concatenate(features).reshape(len(numbers), -1, self.encoder.dim), problems

    def landmarks(self) -> NDArray[np.float32]:
        """Landmarks of the split, from some images of each class; those that can't be read are left out.

        Returns:
            (L,) in the order of :data:`thesis_rec.views.landmarks.LANDMARKS`.
        """
        classes, seed = evenly(np.unique(self._whole.labels).tolist(), MAX_CLASSES), self.settings.seed
        splits = [self._whole] if self._test is None else [self._whole, self._test]
        count = max(IMAGES // len(classes), PER_CLASS) // len(splits)
        pixels, labels = [], []
        for split, part in zip(splits, ("train", "test"), strict=False):
            drawn = [np.random.default_rng([seed, c]).permutation(np.flatnonzero(split.labels == c)) for c in classes]
            index = np.concatenate([members[:count] for members in drawn])
            read, kept, _ = read_images(split, index, self.encoder.image_size)
            self._glimpses.add(part, split.positions[kept], split.names_of(kept), read)
            pixels.append(read)
            labels.append(split.labels[kept])
        tested = None if self._test is None else np.repeat([False, True], [len(part) for part in labels])
        return landmark_values(self.encoder, np.concatenate(pixels), np.concatenate(labels), tested)

    def notes(self) -> list[Failure]:
        """What near copies and nearest neighbours say of a training split, of the images that were looked at so far."""
        return [Failure(self.images.dataset_id, note) for note in self._glimpses.notes()]


def make_shards(
    made: SplitTokens, split: str, settings_hash: str, done: Iterable[int] = ()
) -> Iterator[tuple[str, Shard]]:
    """Encode a split shard by shard; shards that are done already are left out.

    Args:
        made: Makes its tokens.
        split: Its name.
        settings_hash: Kept in every shard: tokens made otherwise are made again.
        done: Numbers of finished shards.

    Yields:
        Key and content of each shard.

    Raises:
        ItemError: If a class has no readable image.
    """
    images, settings, finished = made.images, made.settings, set(done)
    ranges = batch_ranges(settings.batches, len(images.class_names), settings.images_per_shard)
    for number in (number for number in range(len(ranges)) if number not in finished):
        landmarks = {} if number else {"landmarks": made.landmarks()}
        features, failures = made.features(ranges[number])
        notes = [*(images.warnings if number == 0 else ()), *failures]
        notes += made.notes() if number == 0 and split == "train" else []
        shard = {
            "features": features.astype(np.float16),
            "class_ids": made.class_ids,
            "class_names": np.array(images.class_names),
            "n_images": np.int64(len(images)),
            "encoder_id": np.array(made.encoder.encoder_id),
            "settings_hash": np.array(settings_hash),
            "shard": np.int64(number),
            "n_shards": np.int64(len(ranges)),
            "notes": np.array([f"{note.error}\t{note.hint}" for note in dict.fromkeys(notes)], dtype=np.str_),
            **landmarks,
        }
        yield shard_key(images.dataset_id, split, number), shard


def shards_by_split(partitions: Mapping[str, Stored]) -> dict[tuple[str, str], list[Stored]]:
    """The shards of each dataset and split, in order."""
    found: dict[tuple[str, str], list[Stored]] = {}
    for key in sorted(partitions):
        dataset_id, split, _ = key.rsplit("/", 2)
        found.setdefault((dataset_id, split), []).append(partitions[key])
    return found


def finished_shards(stored: Iterable[Stored], settings_hash: str) -> dict[int, Shard]:
    """Those of some shards that were made with the same settings, by number."""
    there = filter(None, map(readable, stored))
    return {int(shard["shard"]): shard for shard in there if str(shard.get("settings_hash", "")) == settings_hash}


def load_task_tokens(
    partitions: Mapping[str, Stored], dataset_rows: Iterable[DatasetRow]
) -> tuple[dict[str, TaskTokens], list[Failure]]:
    """Tokens of datasets' training images.

    Args:
        partitions: Shards by key.
        dataset_rows: Rows of the manifest that have images of their own.

    Returns:
        Tokens by id, in the order of the rows; and the rows that are left out, with a warning each: whose shards aren't
        all there, can't be read or were made with different settings.
    """
    by_split, found, failures = shards_by_split(partitions), dict[str, TaskTokens](), list[Failure]()
    for name in (row.dataset_id for row in dataset_rows if (row.dataset_id, "train") in by_split):
        try:
            found[name] = joined([shard() for shard in by_split[name, "train"]], name)
        except Exception as error:  # readers of damaged files raise anything at all
            why = " ".join(str(error).split()).rstrip(".")
            logger.warning("%s: %s; it is left out", name, why)
            failures.append(Failure(name, f"{why}."))
    return found, failures


def joined(shards: Sequence[Shard], dataset_id: str) -> TaskTokens:
    """Tokens of a dataset's shards, in their order.

    Raises:
        ValueError: If shards are missing or of different settings.
    """
    first, count = shards[0], int(shards[0].get("n_shards", len(shards)))
    if len(shards) < count:
        raise ValueError(f"{len(shards)} of {count} token shards are there")
    # More shards than that are left from an earlier run with other settings.
    shards = shards[:count]
    if len({(str(shard["encoder_id"]), str(shard.get("settings_hash", ""))) for shard in shards}) > 1:
        raise ValueError("its token shards were made with different settings")
    features = np.concatenate([np.asarray(shard["features"], dtype=np.float32) for shard in shards])
    features /= np.linalg.norm(features, axis=-1, keepdims=True)  # float16 rounded it
    names = [str(name) for name in first["class_names"]]
    landmarks = np.asarray(first["landmarks"], dtype=np.float32) if "landmarks" in first else None
    return TaskTokens(dataset_id, features, names, int(first["n_images"]), str(first["encoder_id"]), landmarks)


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


Chunk = tuple[dict[str, Shard], dict[str, Outcome]]


def extract_tokens(
    rows: Sequence[DatasetRow],
    root: Path,
    settings: TokenSettings,
    encoder_id: str,
    existing: Mapping[str, Stored],
    encoder: Callable[[], ImageEncoder],
    outcomes: Mapping[str, Stored] = MappingProxyType({}),
) -> Iterator[Chunk]:
    """Encode datasets, shard by shard, resumably (:mod:`thesis_rec.base.resuming`).

    A dataset whose files lie on the disk as at its last outcome isn't read again; of one that is read, the shards are
    made that there aren't of the same content and settings.

    Args:
        rows: Rows that have images of their own.
        root: Folder to which their sources are relative.
        settings: How tokens are made.
        encoder_id: Which encoder makes them.
        existing: Shards that are there.
        encoder: Called once, when the first image must be encoded.
        outcomes: Outcomes of earlier runs.

    Yields:
        New shards by key, and outcomes by dataset. An outcome has ``encoder``, how good that is
        (:func:`~thesis_rec.images.encoders.encoder_evaluation.evaluated`).

    Raises:
        ConfigurationError: If there is no encoder.
    """
    by_split = shards_by_split(existing)

    @cache
    def loaded() -> ImageEncoder:
        try:
            return encoder()
        except Exception as error:
            raise ConfigurationError(f"No dataset can be encoded. {error}") from error

    def make(row: DatasetRow, outcome: Outcome) -> Iterator[dict[str, Shard]]:
        notes, tokens = list[str](), dict[str, TaskTokens]()
        for split in settings.splits:
            settings_hash = settings.hash_for(row, split, root, encoder_id)
            shards = finished_shards(by_split.get((row.dataset_id, split), ()), settings_hash)
            if not shards or len(shards) < int(next(iter(shards.values()))["n_shards"]):
                dataset = open_dataset(row, root, settings)
                images, test = dataset.split(split), dataset.apart() if split == "train" else None
                made = SplitTokens(loaded(), images, settings, test)
                for key, shard in make_shards(made, split, settings_hash, tuple(shards)):
                    shards[int(shard["shard"])] = shard
                    yield {key: shard}
            ordered = [shards[number] for number in sorted(shards)]
            tokens[split] = joined(ordered, row.dataset_id)
            outcome["results"] += [shard_key(row.dataset_id, split, number) for number in sorted(shards)]
            notes += [str(note) for shard in ordered for note in shard.get("notes", ())]
        # Both splits tell what is true of the whole source.
        outcome["notes"] = [note.split("\t", 1) for note in dict.fromkeys(notes)]
        if "train" in tokens:
            outcome["encoder"] = evaluated(loaded(), tokens["train"], tokens.get("test"), settings.prompts)

    items = {row.dataset_id: row for row in rows}
    of_now = partial(made_from, root=root, settings=settings, encoder_id=encoder_id)
    yield from work_on(items, "encoding datasets", of_now, make, outcomes, existing)


def made_from(row: DatasetRow, root: Path, settings: TokenSettings, encoder_id: str) -> str:
    """What tells, without reading a dataset's files, that its tokens and figures would be the same as before."""
    tokens = settings.hash_for(row, ",".join(settings.splits), root, encoder_id, file_state)
    return sha256_json([tokens, settings.prompts])
