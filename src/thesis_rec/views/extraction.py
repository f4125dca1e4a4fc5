"""Tokens of many datasets, resumable shard by shard; one bad dataset doesn't stop the others."""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from thesis_rec.base.errors import Failure
from thesis_rec.base.files import file_state, readable
from thesis_rec.base.progress import track
from thesis_rec.images.encoders.image_encoder import ImageEncoder
from thesis_rec.images.loading import open_dataset
from thesis_rec.images.manifest import DatasetRow
from thesis_rec.views import tokens
from thesis_rec.views.tokens import Partitions, Shard, SplitTokens, TokenSettings

logger = logging.getLogger(__name__)

#: Rows of the failures table that one dataset's skipped images may take.
MAX_NOTES = 20


Outcome = dict[str, Any]
Chunk = tuple[dict[str, Shard], dict[str, Outcome]]


def extract_tokens(
    rows: Sequence[DatasetRow],
    root: Path,
    settings: TokenSettings,
    encoder_id: str,
    existing: Partitions,
    encoder: Callable[[], ImageEncoder],
    outcomes: Mapping[str, Callable[[], Outcome]] = MappingProxyType({}),
    untouched: Callable[[str, str], bool] = lambda key, dataset_id: False,
) -> Iterator[Chunk]:
    """Encode datasets, shard by shard.

    A dataset whose files lie on the disk as at its last outcome isn't read again.

    Args:
        rows: Rows that have images of their own.
        root: Folder to which their sources are relative.
        settings: How tokens are made.
        encoder_id: Which encoder makes them.
        existing: Shards that are there; those made with the same settings are kept.
        encoder: Called once, when the first image must be encoded.
        outcomes: Outcomes of earlier runs.
        untouched: Whether a shard is older than its dataset's outcome, so that it is the one of which that tells.

    Yields:
        New shards by key, and outcomes by dataset: ``error`` and ``hint``, empty after success, ``notes``, a list
        of errors and hints for what was skipped, and what tells that it is finished: ``made_from``, of files and
        settings, and ``shards``, how many each split has.
    """
    get_encoder, by_split = functools.cache(encoder), tokens.keys_by_split(existing)

    def encoded(row: DatasetRow, keys: Mapping[str, list[str]], now: str) -> Iterator[Chunk]:
        notes: list[Failure] = []
        counts: dict[str, int] = {}
        for split in settings.splits:
            settings_hash = settings.hash_for(row, split, root, encoder_id)
            done = tokens.finished_shards(existing, keys[split], settings_hash)
            for shard in done.values():
                notes += tokens.shard_notes(row.dataset_id, shard)
                counts[split] = int(shard["n_shards"])
            if len(done) == counts.get(split):
                continue
            dataset = open_dataset(row, root, settings)
            images, test = dataset.split(split), dataset.apart() if split == "train" else None
            made = SplitTokens(get_encoder(), images, settings, test)
            for key, shard in tokens.make_shards(made, split, settings_hash, done):
                notes += tokens.shard_notes(row.dataset_id, shard)
                counts[split] = int(shard["n_shards"])
                yield {key: shard}, {}
        # Both splits tell what is true of the whole source.
        told = list(dict.fromkeys(notes))
        yield {}, {row.dataset_id: outcome(Failure(row.dataset_id, ""), told) | {"made_from": now, "shards": counts}}

    for row in track(rows, "encoding datasets"):
        keys: dict[str, list[str]] = {split: by_split.get((row.dataset_id, split), []) for split in settings.splits}
        try:
            # Before the files are read: what changes while they are is read again by the next run.
            now = made_from(row, root, settings, encoder_id)
            known = (row.dataset_id in outcomes and readable(outcomes[row.dataset_id])) or {}
            if known.get("made_from") == now and all(
                keys[split][:count] == [tokens.shard_key(row.dataset_id, split, number) for number in range(count)]
                and all(untouched(key, row.dataset_id) for key in keys[split][:count])
                for split, count in known["shards"].items()
            ):
                continue
            yield from encoded(row, keys, now)
        except Exception as error:  # a loader of any library may raise anything; the other datasets go on
            if get_encoder.cache_info().misses and not get_encoder.cache_info().currsize:
                raise  # without an encoder no dataset can be encoded
            logger.debug("%s failed", row.dataset_id, exc_info=error)
            yield {}, {row.dataset_id: outcome(Failure.of(row.dataset_id, error, "See the log at level DEBUG."))}


def made_from(row: DatasetRow, root: Path, settings: TokenSettings, encoder_id: str) -> str:
    """What tells, without reading a dataset's files, that its tokens would be the same as before."""
    return settings.hash_for(row, ",".join(settings.splits), root, encoder_id, file_state)


def outcome(failure: Failure, notes: Sequence[Failure] = ()) -> Outcome:
    """What became of one dataset, as a JSON document; a failure without an error is none."""
    return {"error": failure.error, "hint": failure.hint, "notes": [[note.error, note.hint] for note in notes]}


def outcome_failures(dataset_id: str, document: Outcome) -> list[Failure]:
    """An outcome as rows of the failures table: its error, and what was skipped, up to a number of rows."""
    rows = [Failure(dataset_id, document["error"], document["hint"])] if document["error"] else []
    notes = [Failure(dataset_id, error, hint) for error, hint in document.get("notes", [])]
    rows += notes[:MAX_NOTES]
    if (more := len(notes) - MAX_NOTES) > 0:
        rows.append(Failure(dataset_id, f"{more} more images or classes were skipped.", "See the rows above."))
    return rows
