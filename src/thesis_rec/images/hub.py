"""The loader ``huggingface``: datasets of the hub, or local folders in one of its formats."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError
from thesis_rec.images.dataset_source import ImageLimits, RawSplit, Source, Tell, hash_files, register_loader
from thesis_rec.images.decoding import decode_image
from thesis_rec.images.manifest import DatasetRow
from thesis_rec.models.model_sources import of_the_hub


def _fingerprint_hub(row: DatasetRow, root: Path, tell: Tell) -> str:
    named = f"hub:{row.source}:{row.config}:{row.revision}"
    return hash_files(row, root, tell) if _local_hub_folder(row, root) else named


def _local_hub_folder(row: DatasetRow, root: Path) -> Path | None:
    # Never relative to the working directory: a folder that happens to be called like a hub dataset isn't meant.
    path = root / Path(row.source).expanduser()
    return path if path.is_dir() else None


@register_loader("huggingface", _fingerprint_hub)
def open_hub(row: DatasetRow, root: Path, limits: ImageLimits) -> Source:
    """A dataset of the Hugging Face hub, or a local folder in one of its formats.

    Read by the ``datasets`` library: ``save_to_disk`` folders, Parquet, ``imagefolder``. With ``limits.streaming`` it
    is read from start to end and only as many encoded images are kept as each class needs.
    """
    from datasets import Image

    local = _local_hub_folder(row, root)
    streamed = limits.streaming and not (local and _is_saved(local))
    content = _load_hub(row, local, streamed)
    tables = dict(content) if isinstance(content, dict) else {str(getattr(content, "split", None) or "train"): content}
    columns = {split: _hub_columns(row, whole.features) for split, whole in tables.items()}
    class_names = [*dict.fromkeys(name for *_, names in columns.values() for name in names or ())]
    splits = {}
    for split, whole in tables.items():
        image_column, label_column, names = columns[split]
        table = whole.select_columns([image_column, label_column]).cast_column(image_column, Image(decode=False))
        if streamed:
            table, labels = _first_of_each_class(table, label_column, names, limits)
        else:
            labels = table.select_columns([label_column]).with_format("numpy")[:][label_column]
        codes = _label_array(labels)
        if names is not None and names != class_names:
            # It counts the classes otherwise than another split; an image without a label takes the last place.
            numbers = pd.to_numeric(pd.Series(codes, dtype=object), errors="coerce").fillna(-1).astype(int)
            codes = np.array([*names, ""])[numbers]
        splits[str(split)] = RawSplit(codes, partial(_read_hub, table, image_column, split))
    return Source(splits, class_names or None)


def in_cache(row: DatasetRow, root: Path) -> bool:
    """Whether a dataset of the hub needs no download: a folder, or what the ``datasets`` library once prepared."""
    if _local_hub_folder(row, root) is not None:
        return True
    from datasets import config
    from datasets.naming import camelcase_to_snakecase

    owner, _, name = row.source.rpartition("/")
    called = "___".join(filter(None, (owner, camelcase_to_snakecase(name))))
    folder = Path(config.HF_DATASETS_CACHE).expanduser() / called
    return any(folder.glob(f"{row.config or '*'}/*/*/dataset_info.json"))


def holds_tables(folder: Path) -> bool:
    """Whether a folder is one for the library ``datasets``: what it saved, or Parquet files as the hub has them.

    Parquet files beside folders of images are not what the images are in.
    """
    if _is_saved(folder):
        return True
    if not any(any(folder.glob(pattern)) for pattern in ("*.parquet", "data/*.parquet")):
        return False  # at once, of a folder of a million pictures
    return not {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")} - {"data"}


def _is_saved(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file()


def _load_hub(row: DatasetRow, local: Path | None, streaming: bool) -> Any:
    import datasets

    if not streaming:
        datasets.disable_progress_bars()
    # Many datasets of the hub that come with a script have a branch that the hub itself converted.
    hint = "Check source, config and revision; where scripts aren't supported set revision to refs/convert/parquet."
    error = f"{row.source!r} can't be loaded ({{reason}})."
    with of_the_hub(row.dataset_id, f"dataset {row.source}", error, hint):
        if local is not None and _is_saved(local):
            return datasets.load_from_disk(str(local))
        source, name, revision = str(local or row.source), row.config or None, row.revision or None
        return datasets.load_dataset(source, name=name, revision=revision, streaming=streaming)


def _hub_columns(row: DatasetRow, features: Any) -> tuple[str, str, list[str] | None]:
    """Image column, label column, and the class names if the dataset tells them."""
    import datasets

    features = features or {}
    pictures = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    classes = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    image = row.column("image_column", [*features], (*pictures, "image"), "it")
    others = [name for name in features if name != image]
    label = row.column("label_column", others, (*classes, "label", "labels"), "it")
    return image, label, list(features[label].names) if label in classes else None


def _label_array(labels: Any) -> NDArray[Any]:
    """Labels as an array of numbers or texts; None becomes an absent label."""
    values = np.asarray(labels)
    if values.dtype.kind == "O":
        values = np.array(["" if value is None else str(value) for value in values.tolist()], dtype=np.str_)
    return values


def _read_hub(table: Any, column: str, split: str, index: int) -> Any:
    cell, name = table[index][column] or {}, f"{split}[{index}]"
    content = cell.get("bytes")
    if content is None and not cell.get("path"):
        raise ItemError(name, "the image has no content.", "Download the dataset again.")
    return partial(decode_image, Path(cell["path"]) if content is None else content, name, None)


def _first_of_each_class(
    stream: Any, label_column: str, names: list[str] | None, limits: ImageLimits
) -> tuple[list[Any], list[Any]]:
    """The first records of each class of a shuffled stream, their images still encoded, and their labels."""
    per_class = limits.n_per_class or 64
    kept: Counter[Any] = Counter()
    records: list[Any] = []
    full = 0
    # A buffer, because many datasets come sorted by class.
    for position, record in enumerate(stream.shuffle(seed=limits.seed, buffer_size=1000)):
        label = record[label_column]
        if kept[label] < per_class:
            kept[label] += 1
            records.append(record)
            full += kept[label] == per_class
        if position + 1 >= limits.max_streamed or (names is not None and full == len(names)):
            break
    return records, [record[label_column] for record in records]
