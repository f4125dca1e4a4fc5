"""Cellular textures: which distance, how many seeds, which tiling (Worley, SIGGRAPH 1996)."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng


def _distances(
    n: int,
    rng: Rng,
    cells: int = 4,
    jitter: float = 0.9,
    power: float = 2.0,
    stretch: Array | float = 1.0,
    angle: Array | float = 0.0,
) -> tuple[Array, Array, Array]:
    """Distance to the nearest and second seed, and the nearest seed's number."""
    x, y = canvas.grid()
    x, y = canvas.rotate(x, y, angle)
    x, y = x * stretch, y / stretch
    side = cells + 4
    middle = (np.arange(side) - (side - 1) / 2) * 2 / cells
    shift = rng.uniform(-1, 1, (n, 2)) / cells
    first = np.full((n, canvas.SIZE, canvas.SIZE), 99.0, dtype=np.float32)
    second, index = first.copy(), np.zeros(first.shape, dtype=np.int64)
    for k in range(side * side):
        sx = canvas.column(middle[k % side] + shift[:, 0] + rng.uniform(-1, 1, n) * jitter / cells)
        sy = canvas.column(middle[k // side] + shift[:, 1] + rng.uniform(-1, 1, n) * jitter / cells)
        dx, dy = np.abs(x - sx), np.abs(y - sy)
        if power == 2:
            d = np.hypot(dx, dy)
        elif power > 9:
            d = np.maximum(dx, dy)
        else:
            d = (dx + 1e-6) ** power + (dy + 1e-6) ** power
            d = d ** (1 / power)
        nearer = d < first
        second = np.minimum(second, np.where(nearer, first, d))
        index[nearer] = k
        first = np.where(nearer, d, first)
    return first * cells, second * cells, index


def _kind(kind: str, n: int, rng: Rng) -> Array:
    first, second, index = _distances(n, rng, 4)
    levels = rng.random((n, 64)).astype(np.float32)
    tone = levels[np.arange(n)[:, None, None], index]
    edge = canvas.smoothstep((second - first) * 2.2)
    return {
        "bubbles": lambda: canvas.normalise(first),
        "pebbles": lambda: canvas.normalise(1 - first**2),
        "cracks": lambda: 1 - edge,
        "mosaic": lambda: tone,
        "leaded": lambda: tone * edge,
        "facets": lambda: canvas.normalise(second - first),
        "dots": lambda: canvas.cover((first - 0.55) / 4),
        "scales": lambda: np.mod(first * 1.6, 1.0),
        "second": lambda: canvas.normalise(second),
    }[kind]()


def _edges(n: int, rng: Rng, **options: object) -> Array:
    first, second, _ = _distances(n, rng, **options)  # type: ignore[arg-type]
    return canvas.smoothstep((second - first) * 1.8)


def _count(cells: int, n: int, rng: Rng) -> Array:
    return _edges(n, rng, cells=cells)


def _jitter(jitter: float, n: int, rng: Rng) -> Array:
    return _edges(n, rng, cells=4, jitter=jitter, angle=canvas.uniform(rng, 0, np.pi, n))


def _metric(power: float, n: int, rng: Rng) -> Array:
    first, second, _ = _distances(n, rng, 3, 0.9, power)
    return 0.6 * canvas.smoothstep((second - first) * 1.5) + 0.4 * (np.mod(first * 1.8, 1.0) < 0.5)


def _stretch(k: int, n: int, rng: Rng) -> Array:
    angle = (k + rng.uniform(-0.3, 0.3, (n, 1, 1))) * np.pi / 6
    return _edges(n, rng, cells=3, stretch=canvas.uniform(rng, 0.55, 0.7, n), angle=angle)


def _tiling(kind: str, n: int, rng: Rng) -> Array:
    u, v, size = canvas.frame(n, rng, (0.22, 0.32), 0.3, np.pi / 14)
    row = np.floor(v)
    if kind == "brick":
        a, b = np.mod(u + 0.5 * row, 2) - 1, np.mod(v, 1) - 0.5
        d = np.minimum(1 - np.abs(a), 0.5 - np.abs(b))
    elif kind == "square":
        d = np.minimum(0.5 - np.abs(np.mod(u, 1) - 0.5), 0.5 - np.abs(np.mod(v, 1) - 0.5))
    elif kind == "hexagon":
        d = np.full(u.shape, 9.0, dtype=np.float32)
        best = np.full(u.shape, 9.0, dtype=np.float32)
        for shift in (0.0, 0.5):
            a = np.mod(u + shift, 1) - 0.5
            b = np.mod(v + shift * np.sqrt(3), np.sqrt(3)) - np.sqrt(3) / 2
            hexagonal = np.maximum(np.abs(a), np.abs(a) / 2 + np.abs(b) * np.sqrt(3) / 2)
            best = np.minimum(best, hexagonal)
        d = 0.5 - best
    elif kind == "triangle":
        d = np.full(u.shape, 9.0, dtype=np.float32)
        for k in range(3):
            along = u * np.cos(k * np.pi / 3) + v * np.sin(k * np.pi / 3)
            d = np.minimum(d, 0.5 - np.abs(np.mod(along, 1) - 0.5))
    elif kind == "herringbone":
        a, b = np.mod(np.floor(u) + np.floor(v), 4), np.mod(u, 1) - 0.5
        d = np.where(a < 2, 0.5 - np.abs(b), 0.5 - np.abs(np.mod(v, 1) - 0.5))
    elif kind == "fish_scale":
        a = np.mod(u + 0.5 * np.mod(row, 2), 1) - 0.5
        b = np.mod(v, 1)
        d = np.abs(np.hypot(a, b - 0.0) - 0.62) * 0.8
    elif kind == "checker":
        return canvas.cover(-np.sin(u * np.pi) * np.sin(v * np.pi) * 0.2)
    elif kind == "basket":
        across = np.mod(np.floor(u / 2) + np.floor(v / 2), 2) < 1
        t = np.where(across, u, v)
        d = 0.5 - np.abs(np.mod(t, 1) - 0.5)
    else:  # planks
        a = np.mod(u * 0.35 + 0.37 * row, 1)
        d = np.minimum(0.5 - np.abs(np.mod(v, 1) - 0.5), np.minimum(a, 1 - a) / 0.35)
    tone = canvas.uniform(rng, 0.0, 0.35, n) * np.sin(np.floor(u) * 2.3 + row * 4.1)
    return np.clip(canvas.cover((0.09 - d) * size, 1.2) * (0.8 + tone), 0, 1)


def _coloured(k: int, n: int, rng: Rng) -> Array:
    """Mosaics whose number of different colours is the class."""
    _, _, index = _distances(n, rng, 5)
    pick = rng.integers(0, k, (n, 81))
    hue = (rng.random((n, 1)) + np.arange(k) / k + rng.normal(0, 0.01, (n, k)))[np.arange(n)[:, None], pick]
    rows = np.arange(n)[:, None, None]
    return canvas.hsv(hue[rows, index], canvas.uniform(rng, 0.5, 1, n), rng.uniform(0.55, 1, (n, 81))[rows, index])


KINDS = ["bubbles", "pebbles", "cracks", "mosaic", "leaded", "facets", "dots", "scales", "second"]
TILINGS = ["brick", "square", "hexagon", "triangle", "herringbone", "fish_scale", "checker", "basket", "planks"]
TASKS = family(
    "voronoi",
    "natural",
    [
        ("kind", "plain", "Which cellular texture it is.", _kind, KINDS),
        ("count", "noise", "How many cells there are.", _count, named("{}_across", range(2, 8))),
        (
            "regularity",
            "lighting",
            "How regular the cells are.",
            _jitter,
            named("jitter_{}", (0.05, 0.25, 0.5, 0.75, 1.1)),
        ),
        (
            "metric",
            "lighting",
            "By which metric distance is measured.",
            _metric,
            {"p0.6": 0.6, "p1": 1.0, "p2": 2.0, "p4": 4.0, "maximum": 10.0},
        ),
        ("stretch", "blur", "Which way the cells are stretched.", _stretch, {f"{k * 30}_degrees": k for k in range(6)}),
        ("tiling", "occlusion", "Which tiling covers the wall.", _tiling, TILINGS),
        ("colours", "lighting", "How many colours the mosaic has.", _coloured, named("{}_colours", range(1, 7))),
        ("tiling_noisy", "noise", "Which tiling lies under the grain.", _tiling, TILINGS),
    ],
)
