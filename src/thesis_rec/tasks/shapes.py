"""Single figures: which one is it, how many corners, how stretched."""

from collections.abc import Callable
from functools import partial

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng

Figure = Callable[[Array, Array], Array]


def _crescent(u: Array, v: Array) -> Array:
    return np.maximum(canvas.disc(u, v, 0.95), -canvas.disc(u - 0.45, v, 0.75))


def _heart(u: Array, v: Array) -> Array:
    lobes = np.minimum(canvas.disc(u - 0.42, v + 0.3, 0.5), canvas.disc(u + 0.42, v + 0.3, 0.5))
    tip = np.maximum(np.abs(u) * 0.75 + v * 0.66 - 0.6, -v - 0.25)
    return np.minimum(lobes, np.maximum(tip, np.abs(u) - 0.88))


def _cross(u: Array, v: Array) -> Array:
    return np.minimum(canvas.box(u, v, 0.95, 0.3), canvas.box(u, v, 0.3, 0.95))


def _arrow(u: Array, v: Array) -> Array:
    head = np.maximum(np.abs(v) * 0.75 + u * 0.66 - 0.62, 0.1 - u)
    return np.minimum(canvas.box(u + 0.35, v, 0.55, 0.22), head)


def _drop(u: Array, v: Array) -> Array:
    return np.minimum(canvas.disc(u, v - 0.3, 0.6), np.maximum(np.abs(u) * 0.87 - v * 0.5 - 0.45, v - 0.1))


def _ell(u: Array, v: Array) -> Array:
    return np.minimum(canvas.box(u + 0.5, v, 0.28, 0.9), canvas.box(u, v - 0.62, 0.78, 0.28))


FIGURES: dict[str, Figure] = {
    "disc": lambda u, v: canvas.disc(u, v, 0.85),
    "triangle": lambda u, v: canvas.polygon(u, v, 3),
    "square": lambda u, v: canvas.box(u, v, 0.72, 0.72),
    "pentagon": lambda u, v: canvas.polygon(u, v, 5),
    "hexagon": lambda u, v: canvas.polygon(u, v, 6),
    "star": lambda u, v: canvas.star(u, v, 5),
    "cross": _cross,
    "crescent": _crescent,
    "heart": _heart,
    "ring": lambda u, v: np.abs(canvas.disc(u, v, 0.68)) - 0.2,
    "arrow": _arrow,
    "drop": _drop,
    "ell": _ell,
    "bar": lambda u, v: canvas.box(u, v, 0.95, 0.3),
    "half_disc": lambda u, v: np.maximum(canvas.disc(u, v, 0.95), v),
}


def _draw(
    figure: Figure,
    n: int,
    rng: Rng,
    outline: float = 0.0,
    scale: tuple[float, float] = (0.45, 0.85),
    turn: float = np.pi,
) -> Array:
    u, v, size = canvas.frame(n, rng, scale, 0.3, turn, 1.35)
    distance = figure(u, v) * size
    if outline:
        distance = np.abs(distance) - canvas.uniform(rng, 0.6, 1.3, n) * outline
    return canvas.cover(distance)


def _figure(name: str, n: int, rng: Rng, outline: float = 0.0, scale: tuple[float, float] = (0.45, 0.85)) -> Array:
    return _draw(FIGURES[name], n, rng, outline, scale)


def _superellipse(power: float, n: int, rng: Rng) -> Array:
    u, v, size = canvas.frame(n, rng, (0.5, 0.85), 0.2, np.pi, 1.3)
    return canvas.cover((((np.abs(u) + 1e-4) ** power + (np.abs(v) + 1e-4) ** power) ** (1 / power) - 0.9) * size * 0.8)


def _stretched(ratio: float, n: int, rng: Rng) -> Array:
    u, v, size = canvas.frame(n, rng, (0.5, 0.8), 0.25)
    ratio_ = ratio * np.exp(rng.normal(0, 0.04, (n, 1, 1)))
    narrow = 0.9 / np.sqrt(ratio_)
    blocky = rng.random((n, 1, 1)) < 0.5
    round_ = (np.hypot(u / (narrow * ratio_), v / narrow) - 1) * narrow
    return canvas.cover(np.where(blocky, canvas.box(u, v, 0.85 * narrow * ratio_, 0.85 * narrow), round_) * size)


def _sides(sides: int, n: int, rng: Rng) -> Array:
    return _draw(lambda u, v: canvas.polygon(u, v, sides), n, rng)


def _tips(tips: int, n: int, rng: Rng) -> Array:
    inner = canvas.uniform(rng, 0.35, 0.6, n)
    return _draw(lambda u, v: canvas.star(u, v, tips, inner), n, rng, scale=(0.6, 0.9))


def _pair(names: tuple[str, str], n: int, rng: Rng) -> Array:
    inner = _draw(FIGURES[names[1]], n, rng, scale=(0.28, 0.4))
    u, v, size = canvas.frame(n, rng, (0.85, 0.95), 0.05)
    outer = canvas.cover(np.abs(FIGURES[names[0]](u, v) * size) - 0.05)
    return np.maximum(inner, outer)


ALL = list(FIGURES)
TEN = ALL[:10]
NESTS = [(a, b) for a in ("disc", "square", "triangle") for b in ("disc", "square", "star")]
TASKS = family(
    "shapes",
    "structured",
    [
        ("filled", "plain", "Which filled figure is shown.", _figure, ALL),
        ("outline", "clutter", "Which figure's outline is shown, among strokes.", partial(_figure, outline=0.06), TEN),
        ("sides", "noise", "How many sides the polygon has.", _sides, named("{}_sides", range(3, 9))),
        ("tips", "blur", "How many tips the star has.", _tips, named("{}_tips", range(3, 10))),
        (
            "stretch",
            "lighting",
            "How elongated the figure is.",
            _stretched,
            named("ratio_{}", (1.0, 1.4, 1.9, 2.6, 3.6, 5.0)),
        ),
        ("small", "texture", "Which small figure lies on a textured ground.", partial(_figure, scale=(0.28, 0.4)), TEN),
        (
            "occluded",
            "occlusion",
            "Which partly covered figure is shown.",
            partial(_figure, scale=(0.6, 0.9)),
            ALL[:12],
        ),
        (
            "roundness",
            "low_contrast",
            "How round or square the figure is.",
            _superellipse,
            {"astroid": 0.65, "diamond": 1.0, "bulged_diamond": 1.4, "ellipse": 2.0, "squircle": 3.2, "square": 9.0},
        ),
        ("nested", "grey", "Which figure stands inside which frame.", _pair, {f"{b}_in_{a}": (a, b) for a, b in NESTS}),
    ],
)
