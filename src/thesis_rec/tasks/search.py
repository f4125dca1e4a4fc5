"""Visual search: where is the odd one out, by what is it odd, what is it."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, numbered
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.shapes import FIGURES


def _array(
    n: int,
    rng: Rng,
    side: int,
    odd: Array | int,
    common: str = "disc",
    other: str = "square",
    size: float = 0.62,
    bigger: float = 1.0,
    turned: float = 0.0,
) -> tuple[Array, Array]:
    """Coverage of the ordinary figures and of the odd one on a side x side board; odd < 0 means none."""
    x, y = canvas.grid()
    ordinary = np.zeros((n, canvas.SIZE, canvas.SIZE), dtype=np.float32)
    special = ordinary.copy()
    odd = np.broadcast_to(odd, (n,))
    tilt = canvas.uniform(rng, -np.pi, np.pi, n)
    for cell in range(side * side):
        middle = (np.array([cell % side, cell // side]) + 0.5) / side * 2 - 1
        cx, cy = (m + canvas.uniform(rng, -0.12, 0.12, n) / side for m in middle)
        scale = canvas.uniform(rng, 0.85, 1.1, n) * size / side
        is_odd = canvas.column(odd == cell)
        u, v = canvas.rotate(x - cx, y - cy, tilt + canvas.uniform(rng, -0.08, 0.08, n) + is_odd * turned)
        scale = scale * np.where(is_odd > 0, bigger, 1.0)
        usual = canvas.cover(FIGURES[common](u / scale, v / scale) * scale)
        strange = usual if other == common else canvas.cover(FIGURES[other](u / scale, v / scale) * scale)
        ordinary = np.maximum(ordinary, usual * (1 - is_odd))
        special = np.maximum(special, strange * is_odd)
    return ordinary, special


def _tinted(ordinary: Array, special: Array, rng: Rng, same: bool) -> Array:
    n = len(ordinary)
    figure, ground = canvas.contrasting(n, rng, 0.4)
    hue = canvas.uniform(rng, 0, 1, n)
    if not same:
        figure = canvas.colours(n, rng, (0.5, 1), (0.5, 1), hue=hue)
    other = figure if same else canvas.colours(n, rng, (0.5, 1), (0.5, 1), hue=hue + canvas.uniform(rng, 0.25, 0.75, n))
    image: Array = np.broadcast_to(ground, (n, canvas.SIZE, canvas.SIZE, 3))
    return canvas.over(canvas.over(image, ordinary, figure), special, other)


def _where_shape(cell: int, n: int, rng: Rng) -> Array:
    ordinary, special = _array(n, rng, 3, cell, "disc", "triangle", 0.7)
    return np.maximum(ordinary, special)


def _where_colour(cell: int, n: int, rng: Rng) -> Array:
    return _tinted(*_array(n, rng, 3, cell, "square", "square", 0.75), rng, False)


def _where_turned(cell: int, n: int, rng: Rng) -> Array:
    return np.maximum(*_array(n, rng, 3, cell, "bar", "bar", 0.85, turned=np.pi / 2))


FEATURES = ["none", "colour", "form", "size", "direction", "missing"]


def _feature(kind: str, n: int, rng: Rng) -> Array:
    cell = rng.integers(0, 9, n)
    if kind == "none":
        parts = _array(n, rng, 3, -1, "bar", "bar", 0.75)
    elif kind == "missing":
        ordinary, _ = _array(n, rng, 3, cell, "bar", "bar", 0.75)
        parts = (ordinary, ordinary * 0)
    else:
        parts = _array(
            n,
            rng,
            3,
            cell,
            "bar",
            "cross" if kind == "form" else "bar",
            0.75,
            1.5 if kind == "size" else 1.0,
            np.pi / 2 if kind == "direction" else 0.0,
        )
    return _tinted(*parts, rng, kind != "colour")


ODD = ["square", "triangle", "star", "cross", "heart", "crescent", "ring", "half_disc"]


def _what(kind: str, n: int, rng: Rng) -> Array:
    return np.maximum(*_array(n, rng, 3, rng.integers(0, 9, n), "disc", kind, 0.8))


def _present(kind: str, n: int, rng: Rng) -> Array:
    """A T-like target among L-like distractors: absent, once, twice."""
    first = rng.integers(0, 9, n)
    second = (first + rng.integers(1, 9, n)) % 9
    count = {"absent": 0, "once": 1, "twice": 2}[kind]
    ordinary, special = _array(n, rng, 3, first if count else -1, "ell", "cross", 0.85)
    if count == 2:
        again, extra = _array(n, rng, 3, second, "ell", "cross", 0.85)
        x, y = canvas.grid()
        cell = np.clip(((x + 1) * 1.5).astype(int), 0, 2) + 3 * np.clip(((y + 1) * 1.5).astype(int), 0, 2)
        here = cell == canvas.column(second)
        return np.where(here, np.maximum(again, extra), np.maximum(ordinary, special))
    return np.maximum(ordinary, special)


def _size(bigger: float, n: int, rng: Rng) -> Array:
    return np.maximum(*_array(n, rng, 4, rng.integers(0, 16, n), "disc", "disc", 0.45, bigger))


CELLS = [f"column{i}_row{j}" for j in range(3) for i in range(3)]
TASKS = family(
    "search",
    "structured",
    [
        ("where_form", "plain", "Where the odd form is.", _where_shape, numbered(CELLS)),
        ("where_colour", "noise", "Where the odd colour is.", _where_colour, numbered(CELLS)),
        ("where_turned", "blur", "Where the odd direction is.", _where_turned, numbered(CELLS)),
        ("feature", "lighting", "By what one element is odd.", _feature, FEATURES),
        ("what", "grey", "Which form the odd element has.", _what, ODD),
        ("count", "texture", "How often the target occurs.", _present, ["absent", "once", "twice"]),
        (
            "size",
            "clutter",
            "How large the odd disc is.",
            _size,
            {"tiny": 0.5, "smaller": 0.75, "same": 1.0, "larger": 1.35, "huge": 1.8},
        ),
        ("what_noisy", "low_contrast", "Which form the faint odd element has.", _what, ODD),
    ],
)
