"""Instruments that speak in colours: test strips, lamps, rings on resistors, flames."""

import numpy as np

from thesis_rec.tasks import canvas, tints
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.tints import Tint

#: The colours of universal indicator paper from acid to base.
SCALE: list[Tint] = [
    (0.98, 0.8, 0.8),
    (0.05, 0.8, 0.9),
    (0.13, 0.8, 0.92),
    (0.2, 0.65, 0.8),
    (0.33, 0.6, 0.6),
    (0.48, 0.55, 0.5),
    (0.62, 0.6, 0.5),
    (0.77, 0.55, 0.4),
]


def _strip(n: int, rng: Rng, turn: float = 0.5) -> tuple[Array, Array, Array, Array]:
    """A paper strip on a table: coordinates along (-1..1) and across, its size, and the picture without pads."""
    u, v, size = canvas.frame(n, rng, (0.8, 0.95), 0.1, turn)
    paper = canvas.colours(n, rng, (0.0, 0.15), (0.75, 1), hue=(0.05, 0.2))
    image = canvas.over(tints.backdrop(n, rng), canvas.cover(canvas.box(u, v, 1, 0.36) * size), paper)
    return u, v, size, image


def _scale(k: int, n: int, rng: Rng) -> Array:
    """One pad has the k-th colour of the scale, beside it lies a pad of plain colour."""
    u, v, size, image = _strip(n, rng)
    flip = np.where(rng.random((n, 1, 1)) < 0.5, 1, -1)
    pad = canvas.cover(canvas.box(u - 0.4 * flip, v, 0.4, 0.3) * size)
    image = canvas.over(image, pad, tints.grained(tints.shade(SCALE[k], n, rng, 0.8), n, rng, 0.08))
    plain = canvas.cover(canvas.box(u + 0.5 * flip, v, 0.25, 0.3) * size)
    return tints.lit(canvas.over(image, plain, canvas.colours(n, rng, (0.0, 0.4), (0.3, 0.95))), rng)


def _turned(k: int, n: int, rng: Rng) -> Array:
    """Of five pads of one colour the k-th has turned into another."""
    u, v, size, image = _strip(n, rng, 0.2)
    hue = canvas.uniform(rng, 0, 1, n)
    for i in range(5):
        shift = canvas.uniform(rng, 0.3, 0.7, n) if i == k else canvas.uniform(rng, -0.04, 0.04, n)
        colour = canvas.colours(n, rng, (0.45, 0.8), (0.5, 0.85), hue=hue + shift)
        image = canvas.over(image, canvas.cover(canvas.box(u - (i - 2) * 0.38, v, 0.17, 0.3) * size), colour)
    return tints.lit(image, rng)


LAMPS: dict[str, Tint] = {
    "red": (0.99, 0.9, 1.0),
    "amber": (0.1, 0.9, 1.0),
    "green": (0.38, 0.85, 0.9),
    "blue": (0.6, 0.85, 1.0),
    "white": (0.12, 0.08, 1.0),
    "violet": (0.8, 0.7, 0.95),
}


def _glow(image: Array, x: Array, y: Array, r: Array | float, colour: Array) -> Array:
    """A lit lamp: a bright lens and its light around it."""
    d = np.hypot(x, y) / r
    halo = 0.5 * np.exp(-np.clip(d - 1, 0, None) * 1.3)
    image = canvas.over(image, np.clip(halo, 0, 1), colour)
    lens = np.clip(colour + 0.45 * np.exp(-((d * 1.3) ** 2))[..., None], 0, 1)
    return canvas.over(image, canvas.cover((d - 1) * r), lens)


def _lamp(name: str, n: int, rng: Rng) -> Array:
    """Three lamps in a housing, one of them lit; its place says nothing."""
    u, v, size = canvas.frame(n, rng, (0.75, 0.95), 0.1, 0.25)
    u, v = np.where(rng.random((n, 1, 1)) < 0.5, np.stack([u, v]), np.stack([v, u]))
    image = tints.backdrop(n, rng)
    box = canvas.colours(n, rng, (0.0, 0.9), (0.1, 0.6))
    image = canvas.over(image, canvas.cover(canvas.box(u, v, 0.4, 1) * size), box)
    lit = canvas.column(rng.integers(0, 3, n))
    for i in range(3):
        dark = canvas.colours(n, rng, (0.3, 0.9), (0.08, 0.3))
        lens = canvas.cover(canvas.disc(u, v - (i - 1) * 0.62, 0.25) * size)
        image = canvas.over(image, lens, dark)
    return tints.lit(_glow(image, u, v - (lit - 1) * 0.62, 0.25, tints.shade(LAMPS[name], n, rng)), rng, 0.08)


def _panel(name: str, n: int, rng: Rng) -> Array:
    """Of the lit lamps of a panel most have one colour, some any other."""
    x, y = canvas.grid()
    image = tints.grained(canvas.colours(n, rng, (0.0, 0.5), (0.08, 0.5)), n, rng, 0.1)
    places = canvas.scatter_cells(n, rng, 12, 4, 0.25)
    for k in range(12):
        u, v = x - canvas.column(places[:, k, 0]), y - canvas.column(places[:, k, 1])
        r = canvas.uniform(rng, 0.07, 0.11, n)
        if k < 4:
            image = canvas.over(
                image, canvas.cover(canvas.disc(u, v, r)), canvas.colours(n, rng, (0.2, 0.8), (0.1, 0.3))
            )
        else:
            colour = tints.shade(LAMPS[name], n, rng) if k < 9 else tints.others(name, LAMPS, 1, n, rng, LAMPS)[0]
            image = _glow(image, u, v, r, colour)
    return tints.lit(image, rng, 0.08)


RINGS = ["black", "brown", "red", "orange", "yellow", "green", "blue", "violet"]


def _ring(name: str, n: int, rng: Rng) -> Array:
    """A resistor's wide ring; two thin ones have any other colours."""
    u, v, size = canvas.frame(n, rng, (0.8, 1.0), 0.12, 0.4)
    wire = canvas.cover(canvas.box(u, v, 1.4, 0.04) * size)
    image = canvas.over(tints.backdrop(n, rng), wire, tints.tint("grey", n, rng))
    shell = canvas.colours(n, rng, (0.15, 0.5), (0.6, 0.9), hue=(0.05, 0.6))
    half = 0.44 + 0.08 * canvas.smoothstep((np.abs(u) - 0.5) * 6)
    body = canvas.cover((np.maximum(np.abs(v) - half, np.abs(u) - 0.9)) * size)
    image = canvas.over(image, body, shell)
    thin = tints.others(name, RINGS, 2, n, rng)
    rings = [(-0.2, 0.28, tints.tint(name, n, rng)), (0.3, 0.09, thin[0]), (0.62, 0.09, thin[1])]
    for place, width, colour in rings:
        image = canvas.over(image, body * canvas.cover((np.abs(u - place) - width) * size), colour)
    return tints.lit(image * (1.15 - 0.5 * np.clip(np.abs(v + 0.1), 0, 1))[..., None], rng)


FLAMES: dict[str, Tint] = {
    "orange": (0.07, 0.9, 1.0),
    "yellow": (0.14, 0.85, 1.0),
    "crimson": (0.97, 0.85, 0.95),
    "lilac": (0.78, 0.45, 0.9),
    "green": (0.33, 0.7, 0.85),
    "turquoise": (0.47, 0.7, 0.85),
    "blue": (0.61, 0.8, 0.95),
}


def _flame(name: str, n: int, rng: Rng) -> Array:
    """A flame above a burner, its edge coloured by what burns, its core blue or white as of any burner."""
    x, y = canvas.grid()
    image = tints.backdrop(n, rng) * canvas.uniform(rng, 0.25, 0.7, n)[..., None]
    cx, foot = canvas.uniform(rng, -0.3, 0.3, n), canvas.uniform(rng, 0.45, 0.75, n)
    tall, wide = canvas.uniform(rng, 0.9, 1.4, n), canvas.uniform(rng, 0.25, 0.42, n)
    up = np.clip((foot - y) / tall, 0, 1)
    sway = cx + 0.15 * up * canvas.smooth_noise(n, rng, 2) + canvas.uniform(rng, -0.2, 0.2, n) * up
    shape = np.maximum(np.abs(x - sway) - wide * np.sqrt(np.clip(up + 0.05, 0, 1)) * (1 - up) * 1.8, y - foot)
    image = canvas.over(image, canvas.cover(shape, 4) * 0.9, tints.shade(FLAMES[name], n, rng))
    core = np.maximum(np.abs(x - sway) - wide * 0.5 * np.sqrt(up) * (1 - 2 * up), y - foot)
    inner = np.where(rng.random((n, 1, 1, 1)) < 0.5, tints.tint("blue", n, rng), tints.tint("white", n, rng))
    image = canvas.over(image, canvas.cover(core, 2) * 0.8, inner)
    pipe = canvas.cover(np.maximum(np.abs(x - cx) - 0.14, foot - y))
    return tints.lit(canvas.over(image, pipe, canvas.colours(n, rng, (0, 0.5), (0.2, 0.6))), rng, 0.08)


TASKS = family(
    "indicators",
    "structured",
    [
        ("scale", "lighting", "Which mark of the scale the pad shows.", _scale, named("mark_{}", range(8))),
        ("turned", "blur", "Which of five pads has turned.", _turned, named("pad_{}", range(5))),
        ("lamp", "noise", "Which colour the lit lamp has.", _lamp, list(LAMPS)),
        ("panel", "low_contrast", "Which colour most lamps of a panel have.", _panel, list(LAMPS)),
        ("ring", "occlusion", "Which colour the wide ring has.", _ring, RINGS),
        ("flame", "clutter", "Which colour the flame has.", _flame, list(FLAMES)),
    ],
)
