"""How stored numbers become 8-bit colours: one scale for a whole dataset, by stated rules, never by clipping.

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

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

#: Largest values of the depths that cameras and scanners have.
DEPTHS = {10: 1023, 12: 4095, 14: 16383, 16: 65535}

#: Rounding by which fractions may leave their range.
TOLERANCE = 1e-3

#: Floats whose largest is between 1 and this are neither fractions nor grey levels.
LEAST_GREY = 32.0

#: Floats that stay below this are read as levels, with a note: they may be percents.
DARK_GREY = 128.0

#: Values converted at a time: bounds the memory of large scans.
_CHUNK = 1 << 22


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
        flat = array.reshape(-1)
        if array.dtype.kind == "f" and self.high > 1 and _fractions(cast(NDArray[np.floating[Any]], flat)):
            raise ValueError(f"its values are fractions up to {flat.max():.4g}, where others reach {self.high:g}")
        out = np.empty(flat.shape, dtype=np.uint8)
        for start in range(0, flat.size, _CHUNK):
            values = flat[start : start + _CHUNK].astype(np.float64)
            least, largest = values.min(), values.max()
            if not (np.isfinite(least) and np.isfinite(largest)):
                raise ValueError("it holds values that are not finite (NaN or infinite)")
            if least < self.low - slack or largest > self.high + slack:
                found, scale = f"{least:.4g} to {largest:.4g}", f"{self.low:g} to {self.high:g}"
                raise ValueError(f"its values from {found} lie outside of the dataset's scale, {scale}")
            values -= self.low
            values *= 255.0 / (self.high - self.low)
            out[start : start + _CHUNK] = np.clip(np.rint(values), 0, 255)
        return out.reshape(array.shape)


def _fractions(values: NDArray[np.floating[Any]]) -> bool:
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
    refused = f"values from {low:.4g} to {high:.4g} are no colours"
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("no value is finite")
    if kind == "f":
        if low >= -TOLERANCE and high <= 1 + TOLERANCE:
            return Scale(0, 1)
        if -1 - TOLERANCE <= low <= -0.9 and 0.9 <= high <= 1 + TOLERANCE:
            return Scale(-1, 1, f"values from {low:.3g} to {high:.3g} are read as -1 (black) to 1 (white).")
        if low < -TOLERANCE or high < LEAST_GREY:
            raise ValueError(f"{refused} (standardised?)" if low < -TOLERANCE else refused)
    elif low < 0:
        raise ValueError(refused)
    if high <= 255 * (1 + TOLERANCE if kind == "f" else 1):
        dark = kind == "f" and high < DARK_GREY
        return Scale(0, 255, f"values up to {high:.4g} are read as levels of which 255 is white." if dark else "")
    for bits, top in DEPTHS.items():
        if high <= top:
            return Scale(0, top, f"values up to {high:g} are read as {bits} bits: {top} is white.")
    raise ValueError(refused)


def value_range(arrays: Iterable[NDArray[np.generic]]) -> tuple[float, float]:
    """Smallest and largest finite value, in bounded memory; (inf, -inf) if there is none."""
    low, high = np.inf, -np.inf
    for flat in (array.reshape(-1) for array in arrays):
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK]
            if part.dtype.kind == "f":
                part = part[np.isfinite(part)]
            if part.size:
                low, high = min(low, float(part.min())), max(high, float(part.max()))
    return low, high
