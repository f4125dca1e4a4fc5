"""One scale for all image files of a dataset whose values go beyond 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thesis_rec.base.sharding import evenly
from thesis_rec.images.decoding import MAX_PIXELS, is_deep, open_image
from thesis_rec.images.values import Scale, decide_scale, value_range

#: Files whose header is read to learn whether any is deep, and headers and files read when some are.
_GLANCE, _HEADERS, _FILES = 64, 4096, 256


class DeepScale:
    """The scale of the 12-bit, 16-bit and floating-point files among many, decided over files of all splits.

    A brighter image than all that were looked at is refused by the scale, not clipped.

    Args:
        files: All files, or their bytes.
        max_pixels: Largest image that is decoded.
    """

    def __init__(self, files: Sequence[Path | bytes], max_pixels: int = MAX_PIXELS) -> None:
        self._files = files
        self._max_pixels = max_pixels
        self._ranges: dict[str, tuple[float, float]] | None = None

    def notes(self) -> list[str]:
        """What is assumed of the values, if a glance at the files finds deep ones."""
        if not any(self._mode(file) for file in evenly(self._files, _GLANCE)):
            return []
        notes = []
        for kind, (low, high) in sorted(self._surveyed().items()):
            try:
                notes.append(decide_scale(kind, low, high).note)
            except ValueError:
                continue  # each image says so when it is read
        return [note for note in notes if note]

    def scale(self, kind: str) -> Scale:
        """The scale of values of a kind (letter of numpy's kinds).

        Raises:
            ValueError: If the values are no colours.
        """
        return decide_scale(kind, *self._surveyed().get(kind, (np.inf, -np.inf)))

    def _surveyed(self) -> dict[str, tuple[float, float]]:
        if self._ranges is None:
            deep = [file for file in evenly(self._files, _HEADERS) if self._mode(file)]
            ranges: dict[str, tuple[float, float]] = {}
            for file in evenly(deep, _FILES):
                try:
                    with open_image(file, "", self._max_pixels) as image:
                        array = np.asarray(image)
                except Exception:  # unreadable images are reported when they are read
                    continue
                kind, (low, high) = _kind(array), value_range(array)
                before = ranges.get(kind, (np.inf, -np.inf))
                ranges[kind] = (min(low, before[0]), max(high, before[1]))
            self._ranges = ranges
        return self._ranges

    def _mode(self, file: Path | bytes) -> bool:
        try:
            with open_image(file, "", self._max_pixels) as image:
                return is_deep(image.mode)
        except Exception:  # as above
            return False


def _kind(array: np.ndarray) -> str:
    return "f" if array.dtype.kind == "f" else "u"
