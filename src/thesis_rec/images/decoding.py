"""Any picture as 8-bit RGB, and none that would fill the memory.

Grey, palette, transparent, 16-bit, CMYK, Lab and floating-point images become uint8 (H, W, 3). Transparent pixels are
laid on white, as product pictures and sprites are meant to be seen. A file whose header claims more pixels than allowed
is refused before anything is decompressed. Only formats that hold pixels are opened, whatever a file calls itself: an
EPS named ``.png`` would start an interpreter.

Stored numbers become colours by one scale for a whole dataset, by stated rules, never by clipping:

==================  ====================================================================================
kind of number      rule
==================  ====================================================================================
boolean             0 and 255
integers            0..255 as they are; up to 1023, 4095, 16383 or 65535: divided as 10, 12, 14 or 16 bits
fractions           0..1 times 255; -1..1 moved and halved first; 32..255 as they are; above, like integers;
                    an image of fractions among others of levels is refused
anything else       refused: negative integers, standardised or not finite values have no known black and white
==================  ====================================================================================
"""

import io
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from thesis_rec.base.errors import ItemError, explained
from thesis_rec.base.files import placeholder

#: Largest values of the depths that cameras and scanners have.
DEPTHS = {10: 1023, 12: 4095, 14: 16383, 16: 65535}

#: Rounding by which fractions may leave their range.
TOLERANCE = 1e-3

#: Floats whose largest is between 1 and this are neither fractions nor grey levels.
LEAST_GREY = 32.0

#: Floats that stay below this are read as levels, with a note: they may be percents.
DARK_GREY = 128.0


@dataclass(frozen=True)
class Scale:
    """Numbers from ``low`` to ``high`` as 0..255.

    Attributes:
        low: What becomes black.
        high: What becomes white.
        note: What was assumed, if it isn't self-evident.
    """

    low: float
    high: float
    note: str = ""

    def apply(self, array: NDArray[np.generic]) -> NDArray[np.uint8]:
        """The array as uint8, in its shape.

        Raises:
            ValueError: If values are not finite, lie outside of the scale, or are fractions where it is of levels.
        """
        if array.dtype == np.uint8 and (self.low, self.high) == (0, 255):
            return array.astype(np.uint8, copy=False)
        slack = TOLERANCE * (self.high - self.low) if array.dtype.kind == "f" else 0.0
        if array.dtype.kind == "f" and self.high > 1 and _fractions(array):
            raise ValueError(f"its values are fractions up to {array.max():.4g}, where others reach {self.high:g}")
        values = array.astype(np.float64)
        least, largest = values.min(), values.max()
        if not (np.isfinite(least) and np.isfinite(largest)):
            raise ValueError("it holds values that are not finite (NaN or infinite)")
        if least < self.low - slack or largest > self.high + slack:
            found, scale = f"{least:.4g} to {largest:.4g}", f"{self.low:g} to {self.high:g}"
            raise ValueError(f"its values from {found} lie outside of the dataset's scale, {scale}")
        values -= self.low
        values *= 255.0 / (self.high - self.low)
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _fractions(values: NDArray[Any]) -> bool:
    """Whether numbers are fractions of white: none above 1, and not only 0 and 1."""
    return bool(values.max() <= 1 + TOLERANCE and ((values > TOLERANCE) & (values < 1 - TOLERANCE)).any())


def decide_scale(kind: str, low: float, high: float) -> Scale:
    """The scale of a dataset whose finite values reach from ``low`` to ``high``.

    Args:
        kind: Letter of numpy's kinds: ``b``, ``u``, ``i`` or ``f``.
        low: Smallest value of all images.
        high: Largest value of all images.

    Raises:
        ValueError: If the values are no colours.
    """
    if kind == "b":
        return Scale(0, 1)
    if kind not in "uif":
        raise ValueError(f"numbers of the kind {kind!r} are no colours")
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("no value is finite")
    floats, slack = kind == "f", TOLERANCE if kind == "f" else 0.0
    if floats and low >= -slack and high <= 1 + slack:
        return Scale(0, 1)
    if floats and -1 - slack <= low <= -0.9 and 0.9 <= high <= 1 + slack:
        return Scale(-1, 1, f"values from {low:.3g} to {high:.3g} are read as -1 (black) to 1 (white).")
    if low >= -slack and high <= 255 * (1 + slack) and not (floats and high < LEAST_GREY):
        dark = floats and high < DARK_GREY
        return Scale(0, 255, f"values up to {high:.4g} are read as levels of which 255 is white." if dark else "")
    for bits, top in DEPTHS.items():
        if low >= -slack and 255 < high <= top:
            return Scale(0, top, f"values up to {high:g} are read as {bits} bits: {top} is white.")
    guess = " (standardised?)" if floats and low < 0 else ""
    raise ValueError(f"values from {low:.4g} to {high:.4g} are no colours{guess}")


def value_range(image: NDArray[np.generic]) -> tuple[float, float]:
    """Smallest and largest finite value of an image that holds numbers; (inf, -inf) if there is none."""
    finite = image[np.isfinite(image)] if image.dtype.kind in "buif" else np.empty(0)
    return (float(finite.min()), float(finite.max())) if finite.size else (np.inf, -np.inf)


class Scales:
    """One scale for all images of a dataset, of each kind of number in them: integers beyond bytes, and floats.

    Args:
        images: Those that decide; a brighter one is refused when it is read.
    """

    def __init__(self, images: Iterable[NDArray[np.generic]]) -> None:
        self._ends: dict[str, tuple[float, float]] = {}
        for image in images:
            if image.dtype != np.uint8:
                (low, high), (least, largest) = self._of(_kind(image)), value_range(image)
                self._ends[_kind(image)] = min(low, least), max(high, largest)

    def of(self, image: NDArray[np.generic]) -> Scale:
        """The scale of an image; bytes are levels.

        Raises:
            ValueError: If values of its kind are no colours.
        """
        return Scale(0, 255) if image.dtype == np.uint8 else decide_scale(_kind(image), *self._of(_kind(image)))

    def notes(self) -> list[str]:
        """What is assumed of the values.

        Raises:
            ValueError: If those of a kind are no colours.
        """
        return [note for kind, ends in sorted(self._ends.items()) if (note := decide_scale(kind, *ends).note)]

    def _of(self, kind: str) -> tuple[float, float]:
        return self._ends.get(kind, (np.inf, -np.inf))


def _kind(array: NDArray[np.generic]) -> str:
    return "u" if array.dtype.kind == "i" else array.dtype.kind


#: Largest image that is decoded: 64 million pixels, 192 MB as RGB. Scans and photographs are smaller.
MAX_PIXELS = 1 << 26

#: Formats of Pillow that are opened.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")

#: File name endings that the folder loader takes for images.
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
)

#: Pixels that a JPEG keeps, in each direction, for each of the square that is made of it: beyond 3, Pillow's resizing
#: in two steps hardly differs from that in one. Photographs are read several times as fast.
_PER_PIXEL = 3


RGB = NDArray[np.uint8]


def decode_image(
    source: bytes | Path,
    name: str = "",
    scales: Scales | None = None,
    size: int | None = None,
) -> Image.Image:
    """Decode a file or its bytes.

    Args:
        source: Path, or the file's bytes.
        name: What to call the image in an error.
        scales: The dataset's scales of values beyond 8 bits; by default the image's own values decide.
        size: Side of the square that is to be made of it: a JPEG much larger is decoded at a half, a quarter or an
            eighth. By default it is decoded as it is.

    Returns:
        An image in mode RGB, turned as its EXIF orientation says; of an animation, the first frame.

    Raises:
        ItemError: If it isn't an image, is damaged, or is too large.
    """
    name = name or (str(source) if isinstance(source, Path) else "image")
    with open_image(source, name) as opened:
        if size:
            opened.draft(None, (_PER_PIXEL * size, _PER_PIXEL * size))
        opened.load()
        with suppress(Exception):  # metadata may hold anything, and the pixels, which are turned first, are fine
            ImageOps.exif_transpose(opened, in_place=True)
        return _rgb(opened, scales)


@contextmanager
def open_image(source: bytes | Path, name: str) -> Iterator[Image.Image]:
    """An image whose header alone was read, in one of the known formats.

    Raises:
        ItemError: If it isn't a regular file, is empty, is no image, or claims too many pixels; or whatever is wrong
            with it within the block.
    """
    hint = "Replace or remove the file."
    with explained(name, "the image can't be read ({reason}).", hint), warnings.catch_warnings():
        # Libraries warn of odd metadata, which don't matter here; Pillow's limit of pixels is replaced by ours.
        warnings.simplefilter("ignore")
        if isinstance(source, Path) and not stat.S_ISREG(os.stat(source).st_mode):
            # Opening a pipe would wait for ever.
            raise ItemError(name, "it is no regular file.", "Remove it.")
        try:
            opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
        except UnidentifiedImageError as error:
            instead = placeholder(source) if isinstance(source, Path) else "" if source else "is empty (0 bytes)"
            what = instead or "is not an image of a known format"
            hint = f"Replace it by one of {', '.join(FORMATS)}, or remove it."
            raise ItemError(name, f"the file {what}.", hint) from error
        with opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                claim = f"the image claims {width} x {height} pixels, more than the {MAX_PIXELS} allowed."
                raise ItemError(name, claim, "Scale it down, or remove it: such files are used to exhaust memory.")
            yield opened


def is_deep(mode: str) -> bool:
    """Whether images of a Pillow mode have values beyond 8 bits, which need a scale."""
    return mode.startswith("I") or mode == "F"


def _rgb(image: Image.Image, scales: Scales | None) -> Image.Image:
    if is_deep(image.mode):
        return Image.fromarray(to_rgb(np.asarray(image), scales))
    # A colour that stands for "transparent" is possible in RGB and grey files, too.
    return _on_white(image.convert("RGBA")) if image.has_transparency_data else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")


def to_rgb(array: NDArray[np.generic], scales: Scales | None = None) -> RGB:
    """An array of any usual kind as uint8 RGB.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), boolean, integer or floating point.
        scales: The dataset's scales; by default the array's own values decide (:func:`decide_scale`).

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: If the shape is another one, or the values are no colours.
    """
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(f"an image has the shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {array.shape}")
    eight = (scales or Scales([array])).of(array).apply(array)
    if eight.shape[2] == 4:
        return np.asarray(_on_white(Image.fromarray(np.ascontiguousarray(eight), "RGBA")))
    return np.ascontiguousarray(np.broadcast_to(eight, (*eight.shape[:2], 3)))


def resize_image(image: Image.Image | RGB, size: int) -> RGB:
    """The middle of an RGB image as a square of ``size`` pixels, CLIP's way: (size, size, 3) uint8."""
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    if picture.size == (size, size):
        return np.array(picture)
    return np.array(ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC))
