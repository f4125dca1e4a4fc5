"""Any picture as 8-bit RGB, and none that would fill the memory.

Grey, palette, transparent, 16-bit, CMYK, Lab and floating-point images become uint8 (H, W, 3). Transparent pixels are
laid on white, as product pictures and sprites are meant to be seen. A file whose header claims more pixels than allowed
is refused before anything is decompressed. Only formats that hold pixels are opened, whatever a file calls itself: an
EPS named ``.png`` would start an interpreter.
"""

import io
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from thesis_rec.base.errors import ItemError, explained
from thesis_rec.base.files import placeholder
from thesis_rec.images.values import Scale, decide_scale, value_range

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

_ORIENTATION = 0x0112
_REPLACE = "Replace or remove the file."
_SHRINK = "Scale it down, or remove it: such files are used to exhaust memory."

RGB = NDArray[np.uint8]


def decode_image(
    source: bytes | Path,
    name: str = "",
    max_pixels: int = MAX_PIXELS,
    scale: Callable[[str], Scale] | None = None,
    size: int | None = None,
) -> Image.Image:
    """Decode a file or its bytes.

    Args:
        source: Path, or the file's bytes.
        name: What to call the image in an error.
        max_pixels: Largest number of pixels accepted.
        scale: Gives the dataset's scale of values beyond 8 bits, integers ``u`` or floats ``f``; by default the
            image's own values decide.
        size: Side of the square that is to be made of it: a JPEG much larger is decoded at a half, a quarter or an
            eighth. By default it is decoded as it is.

    Returns:
        An image in mode RGB, turned as its EXIF orientation says; of an animation, the first frame.

    Raises:
        ItemError: If it isn't an image, is damaged, or is too large.
    """
    name = name or (str(source) if isinstance(source, Path) else "image")
    with explained(name, "the image can't be read ({reason}).", _REPLACE), warnings.catch_warnings():
        # Libraries warn of odd metadata, which don't matter here; Pillow's limit of pixels is replaced by ours.
        warnings.simplefilter("ignore")
        with open_image(source, name, max_pixels) as opened:
            if size:
                opened.draft(None, (_PER_PIXEL * size, _PER_PIXEL * size))
            opened.load()
            return _turned(_rgb(opened, scale), opened)


def open_image(source: bytes | Path, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image whose header alone was read, in one of the known formats.

    Raises:
        ItemError: If it isn't a regular file, is empty, is no image, or claims too many pixels.
    """
    if isinstance(source, Path):
        found = os.stat(source)
        if not stat.S_ISREG(found.st_mode):
            # Opening a pipe would wait for ever.
            raise ItemError(name, "it is no regular file.", "Remove it.")
        size = found.st_size
    else:
        size = len(source)
    if not size:
        raise ItemError(name, "the file is empty (0 bytes).", _REPLACE)
    try:
        opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ItemError(name, "the image claims far more pixels than allowed.", _SHRINK) from error
    except UnidentifiedImageError as error:
        instead = placeholder(source) if isinstance(source, Path) else ""
        what = instead or "is not an image of a known format"
        raise ItemError(name, f"the file {what}.", f"Store it in one of {', '.join(FORMATS)}.") from error
    width, height = opened.size
    if width * height > max_pixels:
        opened.close()
        claim = f"the image claims {width} x {height} pixels, more than the {max_pixels} allowed."
        raise ItemError(name, claim, _SHRINK)
    return opened


def is_deep(mode: str) -> bool:
    """Whether images of a Pillow mode have values beyond 8 bits, which need a scale."""
    return mode.startswith("I") or mode == "F"


def _rgb(image: Image.Image, scale: Callable[[str], Scale] | None) -> Image.Image:
    mode = image.mode
    if mode == "RGB":
        # A colour that stands for "transparent" is possible in RGB files too.
        return _on_white(image.convert("RGBA")) if "transparency" in image.info else image
    if is_deep(mode):
        array = np.asarray(image)
        kind = "f" if array.dtype.kind == "f" else "u"
        return Image.fromarray(to_rgb(array, scale(kind) if scale is not None else None))
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _on_white(image.convert("RGBA"))
    return image.convert("RGB")


def _turned(image: Image.Image, opened: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says; a fault in the metadata leaves it as it is stored."""
    try:
        orientation = opened.getexif().get(_ORIENTATION, 1)
    except Exception:  # metadata may hold anything, and the pixels are fine
        orientation = 1
    if orientation == 1:
        return image
    # A copy without metadata that could be at fault.
    image = image.copy()
    image.info = {}
    image.getexif()[_ORIENTATION] = orientation
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _on_white(image: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")


def to_rgb(array: NDArray[np.generic], scale: Scale | None = None) -> RGB:
    """An array of any usual kind as uint8 RGB.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), boolean, integer or floating point.
        scale: The dataset's scale; by default the array's own values decide (:func:`decide_scale`).

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: If the shape is another one, or the values are no colours.
    """
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(f"an image has the shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {array.shape}")
    if scale is None:
        scale = Scale(0, 255) if array.dtype == np.uint8 else decide_scale(array.dtype.kind, *value_range([array]))
    eight = scale.apply(array)
    if eight.shape[2] == 4:
        return np.asarray(_on_white(Image.fromarray(np.ascontiguousarray(eight), "RGBA")))
    return np.ascontiguousarray(np.broadcast_to(eight, (*eight.shape[:2], 3)))


def resize_image(image: Image.Image | RGB, size: int, fit: str = "crop") -> RGB:
    """A square of ``size`` pixels.

    Args:
        image: An RGB image.
        size: Side, in pixels.
        fit: ``crop`` keeps the middle (CLIP's way), ``pad`` adds black borders, ``stretch`` keeps everything and
            changes the proportions.

    Returns:
        (size, size, 3) uint8.
    """
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    if picture.size == (size, size):
        return np.array(picture)
    resize: Any = {"crop": ImageOps.fit, "pad": ImageOps.pad, "stretch": Image.Image.resize}[fit]
    return np.array(resize(picture, (size, size), Image.Resampling.BICUBIC))
