"""Flags in the wind: which colours they have, and which lies where."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from thesis_rec.tasks import canvas, tints
from thesis_rec.tasks.base import family
from thesis_rec.tasks.canvas import Array, Rng

COLOURS = ["red", "yellow", "green", "blue", "white", "black", "orange"]
#: Half height of a flag of half width 1.
HALF = 0.68


def _flag(n: int, rng: Rng) -> tuple[Array, Array, Array, Array]:
    """Coordinates along and across a waving cloth, its coverage and its folds' brightness, each (n, 32, 32)."""
    u, v, size = canvas.frame(n, rng, (0.62, 0.9), 0.15, 0.3)
    waves, phase = canvas.uniform(rng, 2, 5, n), canvas.uniform(rng, 0, 2 * np.pi, n)
    v = v + 0.1 * np.sin(u * waves + phase)
    folds = 1 + canvas.uniform(rng, 0.05, 0.25, n) * np.cos(u * waves + phase)
    return u, v / HALF, canvas.cover(canvas.box(u, v, 1, HALF) * size), folds


def _hang(cloth: Array, mask: Array, folds: Array, rng: Rng) -> Array:
    """Hang the cloth's colours (n, 32, 32, 3) before some surroundings."""
    n = len(cloth)
    return tints.lit(canvas.over(tints.backdrop(n, rng), mask, np.clip(cloth * folds[..., None], 0, 1)), rng)


def _bands(position: Array, colours: Sequence[Array]) -> Array:
    """Equal bands along a coordinate that runs from -1 to 1, (n, 32, 32, 3)."""
    index = np.clip(np.floor((position + 1) / 2 * len(colours)), 0, len(colours) - 1)
    return sum((index == k)[..., None] * colour for k, colour in enumerate(colours))  # type: ignore[return-value]


def _either(u: Array, v: Array, n: int, rng: Rng) -> Array:
    """Bands run across or along the flag."""
    return np.where(rng.random((n, 1, 1)) < 0.5, u, v)


ORDERS = list(permutations(["red", "white", "blue"]))


def _order(names: Sequence[str], n: int, rng: Rng) -> Array:
    u, v, mask, folds = _flag(n, rng)
    return _hang(_bands(_either(u, v, n, rng), [tints.tint(name, n, rng) for name in names]), mask, folds, rng)


def _middle(name: str, n: int, rng: Rng) -> Array:
    u, v, mask, folds = _flag(n, rng)
    first, last = tints.others(name, COLOURS, 2, n, rng)
    bands = _bands(_either(u, v, n, rng), [first, tints.tint(name, n, rng), last])
    return _hang(bands, mask, folds, rng)


def _emblem(name: str, n: int, rng: Rng) -> Array:
    u, v, mask, folds = _flag(n, rng)
    cloth: Array = np.broadcast_to(tints.others(name, COLOURS, 1, n, rng)[0], (n, canvas.SIZE, canvas.SIZE, 3))
    a, b = u - canvas.uniform(rng, -0.3, 0.3, n), v * HALF
    sign = canvas.column(rng.integers(0, 3, n))
    radius = canvas.uniform(rng, 0.4, 0.6, n)
    figure = np.select(
        [sign == 0, sign == 1],
        [canvas.disc(a, b, radius), canvas.star(a, b, 5, 0.45, radius * 1.3)],
        canvas.polygon(a, b, 3, radius * 1.2),
    )
    cloth = canvas.over(cloth, canvas.cover(figure), tints.tint(name, n, rng))
    return _hang(cloth, mask, folds, rng)


def _canton(name: str, n: int, rng: Rng) -> Array:
    u, v, mask, folds = _flag(n, rng)
    one, other = tints.others(name, COLOURS, 2, n, rng)
    stripes = _bands(v, [one, other] * 3)
    corner = (u < canvas.uniform(rng, -0.3, 0.1, n)) & (v < canvas.uniform(rng, -0.1, 0.2, n))
    return _hang(np.where(corner[..., None], tints.tint(name, n, rng), stripes), mask, folds, rng)


PALETTES = [
    ("red", "white", "blue"),
    ("red", "yellow", "green"),
    ("black", "red", "yellow"),
    ("green", "white", "orange"),
    ("blue", "yellow", "red"),
    ("red", "white", "green"),
    ("black", "white", "green"),
    ("blue", "white", "yellow"),
]


def _palette(names: Sequence[str], n: int, rng: Rng) -> Array:
    """Three colours in any order, as bands or as a field with a triangle and a band."""
    u, v, mask, folds = _flag(n, rng)
    shades = np.stack([tints.tint(name, n, rng) for name in names])
    order = rng.permuted(np.tile(np.arange(3), (n, 1)), axis=1)
    first, second, third = (shades[order[:, k], np.arange(n)] for k in range(3))
    bands = _bands(_either(u, v, n, rng), [first, second, third])
    wedge = (u < -1 + (1 - np.abs(v)) * canvas.uniform(rng, 0.6, 1.1, n))[..., None]
    field = np.where(wedge, third, _bands(v, [first, second]))
    return _hang(np.where(rng.random((n, 1, 1, 1)) < 0.6, bands, field), mask, folds, rng)


CROSSES = [
    ("red", "white"),
    ("white", "red"),
    ("yellow", "blue"),
    ("blue", "white"),
    ("blue", "red"),
    ("white", "green"),
    ("red", "black"),
    ("black", "yellow"),
]


def _cross(pair: tuple[str, str], n: int, rng: Rng) -> Array:
    u, v, mask, folds = _flag(n, rng)
    width = canvas.uniform(rng, 0.12, 0.25, n)
    upright = np.minimum(np.abs(u - canvas.uniform(rng, -0.4, 0.1, n)), np.abs(v) * HALF) < width
    saltire = np.minimum(np.abs(u - v), np.abs(u + v)) < 1.5 * width
    lines = np.where(rng.random((n, 1, 1)) < 0.7, upright, saltire)[..., None]
    return _hang(np.where(lines, tints.tint(pair[0], n, rng), tints.tint(pair[1], n, rng)), mask, folds, rng)


TASKS = family(
    "flags",
    "structured",
    [
        (
            "order",
            "lighting",
            "In which order red, white and blue bands follow.",
            _order,
            {"_".join(names): names for names in ORDERS},
        ),
        ("middle", "blur", "Which colour the middle band has.", _middle, COLOURS),
        ("emblem", "occlusion", "Which colour the emblem has.", _emblem, COLOURS),
        ("canton", "noise", "Which colour the corner field has.", _canton, COLOURS),
        (
            "palette",
            "clutter",
            "Which three colours the flag has.",
            _palette,
            {"_".join(names): names for names in PALETTES},
        ),
        (
            "cross",
            "low_contrast",
            "Which colour the cross has on which ground.",
            _cross,
            {f"{a}_on_{b}": (a, b) for (a, b) in CROSSES},
        ),
    ],
)
