"""One scale for all image files of a dataset whose values go beyond 8 bits."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from thesis_rec.base.sharding import evenly
from thesis_rec.images.decoding import is_deep, open_image
from thesis_rec.images.values import Scale, decide_scale, value_range

#: Files whose header is read to learn whether any is deep, and headers and files read when some are.
_GLANCE, _HEADERS, _FILES = 64, 4096, 256

#: The range of no values.
_NOTHING = (np.inf, -np.inf)


@dataclass
class DeepScale:
    """The scale of the 12-bit, 16-bit and floating-point files among many, decided over files of all splits.

    A brighter image than all that were looked at is refused by the scale, not clipped.

    Attributes:
        files: All files.
        max_pixels: Largest image that is decoded.
    """

    files: Sequence[Path]
    max_pixels: int

    def notes(self) -> list[str]:
        """What is assumed of the values, if a glance at the files finds deep ones."""
        if not any(self._is_deep(file) for file in evenly(self.files, _GLANCE)):
            return []
        notes = []
        for kind in sorted(self._ranges):
            with suppress(ValueError):  # each image says so when it is read
                notes.append(self.scale(kind).note)
        return [note for note in notes if note]

    def scale(self, kind: str) -> Scale:
        """The scale of values of a kind (letter of numpy's kinds).

        Raises:
            ValueError: If the values are no colours.
        """
        return decide_scale(kind, *self._ranges.get(kind, _NOTHING))

    @cached_property
    def _ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value by kind."""
        ranges: dict[str, tuple[float, float]] = {}
        deep = [file for file in evenly(self.files, _HEADERS) if self._is_deep(file)]
        for file in evenly(deep, _FILES):
            # Unreadable images are reported when they are read.
            with suppress(Exception), open_image(file, "", self.max_pixels) as image:
                array = np.asarray(image)
                kind = "f" if array.dtype.kind == "f" else "u"
                (low, high), before = value_range([array]), ranges.get(kind, _NOTHING)
                ranges[kind] = (min(low, before[0]), max(high, before[1]))
        return ranges

    def _is_deep(self, file: Path) -> bool:
        with suppress(Exception), open_image(file, "", self.max_pixels) as image:
            return is_deep(image.mode)
        return False
