"""Named colours of real things, the light they are seen in, and surroundings that carry colours of their own."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.canvas import Array, Rng

Tint = tuple[float, float, float]
"""Hue in turns, saturation and value."""

TINTS: dict[str, Tint] = {
    "red": (0.99, 0.82, 0.78),
    "orange": (0.07, 0.85, 0.9),
    "amber": (0.11, 0.9, 0.95),
    "yellow": (0.15, 0.82, 0.92),
    "lime": (0.22, 0.75, 0.8),
    "green": (0.35, 0.75, 0.55),
    "teal": (0.48, 0.75, 0.55),
    "cyan": (0.52, 0.7, 0.85),
    "blue": (0.62, 0.8, 0.7),
    "violet": (0.74, 0.65, 0.65),
    "magenta": (0.86, 0.7, 0.75),
    "pink": (0.94, 0.42, 0.92),
    "brown": (0.06, 0.65, 0.4),
    "white": (0.12, 0.05, 0.95),
    "grey": (0.6, 0.06, 0.55),
    "black": (0.65, 0.15, 0.12),
}


def shade(colour: Tint, n: int, rng: Rng, spread: float = 1.0) -> Array:
    """Draw n shades of a colour.

    Args:
        colour: Hue in turns, saturation and value.
        n: How many.
        rng: Randomness.
        spread: How far they differ; at 1 neighbouring hues of :data:`TINTS` just don't meet.

    Returns:
        (n, 1, 1, 3) RGB in 0..1.
    """
    hue, saturation, value = colour
    return canvas.hsv(
        hue + spread * canvas.uniform(rng, -0.018, 0.018, n),
        np.clip(saturation * (1 + spread * canvas.uniform(rng, -0.3, 0.15, n)), 0, 1),
        np.clip(value * (1 + spread * canvas.uniform(rng, -0.3, 0.15, n)), 0, 1),
    )


def tint(name: str, n: int, rng: Rng, spread: float = 1.0) -> Array:
    """Draw n shades of a named colour, (n, 1, 1, 3); see `shade`."""
    return shade(TINTS[name], n, rng, spread)


def others(
    name: str, names: Iterable[str], count: int, n: int, rng: Rng, palette: Mapping[str, Tint] = TINTS
) -> list[Array]:
    """Draw `count` different colours of a palette for every image, none of them `name`; each (n, 1, 1, 3)."""
    rest = [other for other in names if other != name]
    shades = np.stack([shade(palette[other], n, rng) for other in rest])  # (rest, n, 1, 1, 3)
    order = rng.permuted(np.tile(np.arange(len(rest)), (n, 1)), axis=1)[:, :count]
    return [shades[order[:, k], np.arange(n)] for k in range(count)]


def between(colours: Sequence[Tint], t: Array, n: int, rng: Rng) -> Array:
    """Colours along a scale.

    Args:
        colours: Hue, saturation and value of the scale's marks; hues may leave 0..1 to run the other way round.
        t: Position in 0..1, of any shape that broadcasts with (n, 1, 1).
        n: How many.
        rng: Randomness.

    Returns:
        RGB, one axis of 3 more than `t`.
    """
    marks = np.asarray(colours, dtype=np.float32)
    at = np.linspace(0, 1, len(marks))
    hue, saturation, value = (np.interp(t, at, marks[:, i]).astype(np.float32) for i in range(3))
    return canvas.hsv(
        hue + canvas.uniform(rng, -0.012, 0.012, n),
        np.clip(saturation * canvas.uniform(rng, 0.75, 1.1, n), 0, 1),
        np.clip(value * canvas.uniform(rng, 0.75, 1.1, n), 0, 1),
    )


def backdrop(n: int, rng: Rng) -> Array:
    """Blurred surroundings in two random colours each, (n, 32, 32, 3)."""
    near, far = canvas.colours(n, rng, (0.1, 0.8), (0.2, 0.95)), canvas.colours(n, rng, (0.0, 0.6), (0.2, 0.95))
    patches = canvas.smoothstep(0.5 + 0.5 * canvas.smooth_noise(n, rng, 1.8))[..., None]
    grain = 0.04 * canvas.power_noise(n, rng, 0.8)[..., None]
    return np.clip(near * patches + far * (1 - patches) + grain, 0, 1)


def grained(colour: Array, n: int, rng: Rng, depth: float = 0.12, exponent: float = 0.8) -> Array:
    """A colour (n, 1, 1, 3 or full images) with an uneven brightness, (n, 32, 32, 3)."""
    return np.clip(colour * (1 + depth * canvas.power_noise(n, rng, exponent)[..., None]), 0, 1)


def lit(image: Array, rng: Rng, cast: float = 0.12) -> Array:
    """Put images under light that is slightly coloured, brighter or darker.

    Args:
        image: (n, 32, 32, 3) in 0..1.
        rng: Randomness.
        cast: Largest logarithm of a channel's gain.
    """
    gain = np.exp(rng.uniform(-cast, cast, (len(image), 1, 1, 3)) + rng.uniform(-0.2, 0.1, (len(image), 1, 1, 1)))
    return np.clip(image * gain, 0, 1)
