"""Where is it, and which way does it point."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named, numbered
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.shapes import FIGURES

COMPASS = ["east", "southeast", "south", "southwest", "west", "northwest", "north", "northeast"]


def _put(figure: str, n: int, rng: Rng, cx: Array, cy: Array, size: Array, angle: Array | float) -> Array:
    x, y = canvas.grid()
    u, v = canvas.rotate((x - cx) / size, (y - cy) / size, angle)
    return FIGURES[figure](u, v) * size


def _any_figure(n: int, rng: Rng, cx: Array, cy: Array, size: Array) -> Array:
    """One of a few figures per image, so that the figure says nothing about the class."""
    names = ["disc", "square", "triangle", "star", "cross"]
    pick = canvas.column(rng.integers(0, len(names), n))
    angle = canvas.uniform(rng, 0, 2 * np.pi, n)
    stack = [_put(name, n, rng, cx, cy, size, angle) for name in names]
    return np.select([pick == k for k in range(len(names))], stack)


def _cell(cell: tuple[int, int], n: int, rng: Rng, side: int = 3) -> Array:
    spread = 0.6 / side
    cx = (cell[0] + 0.5) / side * 2 - 1 + canvas.uniform(rng, -spread, spread, n)
    cy = (cell[1] + 0.5) / side * 2 - 1 + canvas.uniform(rng, -spread, spread, n)
    return canvas.cover(_any_figure(n, rng, cx, cy, canvas.uniform(rng, 0.5, 0.8, n) / side))


def _bearing(k: int, n: int, rng: Rng, steps: int = 8) -> Array:
    angle = (k + rng.uniform(-0.4, 0.4, (n, 1, 1))) * 2 * np.pi / steps
    far = canvas.uniform(rng, 0.3, 0.75, n)
    return canvas.cover(
        _any_figure(n, rng, np.cos(angle) * far, np.sin(angle) * far, canvas.uniform(rng, 0.14, 0.24, n))
    )


def _pointing(k: int, n: int, rng: Rng, figure: str = "arrow", steps: int = 8) -> Array:
    angle = (k + rng.uniform(-0.33, 0.33, (n, 1, 1))) * 2 * np.pi / steps
    cx, cy = canvas.uniform(rng, -0.3, 0.3, n), canvas.uniform(rng, -0.3, 0.3, n)
    return canvas.cover(_put(figure, n, rng, cx, cy, canvas.uniform(rng, 0.4, 0.7, n), angle))


def _distance(k: int, n: int, rng: Rng) -> Array:
    gap = canvas.uniform(rng, 0.3 + 0.25 * k, 0.3 + 0.25 * (k + 1), n)
    angle = canvas.uniform(rng, 0, 2 * np.pi, n)
    room = np.maximum(0.85 - gap / 2, 0)
    mx, my = canvas.uniform(rng, -1, 1, n) * room, canvas.uniform(rng, -1, 1, n) * room
    dx, dy = np.cos(angle) * gap / 2, np.sin(angle) * gap / 2
    size = canvas.uniform(rng, 0.09, 0.14, n)
    return canvas.cover(
        np.minimum(_put("disc", n, rng, mx + dx, my + dy, size, 0), _put("disc", n, rng, mx - dx, my - dy, size, 0))
    )


def _level(k: int, n: int, rng: Rng, levels: int = 8) -> Array:
    x, y = canvas.grid()
    edge = 0.9 - 1.8 * (k + rng.uniform(0.1, 0.9, (n, 1, 1))) / levels
    wave = 0.05 * np.sin(x * canvas.uniform(rng, 2, 7, n) + canvas.uniform(rng, 0, 6, n))
    return canvas.cover(edge + wave - y)


def _clock(k: int, n: int, rng: Rng) -> Array:
    x, y = canvas.grid()
    cx, cy = canvas.uniform(rng, -0.15, 0.15, n), canvas.uniform(rng, -0.15, 0.15, n)
    u, v = x - cx, y - cy
    radius = canvas.uniform(rng, 0.65, 0.85, n)
    rim = np.abs(canvas.disc(u, v, radius)) - 0.04
    zero = np.zeros((n, 1, 1), dtype=np.float32)
    hour = k * np.pi / 6 + canvas.uniform(rng, -0.12, 0.12, n)
    minute = canvas.uniform(rng, 0, 2 * np.pi, n)
    hands = [
        canvas.segment(u, v, zero, zero, np.sin(hour) * radius * 0.5, -np.cos(hour) * radius * 0.5) - 0.09,
        canvas.segment(u, v, zero, zero, np.sin(minute) * radius * 0.9, -np.cos(minute) * radius * 0.9) - 0.02,
    ]
    return canvas.cover(np.minimum(rim, np.minimum(*hands)))


CELLS3 = [(i, j) for j in range(3) for i in range(3)]
CELLS4 = [(i, j) for j in range(4) for i in range(4)]
TASKS = family(
    "position",
    "structured",
    [
        (
            "grid3",
            "clutter",
            "In which of nine cells the figure lies.",
            _cell,
            {f"column{i}_row{j}": (i, j) for i, j in CELLS3},
        ),
        (
            "grid4",
            "plain",
            "In which of sixteen cells the figure lies.",
            lambda c, n, rng: _cell(c, n, rng, 4),
            {f"column{i}_row{j}": (i, j) for i, j in CELLS4},
        ),
        ("bearing", "lighting", "In which direction from the middle the figure lies.", _bearing, numbered(COMPASS)),
        ("arrow", "texture", "Which way the arrow points.", _pointing, numbered(COMPASS)),
        (
            "triangle",
            "low_contrast",
            "Which way the drop points.",
            lambda k, n, rng: _pointing(k, n, rng, "drop"),
            numbered(COMPASS),
        ),
        (
            "distance",
            "noise",
            "How far apart two dots are.",
            _distance,
            numbered(["touching", "near", "middling", "far", "very_far"]),
        ),
        ("level", "grey", "How high the liquid stands.", _level, named("level_{}", range(8))),
        ("clock", "blur", "Which hour the short thick hand shows.", _clock, named("{}_oclock", range(12))),
    ],
)
