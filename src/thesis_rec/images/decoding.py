"""Any picture as 8-bit RGB, and none that would fill the memory.

Grey, palette, transparent, 16-bit, CMYK, Lab and floating-point images become uint8 (H, W, 3). Transparent pixels are
laid on white, as product pictures and sprites are meant to be seen. A file whose header claims more pixels than allowed
is refused before anything is decompressed.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from thesis_rec.base.errors import ItemError

#: Largest image that is decoded: 64 million pixels, 192 MB as RGB. Scans and photographs are smaller.
MAX_PIXELS = 1 << 26

#: File name endings that the folder loader takes for images.
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jfif"})

RGB = NDArray[np.uint8]


def decode_image(source: bytes | Path, name: str = "", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a file or its bytes.

    Args:
        source: Path, or the file's bytes.
        name: What to call the image in an error.
        max_pixels: Largest number of pixels accepted.

    Returns:
        An image in mode RGB, turned as its EXIF orientation says; of an animation, the first frame.

    Raises:
        ItemError: If it isn't an image, is damaged, or is too large.
    """
    name = name or (str(source) if isinstance(source, Path) else "image")
    try:
        with warnings.catch_warnings():
            # Pillow only warns between its own two limits; ours is checked below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
                width, height = opened.size
                if width * height > max_pixels:
                    raise ItemError(
                        name,
                        f"the image claims {width} x {height} pixels, more than the {max_pixels} allowed.",
                        "Scale it down, or remove it: such files are used to exhaust memory.",
                    )
                return _rgb(ImageOps.exif_transpose(opened))
    except Image.DecompressionBombError as error:
        hint = "Scale it down, or remove it: such files are used to exhaust memory."
        raise ItemError(name, f"the image is too large ({error}).", hint) from error
    except UnidentifiedImageError as error:
        raise ItemError(name, "the file is not an image that Pillow can read.", "Replace or remove it.") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError) as error:
        # Pillow's readers of damaged files raise all of these.
        raise ItemError(name, f"the image can't be read ({error}).", "Replace or remove the file.") from error


def _rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "RGB":
        # A colour that stands for "transparent" is possible in RGB files too.
        return _on_white(image.convert("RGBA")) if "transparency" in image.info else image
    if mode.startswith("I") or mode == "F":
        return Image.fromarray(to_rgb(np.asarray(image)))
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _on_white(image.convert("RGBA"))
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")


def to_rgb(array: NDArray[np.generic]) -> RGB:
    """An array of any usual kind as uint8 RGB.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), boolean, integer or floating point. Integers above 255 are
            taken as 16-bit; floats within 0..1 as fractions, others as 0..255.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: If the shape is another one.
    """
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(f"an image has the shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {array.shape}")
    if array.dtype == np.bool_:
        eight = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint8:
        eight = array.astype(np.uint8, copy=False)
    elif np.issubdtype(array.dtype, np.floating):
        values = np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=255.0, neginf=0.0)
        scale = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
        eight = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
    else:
        # 65535 / 257 = 255 exactly.
        divisor = 257.0 if int(array.max()) > 255 else 1.0
        eight = np.clip(np.rint(array.astype(np.float64) / divisor), 0, 255).astype(np.uint8)
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

    Raises:
        ValueError: If ``fit`` is another word.
    """
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    if fit not in ("crop", "pad", "stretch"):
        raise ValueError(f"fit must be crop, pad or stretch, not {fit!r}")
    if picture.size == (size, size):
        return np.array(picture)
    if fit == "crop":
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
    elif fit == "pad":
        picture = ImageOps.pad(picture, (size, size), Image.Resampling.BICUBIC)
    else:
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.array(picture)
