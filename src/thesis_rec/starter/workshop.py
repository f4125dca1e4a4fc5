"""The working folder of a build: finished items, what is recorded about them, and what all stages share.

Everything is written as one atomic file or folder per item, under names that say with which settings it was made; an
item that is there is not made again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from thesis_rec.base.files import atomic_path, encode_id, sha256_json, write_json
from thesis_rec.starter.painter import Painter

#: Where versions and device of a stage are recorded.
ENVIRONMENT = "environment.json"

if TYPE_CHECKING:
    from thesis_rec.base.tables import TaskImages
    from thesis_rec.starter.plan import ZooPlan
    from thesis_rec.starter.recipes import ModelRecipe
    from thesis_rec.starter.settings import BuildSettings


@dataclass
class Workshop:
    """The working folder and what all stages share.

    Attributes:
        folder: Where items are kept.
        device: ``cpu`` or ``cuda``.
        painter: Draws images.
        deadline: ``time.monotonic()`` after which no further item is begun; None for never.
        slots: Models that train at once on a GPU.
        images: Images of measured tasks, kept between stages.
    """

    folder: Path
    device: str = "cpu"
    painter: Painter = field(default_factory=Painter)
    deadline: float | None = None
    slots: int = 12
    images: dict[str, TaskImages] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from thesis_rec.starter.step_runner import prepare_device

        # Before anything else touches the GPU.
        prepare_device(self.device)

    def late(self) -> bool:
        """Whether no further item may be begun."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def model_folder(self, model_id: str) -> Path:
        """Where a model's checkpoint is."""
        return self.folder / "models" / encode_id(model_id)

    def card(self, model_id: str) -> dict[str, Any] | None:
        """What is recorded about a trained model; None when it isn't there."""
        return read_json(self.folder / "training" / f"{encode_id(model_id)}.json")

    def trained(self, plan: ZooPlan) -> list[str]:
        """Models of the plan that are there, made by the present recipe."""
        found = []
        for recipe in plan.recipes:
            card = self.card(recipe.model_id)
            if (
                card
                and card["recipe_hash"] == sha256_json(recipe.as_dict())
                and self.model_folder(recipe.model_id).is_dir()
            ):
                found.append(recipe.model_id)
        return found


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file's content; None when it is absent or damaged."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return content


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that replaces ``target`` when the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:60]}."))
    try:
        yield temporary
        shutil.rmtree(target, ignore_errors=True)
        temporary.chmod(0o755)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def task_images(plan: ZooPlan, shop: Workshop, names: Sequence[str]) -> dict[str, TaskImages]:
    """Images of base tasks; kept by the workshop."""
    missing = [name for name in names if name not in shop.images]
    shop.images.update(shop.painter.measured(missing, plan.sizes.train_per_class, plan.sizes.test_per_class))
    return {name: shop.images[name] for name in names}


def unfinished(plan: ZooPlan, shop: Workshop, folder: Path) -> list[ModelRecipe]:
    """Trained models without a finished item in ``folder`` that belongs to their present weights."""
    there = set(shop.trained(plan))
    found = []
    for recipe in plan.recipes:
        if recipe.model_id in there:
            done = read_json(folder / f"{encode_id(recipe.model_id)}.json")
            card = shop.card(recipe.model_id)
            if done is None or card is None or done["weights_sha256"] != card["weights_sha256"]:
                found.append(recipe)
    return found


def finish(shop: Workshop, folder: Path, model_id: str, seconds: dict[str, float]) -> None:
    """Mark an item as done; written last, so that half an item never counts."""
    card = shop.card(model_id)
    assert card is not None
    rounded = {key: round(float(value), 4) for key, value in seconds.items()}
    write_json(folder / f"{encode_id(model_id)}.json", {"weights_sha256": card["weights_sha256"], "seconds": rounded})


def write_parquet(table: pd.DataFrame, path: Path, group: str | None = None) -> None:
    """Write a table atomically.

    Args:
        table: What is written, without its index.
        path: Where.
        group: Column whose runs of equal values become row groups, each with a dictionary of its own; None for one.
    """
    import pyarrow as pa
    from pyarrow import parquet

    content = pa.Table.from_pandas(table, preserve_index=False)
    starts = [0] if group is None else list(np.flatnonzero(table[group].ne(table[group].shift()).to_numpy()))
    with (
        atomic_path(path) as temporary,
        parquet.ParquetWriter(temporary, content.schema, compression="zstd", compression_level=19) as writer,
    ):
        for start, end in pairwise([*starts, len(table)]):
            writer.write_table(content.slice(start, end - start))


class ZooBuild(NamedTuple):
    """What is built, where and how; lives in memory for one run."""

    plan: ZooPlan
    shop: Workshop
    settings: BuildSettings
