"""Fruit among leaves: ripeness, kinds, flesh, and what spoils them, told by colour."""

import numpy as np

from thesis_rec.tasks import canvas, tints
from thesis_rec.tasks.base import family, named, numbered
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.tints import Tint


def _bush(n: int, rng: Rng) -> Array:
    """Leaves of many greens and gaps of shade or sky, (n, 32, 32, 3)."""
    leaves = canvas.hsv(
        canvas.uniform(rng, 0.2, 0.38, n) + 0.025 * canvas.smooth_noise(n, rng, 5),
        np.clip(canvas.uniform(rng, 0.35, 0.75, n) + 0.1 * canvas.smooth_noise(n, rng, 4), 0, 1),
        np.clip(canvas.uniform(rng, 0.3, 0.6, n) * (1 + 0.35 * np.tanh(2 * canvas.smooth_noise(n, rng, 5))), 0, 1),
    )
    gaps = canvas.cover(0.09 * (canvas.smooth_noise(n, rng, 3) + canvas.uniform(rng, 0.6, 1.6, n)))
    sky = canvas.colours(n, rng, (0.0, 0.5), (0.2, 0.95), hue=(0.5, 0.66))
    return canvas.over(leaves, gaps, sky)


def _ball(u: Array, v: Array, colour: Array) -> Array:
    """A round body's colours, lit from the upper left, with a highlight."""
    height = np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
    light = np.clip(0.55 + 0.5 * (-0.45 * u - 0.5 * v + 0.74 * height), 0.3, 1.15)
    gloss = 0.35 * np.exp(-((u + 0.35) ** 2 + (v + 0.4) ** 2) * 14)
    return np.clip(colour * light[..., None] + gloss[..., None], 0, 1)


def _hung(image: Array, places: Array, radius: tuple[float, float], colours: list[Array], rng: Rng) -> Array:
    """Hang fruit of the given colours at (n, k, 2) places."""
    n = len(image)
    x, y = canvas.grid()
    for k, colour in enumerate(colours):
        r = canvas.uniform(rng, *radius, n)
        u, v = (x - canvas.column(places[:, k, 0])) / r, (y - canvas.column(places[:, k, 1])) / r
        v = v * canvas.uniform(rng, 0.8, 1.15, n)
        image = canvas.over(image, canvas.cover(canvas.disc(u, v, 1) * r), _ball(u, v, colour))
    return image


def _leaf_over(image: Array, rng: Rng, count: int) -> Array:
    """Let some leaves cover what hangs behind."""
    n = len(image)
    for _ in range(count):
        u, v, size = canvas.frame(n, rng, (0.25, 0.45), 0.8)
        leaf = canvas.cover((np.hypot(u, v * 2.2) - 1) * size * 0.5)
        green = canvas.colours(n, rng, (0.4, 0.8), (0.25, 0.6), hue=(0.2, 0.38))
        image = canvas.over(image, leaf, green)
    return image


RIPENING: list[Tint] = [(0.31, 0.7, 0.5), (0.22, 0.7, 0.65), (0.15, 0.8, 0.8), (0.08, 0.85, 0.85), (0.0, 0.85, 0.7)]
STAGES = ["green", "turning", "yellow", "orange", "red", "overripe"]


def _ripeness(stage: int, n: int, rng: Rng) -> Array:
    places = canvas.scatter_cells(n, rng, 4, 3, 0.5) * 0.85
    scale = [*RIPENING, (-0.03, 0.7, 0.3)]
    colours = [
        tints.between(scale, np.clip(stage / 5 + canvas.uniform(rng, -0.07, 0.07, n), 0, 1), n, rng) for _ in range(4)
    ]
    return tints.lit(_leaf_over(_hung(_bush(n, rng), places, (0.22, 0.38), colours, rng), rng, 2), rng)


KINDS: dict[str, Tint] = {
    "lemon": (0.15, 0.75, 0.92),
    "lime": (0.25, 0.75, 0.6),
    "orange": (0.08, 0.88, 0.92),
    "cherry": (0.98, 0.85, 0.5),
    "plum": (0.83, 0.6, 0.35),
    "blueberry": (0.64, 0.5, 0.45),
    "peach": (0.04, 0.45, 0.95),
    "olive": (0.19, 0.5, 0.35),
}


def _kind(name: str, n: int, rng: Rng) -> Array:
    colours = [tints.shade(KINDS[name], n, rng) for _ in range(3)]
    places = canvas.scatter_cells(n, rng, 3, 3, 0.6) * 0.8
    return tints.lit(_leaf_over(_hung(_bush(n, rng), places, (0.16, 0.45), colours, rng), rng, 2), rng)


def _share(ripe: int, n: int, rng: Rng) -> Array:
    """`ripe` of eight fruits are red, the others green."""
    places = canvas.scatter_cells(n, rng, 8, 4, 0.5) * 0.95
    colours = [
        tints.shade((0.0, 0.85, 0.72) if k < ripe else (0.25, 0.6, 0.62), n, rng, 1.3) for k in rng.permutation(8)
    ]
    return tints.lit(_hung(_bush(n, rng), places, (0.17, 0.24), colours, rng), rng)


CUTS: dict[str, tuple[Tint, Tint]] = {
    "green_red": ((0.33, 0.7, 0.4), (0.98, 0.7, 0.85)),
    "green_white": ((0.27, 0.6, 0.55), (0.17, 0.12, 0.95)),
    "brown_green": ((0.07, 0.5, 0.35), (0.24, 0.55, 0.85)),
    "yellow_yellow": ((0.14, 0.8, 0.85), (0.15, 0.4, 0.97)),
    "orange_orange": ((0.07, 0.85, 0.85), (0.09, 0.75, 0.97)),
    "red_white": ((0.99, 0.8, 0.65), (0.13, 0.15, 0.97)),
    "violet_pink": ((0.8, 0.55, 0.35), (0.92, 0.5, 0.8)),
}


def _cut(name: str, n: int, rng: Rng) -> Array:
    """A cut fruit on a board, its peel and flesh of different colours, with seeds."""
    peel, flesh = CUTS[name]
    u, v, size = canvas.frame(n, rng, (0.4, 0.75), 0.3, np.pi, 1.3)
    image = tints.backdrop(n, rng)
    image = canvas.over(image, canvas.cover(canvas.disc(u, v, 1) * size), tints.shade(peel, n, rng))
    rim = canvas.uniform(rng, 0.72, 0.88, n)
    image = canvas.over(image, canvas.cover(canvas.disc(u, v, rim) * size), tints.shade(flesh, n, rng))
    angle = np.arctan2(v, u) * canvas.column(rng.integers(3, 8, n))
    seeds = np.maximum(np.abs(np.hypot(u, v) - 0.4) - 0.08, -np.cos(angle) * 0.2)
    image = canvas.over(image, canvas.cover(seeds * size), tints.shade((0.08, 0.5, 0.25), n, rng))
    return tints.lit(image, rng)


CHEEKS: list[tuple[str, str]] = [
    ("yellow", "red"),
    ("lime", "red"),
    ("orange", "violet"),
    ("yellow", "green"),
    ("pink", "orange"),
    ("lime", "brown"),
]


def _cheek(pair: tuple[str, str], n: int, rng: Rng) -> Array:
    """One fruit whose sunny side has another colour."""
    u, v, size = canvas.frame(n, rng, (0.4, 0.7), 0.3, 0.3, 1.2)
    a = canvas.uniform(rng, 0, 2 * np.pi, n)
    side = canvas.smoothstep(0.5 + 1.2 * (np.cos(a) * u + np.sin(a) * v) + 0.15 * canvas.smooth_noise(n, rng, 3))
    base, blush = (tints.tint(name, n, rng) for name in pair)
    colour = base * (1 - side[..., None]) + blush * side[..., None]
    image = canvas.over(_bush(n, rng), canvas.cover(canvas.disc(u, v, 1) * size), _ball(u, v, colour))
    return tints.lit(_leaf_over(image, rng, 1), rng)


ROTS: dict[str, Tint] = {
    "brown": (0.07, 0.6, 0.3),
    "white": (0.2, 0.04, 0.92),
    "blue_green": (0.46, 0.4, 0.5),
    "black": (0.7, 0.2, 0.1),
    "pink": (0.95, 0.4, 0.85),
}


def _rot(name: str, n: int, rng: Rng) -> Array:
    """A fruit of any kind with a spot of rot or mould."""
    u, v, size = canvas.frame(n, rng, (0.5, 0.8), 0.2, 0.3, 1.2)
    kinds = np.stack([tints.shade(colour, n, rng) for colour in KINDS.values()])
    colour = kinds[rng.integers(0, len(kinds), n), np.arange(n)]
    image = canvas.over(tints.backdrop(n, rng), canvas.cover(canvas.disc(u, v, 1) * size), _ball(u, v, colour))
    a, r = canvas.uniform(rng, 0, 2 * np.pi, n), canvas.uniform(rng, 0.1, 0.5, n)
    spot = np.hypot(u - r * np.cos(a), v - r * np.sin(a)) - canvas.uniform(rng, 0.4, 0.65, n)
    spot = np.maximum(spot + 0.1 * canvas.smooth_noise(n, rng, 5), canvas.disc(u, v, 0.97))
    return tints.lit(canvas.over(image, canvas.cover(spot * size, 1.5), tints.shade(ROTS[name], n, rng)), rng)


SHARES = [0, 2, 4, 6, 8]
TASKS = family(
    "fruit",
    "natural",
    [
        ("ripeness", "lighting", "How ripe the fruit are.", _ripeness, numbered(STAGES)),
        ("kind", "clutter", "Which kind of fruit hangs there, told by its colour.", _kind, list(KINDS)),
        ("share", "blur", "How many of eight fruit are ripe.", _share, named("ripe_{}", SHARES)),
        ("cut", "occlusion", "Which colours peel and flesh have.", _cut, list(CUTS)),
        ("cheek", "noise", "Which colour blushes on which.", _cheek, {f"{b}_on_{a}": (a, b) for (a, b) in CHEEKS}),
        ("rot", "low_contrast", "Which colour the rot has.", _rot, list(ROTS)),
    ],
)
