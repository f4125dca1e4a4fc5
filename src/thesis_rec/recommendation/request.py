"""What a user may ask, and of which images.

:class:`Request` is the only list of wishes: the command line's options, the signature of :func:`thesis_rec.recommend`
and the parameters of the pipeline's node are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from thesis_rec.base.errors import ConfigurationError, Failure, ItemError
from thesis_rec.base.files import nearest_id
from thesis_rec.base.settings import Seed, evenly, first_reason
from thesis_rec.base.tables import TaskTokens
from thesis_rec.hardware.budget import Budget

if TYPE_CHECKING:
    from thesis_rec.images.loading import LabelledImages
    from thesis_rec.images.manifest import DatasetRow

#: Images in the report, and their longer side there in pixels.
SAMPLE, THUMBNAIL = 12, 160

#: Domains of the published datasets.
Domain = Literal[
    "digits", "drawings", "driving", "faces", "fine-grained", "medical", "objects", "satellite", "scenes", "signs",
    "synthetic", "text", "textures",
]  # fmt: skip


class Request(Budget):
    """Limits, and how the answer is made; what stands below each field is its help on the command line."""

    protocol: Literal["linear_probe", "zero_shot", "fine_tune"] = "linear_probe"
    """What the accuracy is of: a linear classifier on few images, none, or the whole network tuned."""
    domain: Domain | None = None
    """What the images are of: published figures on such images weigh more."""
    top: int = Field(default=10, ge=1)
    """Models to show; all that keep the limits are ranked."""
    level: float = Field(default=0.9, gt=0, lt=1)
    """Probability of the interval of the predicted accuracy."""
    neighbours: int = Field(default=3, ge=1)
    """Known datasets that are named as reasons."""
    batches: int = Field(default=8, ge=1)
    """Batches of one image per class that describe the images."""
    measure: bool | None = Field(
        default=None,
        description="Measure the best candidates here where a limit needs it, those of timm and open_clip with random "
        "weights; by default those that need no download.",
    )
    measure_seconds: float = Field(default=20.0, ge=0)
    """Longest time for measuring candidates here."""
    score: int | None = Field(default=None, ge=1)
    """Score this many candidates by LogME on some of your images: a hint, sooner than a try."""
    probe: int | None = Field(default=None, ge=1)
    """Really try this many candidates on the images."""
    probe_seconds: float | None = Field(default=None, gt=0)
    """Begin tries for so long."""
    offline: bool = False
    """Try and measure only what is on this machine: download nothing."""
    seed: Seed = 0
    """Seed of the choice of images."""
    labels: str | None = None
    """CSV file with the columns file_name and label, for images without class folders."""

    @property
    def tries(self) -> bool:
        """Whether candidates are really tried."""
        return self.probe is not None or self.probe_seconds is not None

    @property
    def runs_models(self) -> bool:
        """Whether candidates see the images at all."""
        return self.tries or self.score is not None


def asked(**wishes: Any) -> Request:
    """A request of what a caller names.

    Raises:
        TypeError: If there is no such wish.
        ConfigurationError: If a value is impossible.
    """
    for name in wishes:
        if name not in Request.model_fields:
            raise TypeError(f"recommend() got an unexpected argument {name!r}")
    try:
        return Request(**wishes)
    except ValidationError as error:
        raise ConfigurationError(first_reason(error)) from error


@dataclass(frozen=True)
class Asked:
    """The images of a request.

    Attributes:
        row: How they are opened again.
        tokens: What an image encoder sees of them, (B, C, D); B is 0 where they weren't looked at.
        n_images: Number of images, those for testing included.
        sample: Some images (H, W, 3) uint8 with their class names, to show.
        notes: What was left out.
        read_as: Those notes that say how the source was read: its classes and splits, and what was passed over.
    """

    row: DatasetRow
    tokens: TaskTokens
    n_images: int = 0
    sample: tuple[tuple[NDArray[np.uint8], str], ...] = ()
    notes: tuple[str, ...] = ()
    read_as: tuple[str, ...] = ()

    @cached_property
    def content(self) -> str:
        """Key of the images' content: the same for a copy of them, another one once a file is added or changed."""
        from thesis_rec.images.copies import sampled_digest
        from thesis_rec.images.loading import split_fingerprint

        return split_fingerprint(self.row, Path(), sampled_digest)


def image_row(source: Path, labels: str | None = None) -> DatasetRow:
    """A folder or NPZ file as a row of a dataset manifest, with a table of labels if one is given.

    A folder of the library ``datasets`` is read by it.

    Raises:
        ItemError: If it is neither.
    """
    from thesis_rec.images.hub import holds_tables
    from thesis_rec.images.manifest import DatasetRow

    path = source.expanduser().resolve()
    if not path.exists():
        hint = "Give a folder class_name/*.png or an NPZ file."
        raise ItemError(str(source), "there is no such folder or file.", hint)
    if not path.is_dir() and (not path.is_file() or path.suffix.lower() != ".npz"):
        hint = "Give a folder with one folder of images per class, or an NPZ file with images and labels."
        raise ItemError(str(source), "is neither a folder nor an NPZ file.", hint)
    if path.is_file() or holds_tables(path):
        loader, what = ("npz", "an NPZ file") if path.is_file() else ("huggingface", "a saved dataset")
        if labels is not None:
            raise ItemError(str(source), f"{what} has labels of its own.", "Leave out --labels.")
        name = nearest_id(path.stem if path.is_file() else path.name)
        return DatasetRow(dataset_id=name or "images", loader=loader, source=str(path))
    # Here, or else in the folder of images.
    places = [] if labels is None else [Path(labels).expanduser().resolve(), path / labels]
    table = str(next((place for place in places if place.is_file()), places[0])) if places else ""
    return DatasetRow(dataset_id=nearest_id(path.name) or "images", loader="folder", source=str(path), labels=table)


def read_images(source: Path, encoder: Mapping[str, Any] | None, request: Request) -> Asked:
    """List the images, and encode what the tokens need of them, no more.

    Args:
        source: Folder or NPZ file.
        encoder: Configuration of the image encoder; None where nothing known could be compared with its tokens, so that
            the images are listed and not looked at.
        request: How many batches, and the seed.

    Raises:
        ItemError: If the images or the encoder can't be used.
    """
    from thesis_rec.images import overview
    from thesis_rec.images.loading import open_dataset

    row = image_row(source, request.labels)
    dataset = open_dataset(row, Path())
    images = dataset.split("train")
    warnings = [*images.warnings, *dataset.untested()]
    present = [images.class_names[c] for c in np.unique(images.labels)]
    tokens = TaskTokens(row.dataset_id, np.zeros((0, len(present), 0), dtype=np.float32), present, len(images))
    if encoder is not None:
        from thesis_rec.images.encoders import EncoderConfig, load_encoder
        from thesis_rec.views.tokens import TokenSettings, tokens_of_images

        network = load_encoder(EncoderConfig(**encoder))
        settings = TokenSettings(batches=request.batches, seed=request.seed)
        tokens, more = tokens_of_images(network, images, settings, dataset.apart())
        warnings += more
    sample = _sample(images, request.seed, warnings)
    if not sample:
        why = overview.told(warnings)[0][0]
        raise ItemError(row.dataset_id, f"none of the images looked at can be read. {why}", "Replace or convert them.")
    of_files, others = overview.told(warnings)
    read_as = (overview.split_line(dataset), *of_files)
    thin = [*overview.thin_notes(images), *overview.brightness_notes([image for image, _ in sample])]
    thin += overview.nameless_notes(present) if request.protocol == "zero_shot" else []
    notes = dict.fromkeys([*read_as, *others, *thin])
    return Asked(row, tokens, sum(dataset.counts.values()), sample, tuple(notes), read_as)


def _sample(images: LabelledImages, seed: int, warnings: list[Failure]) -> tuple[tuple[NDArray[np.uint8], str], ...]:
    """One image each of up to ``SAMPLE`` classes, evenly chosen; further images where there are fewer classes."""
    from thesis_rec.images.dataset_source import FileNote

    rng = np.random.default_rng(seed)
    classes = evenly(np.unique(images.labels).tolist(), SAMPLE)
    found = []
    for c in classes:
        members = rng.permutation(np.flatnonzero(images.labels == c))
        for index in members[: max(1, SAMPLE // len(classes))]:
            try:
                found.append((images.image(int(index), THUMBNAIL), images.class_names[c]))
            except ItemError as error:
                warnings.append(FileNote.skipped(images.dataset_id, error))
    return tuple(found[:SAMPLE])
