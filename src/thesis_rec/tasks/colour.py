"""Colours: hues, harmonies, the colour of the odd object, ramps."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named, numbered
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.shapes import FIGURES

HUES = ["red", "orange", "yellow", "lime", "green", "mint", "cyan", "azure", "blue", "violet", "magenta", "rose"]


def _ground(n: int, rng: Rng, saturation: tuple[float, float] = (0, 0.25)) -> Array:
    base = canvas.colours(n, rng, saturation, (0.1, 0.95))
    return np.broadcast_to(base, (n, canvas.SIZE, canvas.SIZE, 3))


def _blob(n: int, rng: Rng, scale: tuple[float, float] = (0.35, 0.8)) -> Array:
    names = ["disc", "square", "star", "heart", "triangle"]
    u, v, size = canvas.frame(n, rng, scale, 0.3)
    pick = canvas.column(rng.integers(0, len(names), n))
    return canvas.cover(np.select([pick == k for k in range(len(names))], [FIGURES[f](u, v) for f in names]) * size)


def _hue(k: int, n: int, rng: Rng) -> Array:
    tint = canvas.colours(n, rng, (0.4, 1), (0.35, 1), hue=(k + canvas.uniform(rng, -0.45, 0.45, n)) / 12)
    return canvas.over(_ground(n, rng), _blob(n, rng), tint)


def _hue_on_noise(k: int, n: int, rng: Rng) -> Array:
    tint = canvas.colours(n, rng, (0.35, 0.9), (0.35, 1), hue=(k + canvas.uniform(rng, -0.4, 0.4, n)) / 6)
    grain = [canvas.power_noise(n, rng, 0.9) * 0.16 for _ in range(3)]
    return canvas.over(np.clip(_ground(n, rng, (0, 0.1)) + np.stack(grain, -1), 0, 1), _blob(n, rng, (0.3, 0.55)), tint)


def _odd_hue(k: int, n: int, rng: Rng) -> Array:
    image = _ground(n, rng)
    common = rng.integers(1, 8, n)
    spots = canvas.scatter_cells(n, rng, 8, 3, 0.3)
    x, y = canvas.grid()
    for i in range(8):
        hue = canvas.column(k / 8 + (0 if i == 0 else common / 8) + rng.uniform(-0.03, 0.03, n))
        mask = canvas.cover(
            canvas.disc(
                x - canvas.column(spots[:, i, 0]), y - canvas.column(spots[:, i, 1]), canvas.uniform(rng, 0.18, 0.26, n)
            )
        )
        image = canvas.over(image, mask, canvas.colours(n, rng, (0.7, 1), (0.6, 1), hue=hue))
    return image


def _patches(hues: Array, n: int, rng: Rng, saturation: Array, value: Array) -> Array:
    """A mosaic whose pieces take their colours from (n, K) palettes."""
    pieces = np.argmax(np.stack([canvas.smooth_noise(n, rng, 2.2) for _ in range(hues.shape[1])]), axis=0)
    rows = np.arange(n)[:, None, None]
    return canvas.hsv(hues[rows, pieces], saturation[rows, pieces], value[rows, pieces])


HARMONIES = {
    "single": (0.0, 0.0, 0.0, 0.0),
    "neighbours": (-0.09, 0.0, 0.09, 0.0),
    "opposites": (0.0, 0.5, 0.0, 0.5),
    "split_opposites": (0.0, 0.42, 0.58, 0.0),
    "triad": (0.0, 1 / 3, 2 / 3, 0.0),
    "square": (0.0, 0.25, 0.5, 0.75),
}


def _harmony(name: str, n: int, rng: Rng) -> Array:
    hues = np.array(HARMONIES[name]) + rng.random((n, 1)) + rng.normal(0, 0.015, (n, 4))
    return _patches(hues, n, rng, rng.uniform(0.5, 1, (n, 4)), rng.uniform(0.5, 1, (n, 4)))


def _saturation(k: int, n: int, rng: Rng) -> Array:
    level = (k + rng.uniform(0.05, 0.95, (n, 1))) / 6 + rng.normal(0, 0.04, (n, 4))
    return _patches(rng.random((n, 4)), n, rng, np.clip(level, 0, 1), rng.uniform(0.4, 1, (n, 4)))


def _dominant(k: int, n: int, rng: Rng) -> Array:
    """Hue k covers most of the area, two other hues the rest."""
    hues = (k + rng.integers(1, 8, (n, 4))) / 8
    hues[:, 0] = k / 8
    hues = hues + rng.normal(0, 0.02, (n, 4))
    fields = np.stack([canvas.smooth_noise(n, rng, 3) for _ in range(4)])
    fields[0] += canvas.uniform(rng, 0.3, 1.0, n)
    pieces = np.argmax(fields, axis=0)
    rows = np.arange(n)[:, None, None]
    return canvas.hsv(
        hues[rows, pieces], rng.uniform(0.6, 1, (n, 4))[rows, pieces], rng.uniform(0.5, 1, (n, 4))[rows, pieces]
    )


def _ramp(ends: tuple[float, float], n: int, rng: Rng) -> Array:
    x, y = canvas.grid()
    angle = canvas.uniform(rng, 0, 2 * np.pi, n)
    t = canvas.smoothstep((np.cos(angle) * x + np.sin(angle) * y) * 0.6 + 0.5 + 0.15 * canvas.smooth_noise(n, rng, 2))[
        ..., None
    ]
    sides = [canvas.colours(n, rng, (0.5, 0.9), (0.6, 1), hue=h + canvas.uniform(rng, -0.04, 0.04, n)) for h in ends]
    return sides[0] * (1 - t) + sides[1] * t


def _two(pair: tuple[int, int], n: int, rng: Rng) -> Array:
    def tint(k: int) -> Array:
        return canvas.colours(n, rng, (0.6, 1), (0.5, 1), hue=k / 5 + canvas.uniform(rng, -0.05, 0.05, n))

    image: Array = np.broadcast_to(tint(pair[1]), (n, canvas.SIZE, canvas.SIZE, 3))
    return canvas.over(image, _blob(n, rng, (0.45, 0.75)), tint(pair[0]))


PAIRS = [(i, j) for i in range(5) for j in range(5) if i < j or (i, j) in {(3, 0), (4, 2)}]
RAMPS = [(0.0, 0.16), (0.0, 0.33), (0.0, 0.66), (0.16, 0.5), (0.16, 0.83), (0.33, 0.66), (0.33, 0.83), (0.5, 0.83)]
TASKS = family(
    "colour",
    "structured",
    [
        ("hue", "lighting", "Which hue the figure has.", _hue, numbered(HUES)),
        (
            "odd",
            "blur",
            "Which hue the odd dot has.",
            _odd_hue,
            numbered(HUES[::3] + [f"{h}_like" for h in HUES[1::3]]),
        ),
        ("harmony", "plain", "How the palette's hues relate.", _harmony, list(HARMONIES)),
        ("saturation", "occlusion", "How saturated the colours are.", _saturation, named("saturation_{}", range(6))),
        ("dominant", "noise", "Which hue covers most of the picture.", _dominant, named("hue_{}", range(8))),
        (
            "ramp",
            "low_contrast",
            "Between which hues the ramp runs.",
            _ramp,
            {f"from_{a}_to_{b}": (a, b) for a, b in RAMPS},
        ),
        (
            "figure_ground",
            "lighting",
            "Which hue lies on which.",
            _two,
            {f"hue{i}_on_hue{j}": (i, j) for i, j in PAIRS},
        ),
        ("texture_hue", "texture", "Which hue the figure on grey noise has.", _hue_on_noise, numbered(HUES[::2])),
    ],
)
