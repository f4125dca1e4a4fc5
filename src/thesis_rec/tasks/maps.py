"""Aerial pictures and mazes: land use, roads, rivers, contours, mazes."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family
from thesis_rec.tasks.canvas import Array, Rng


def _soil(n: int, rng: Rng, hue: tuple[float, float] = (0.15, 0.35), value: tuple[float, float] = (0.3, 0.65)) -> Array:
    base = canvas.hsv(canvas.uniform(rng, *hue, n), canvas.uniform(rng, 0.2, 0.6, n), canvas.uniform(rng, *value, n))
    return np.clip(base * (1 + 0.12 * canvas.power_noise(n, rng, 0.9))[..., None], 0, 1)


LAND = ["forest", "fields", "housing", "water", "desert", "orchard", "industry", "meadow", "harbour", "quarry"]


def _land(kind: str, n: int, rng: Rng) -> Array:
    """Land uses from above."""
    x, y = canvas.grid()
    u, v = canvas.rotate(
        x - canvas.uniform(rng, -1, 1, n), y - canvas.uniform(rng, -1, 1, n), canvas.uniform(rng, 0, np.pi, n)
    )
    grey = canvas.colours(n, rng, (0, 0.1), (0.35, 0.6))
    blue = canvas.colours(n, rng, (0.4, 0.8), (0.25, 0.6), hue=(0.5, 0.62))
    if kind == "forest":
        return canvas.over(
            _soil(n, rng, (0.25, 0.4), (0.2, 0.4)),
            canvas.smoothstep(canvas.smooth_noise(n, rng, 7) * 0.8 + 0.3) * 0.7,
            canvas.hsv(0.3, 0.6, canvas.uniform(rng, 0.12, 0.25, n)),
        )
    if kind == "fields":
        pitch = canvas.uniform(rng, 0.5, 0.8, n)
        plot = np.floor(u / pitch) * 3.7 + np.floor(v / pitch * 0.8) * 1.9
        tone = np.mod(np.abs(np.sin(plot) * 43.7), 1)
        rows = 0.07 * np.sin(np.where(tone > 0.5, u, v) * 30)
        return canvas.hsv(0.1 + 0.2 * tone, 0.35 + 0.3 * tone, 0.45 + 0.3 * np.mod(tone * 7, 1) + rows)
    if kind in ("housing", "industry"):
        pitch = canvas.uniform(rng, 0.26, 0.34, n) * (1.0 if kind == "housing" else 2.1)
        a, b = np.mod(u / pitch, 1) - 0.5, np.mod(v / pitch, 1) - 0.5
        cell = np.floor(u / pitch) * 2.3 + np.floor(v / pitch) * 5.1
        tone = np.mod(np.abs(np.sin(cell) * 91.3), 1)
        roof = canvas.hsv(0.02 + 0.06 * tone, 0.6 if kind == "housing" else 0.05, 0.4 + 0.4 * tone)
        image = canvas.over(_soil(n, rng), canvas.cover((np.maximum(np.abs(a), np.abs(b)) - 0.3) * pitch), roof)
        street = (np.mod(np.floor(u / pitch), 3) == 0) & (np.abs(a) > 0.3)
        return canvas.over(image, street * 0.8, grey)
    if kind == "water":
        return np.clip(
            blue * (1 + 0.06 * canvas.power_noise(n, rng, 0.6) + 0.05 * canvas.power_noise(n, rng, 2))[..., None], 0, 1
        )
    if kind == "desert":
        dune = np.sin(u * canvas.uniform(rng, 9, 14, n) + canvas.smooth_noise(n, rng, 1.5) * 1.2)
        return np.clip(
            canvas.colours(n, rng, (0.3, 0.5), (0.6, 0.9), hue=(0.08, 0.13)) * (1 + 0.12 * dune)[..., None],
            0,
            1,
        )
    if kind == "orchard":
        pitch = canvas.uniform(rng, 0.18, 0.24, n)
        a, b = np.mod(u / pitch, 1) - 0.5, np.mod(v / pitch, 1) - 0.5
        return canvas.over(
            _soil(n, rng, (0.08, 0.2)),
            canvas.cover((np.hypot(a, b) - 0.3) * pitch),
            canvas.hsv(canvas.uniform(rng, 0.25, 0.36, n), 0.6, canvas.uniform(rng, 0.2, 0.4, n)),
        )
    if kind == "meadow":
        return _soil(n, rng, (0.2, 0.32), (0.4, 0.7))
    if kind == "harbour":
        shore = canvas.cover(u + 0.05 * canvas.smooth_noise(n, rng, 3))
        image = canvas.over(
            np.broadcast_to(blue, (n, canvas.SIZE, canvas.SIZE, 3)),
            shore,
            grey * (1 + 0.1 * canvas.power_noise(n, rng, 0.5))[..., None],
        )
        boats = canvas.box(np.mod(u, 0.3) - 0.15, np.mod(v, 0.16) - 0.08, 0.1, 0.03)
        return canvas.over(
            image,
            canvas.cover(np.maximum(boats, -u - 0.0)) * (u > 0) * (u < 0.6),
            canvas.colours(n, rng, (0, 0.2), (0.8, 1)),
        )
    steps = np.floor((np.hypot(u - 0.3, v) + 0.1 * canvas.smooth_noise(n, rng, 2)) * 5)
    return np.clip(
        canvas.hsv(canvas.uniform(rng, 0.06, 0.12, n), 0.2, 0.25 + 0.12 * np.mod(steps, 5))
        * (1 + 0.07 * canvas.power_noise(n, rng, 0.4))[..., None],
        0,
        1,
    )


NETWORKS = ["grid", "ring", "star", "tree", "parallel", "tangle", "dead_ends"]


def _network(kind: str, n: int, rng: Rng) -> Array:
    """Road networks of one plan."""
    u, v, size = canvas.frame(n, rng, (0.9, 1.1), 0.25)
    rho, angle = np.hypot(u, v), np.arctan2(v, u)
    if kind == "grid":
        p, q = canvas.uniform(rng, 0.38, 0.6, n), canvas.uniform(rng, 0.38, 0.6, n)
        d = np.minimum(np.abs(np.mod(u / p, 1) - 0.5) * p, np.abs(np.mod(v / q, 1) - 0.5) * q)
    elif kind == "ring":
        p = canvas.uniform(rng, 0.3, 0.42, n)
        d = np.minimum(np.abs(np.mod(rho / p, 1) - 0.5) * p, np.minimum(np.abs(u), np.abs(v)))
    elif kind == "star":
        k = canvas.column(rng.integers(5, 9, n))
        d = np.abs(np.mod(angle / (2 * np.pi) * k, 1) - 0.5) / k * 2 * np.pi * rho
    elif kind == "parallel":
        p = canvas.uniform(rng, 0.3, 0.45, n)
        d = np.abs(np.mod((v + 0.15 * np.sin(u * 3)) / p, 1) - 0.5) * p
    elif kind == "tangle":
        d = np.full(u.shape, 9.0, dtype=np.float32)
        for _ in range(5):
            path = np.cumsum(rng.normal(0, 0.33, (n, 7, 2)), axis=1)
            d = np.minimum(d, canvas.polyline(u, v, path - path.mean(1, keepdims=True) + rng.normal(0, 0.3, (n, 1, 2))))
    else:
        stem = canvas.uniform(rng, -0.1, 0.1, n)
        d = np.abs(v - stem)
        for i in range(6 if kind == "dead_ends" else 4):
            px = -0.9 + 1.8 * (i + 0.5) / (6 if kind == "dead_ends" else 4) + canvas.uniform(rng, -0.08, 0.08, n)
            side = 1 if i % 2 else -1
            reach = canvas.uniform(rng, 0.3, 0.5, n) if kind == "dead_ends" else canvas.uniform(rng, 0.6, 0.95, n)
            lean = 0.0 if kind == "dead_ends" else 0.45
            d = np.minimum(d, canvas.segment(u, v, px, stem, px + lean, stem + side * reach))
            if kind == "dead_ends":
                d = np.minimum(d, np.abs(np.hypot(u - px, v - stem - side * reach) - 0.08))
            else:
                d = np.minimum(
                    d,
                    canvas.segment(
                        u,
                        v,
                        px + lean / 2,
                        stem + side * reach / 2,
                        px + lean / 2 - 0.25,
                        stem + side * (reach / 2 + 0.35),
                    ),
                )
    road = canvas.cover(d * size - canvas.uniform(rng, 0.035, 0.07, n))
    return canvas.over(_soil(n, rng), road, canvas.colours(n, rng, (0, 0.15), (0.6, 0.95)))


WATERS = ["straight", "meandering", "braided", "delta", "lake", "coast", "islands"]


def _river(kind: str, n: int, rng: Rng) -> Array:
    x, y = canvas.grid()
    u, v = canvas.rotate(
        x - canvas.uniform(rng, -0.2, 0.2, n),
        y - canvas.uniform(rng, -0.2, 0.2, n),
        canvas.uniform(rng, 0, 2 * np.pi, n),
    )
    rough = canvas.power_noise(n, rng, 1.8) * 0.07
    width = canvas.uniform(rng, 0.08, 0.15, n)
    if kind == "straight":
        d = np.abs(v + rough) - width
    elif kind == "meandering":
        d = (
            np.abs(v + 0.38 * np.sin(u * canvas.uniform(rng, 4, 6.5, n) + canvas.uniform(rng, 0, 6, n)) + rough) * 0.75
            - width * 0.8
        )
    elif kind == "braided":
        waves = [
            np.abs(v + a * np.sin(u * canvas.uniform(rng, 4, 7, n) + canvas.uniform(rng, 0, 6, n)) + rough)
            - width * 0.45
            for a in (0.1, 0.18, 0.25)
        ]
        d = np.minimum.reduce(waves)
    elif kind == "delta":
        angle = np.arctan2(v, u + 0.6)
        d = np.minimum(
            np.where(
                u > -0.6,
                np.abs(np.mod(angle * 2.2 + rough * 2, 1) - 0.5) * (u + 0.6) * 0.45 + np.maximum(np.abs(angle) - 1, 0),
                9,
            )
            - 0.05,
            np.where(u < -0.5, np.abs(v) - 0.1, 9),
        )
    elif kind == "lake":
        d = np.hypot(u, v * canvas.uniform(rng, 1, 1.6, n)) - canvas.uniform(rng, 0.35, 0.6, n) + rough * 1.8
    elif kind == "coast":
        d = u + rough * 2.5 + canvas.uniform(rng, -0.3, 0.3, n)
    else:
        d = canvas.smooth_noise(n, rng, 3.5) * -0.2 - canvas.uniform(rng, 0.1, 0.2, n)
        d = -(np.abs(d) - 0.12) * 0.8 - 0.1 - rough
    blue = canvas.colours(n, rng, (0.3, 0.8), (0.2, 0.6), hue=(0.5, 0.62))
    return canvas.over(_soil(n, rng, (0.08, 0.38)), canvas.cover(d), blue)


def _carve(n: int, rng: Rng, cells: int, braid: float, bias: float) -> Array:
    """Mazes on cells x cells rooms by Wilson-free random depth-first carving; 1 is wall, (n, 2 cells + 1, ...)."""
    side = 2 * cells + 1
    mazes = np.ones((n, side, side), dtype=np.float32)
    for m in range(n):
        grid = mazes[m]
        stack = [(int(rng.integers(cells)), int(rng.integers(cells)))]
        grid[2 * stack[0][0] + 1, 2 * stack[0][1] + 1] = 0
        draws = iter(rng.random((cells * cells * 3, 4)))
        while stack:
            i, j = stack[-1]
            ways = [
                (a, b)
                for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))
                if 0 <= a < cells and 0 <= b < cells and grid[2 * a + 1, 2 * b + 1]
            ]
            if not ways:
                stack.pop()
                continue
            luck = next(draws)
            scores = [luck[k] + (bias if a == i else 0.0) for k, (a, b) in enumerate(ways)]
            a, b = ways[int(np.argmax(scores))]
            grid[i + a + 1, j + b + 1] = 0
            grid[2 * a + 1, 2 * b + 1] = 0
            stack.append((a, b))
    if braid:
        open_ = rng.random(mazes.shape) < braid
        inner = np.zeros((side, side), dtype=bool)
        inner[1:-1:2, 2:-1:2] = True
        inner[2:-1:2, 1:-1:2] = True
        mazes[open_ & inner] = 0
    return mazes


def _maze(c: tuple[int, float, float], n: int, rng: Rng) -> Array:
    cells, braid, bias = c
    mazes = _carve(n, rng, cells, braid, bias)
    u, v, _ = canvas.frame(n, rng, (0.85, 1.0), 0.06, 0.12)
    return canvas.sample(mazes, u, v)


RELIEFS = ["peak", "ridge", "saddle", "slope", "basin", "two_peaks", "hills"]


def _contours(kind: str, n: int, rng: Rng) -> Array:
    """Contour lines of a landscape form; closer where steeper, thick every third line."""
    u, v, _ = canvas.frame(n, rng, (0.8, 1.1), 0.2)
    height = {
        "peak": lambda: 2.6 * np.exp(-(u**2 + v**2) * 1.6),
        "ridge": lambda: 2.2 * np.exp(-(v**2) * 4) + 0.3 * u,
        "saddle": lambda: 1.6 * u * v,
        "slope": lambda: 1.4 * u,
        "basin": lambda: np.abs(np.hypot(u, v) - 0.55) * -2.8,
        "two_peaks": lambda: 2 * np.exp(-((u - 0.5) ** 2 + v**2) * 5) + 2 * np.exp(-((u + 0.5) ** 2 + v**2) * 5),
        "hills": lambda: 0.55 * canvas.smooth_noise(n, rng, 3.5),
    }[kind]() + 0.12 * canvas.smooth_noise(n, rng, 2)
    t = height * canvas.uniform(rng, 2.2, 3.2, n) + canvas.uniform(rng, 0, 1, n)
    gy, gx = np.gradient(t, axis=(1, 2))
    lines = np.abs(np.mod(t, 1) - 0.5) / (np.hypot(gx, gy) + 0.05)
    return np.clip(1.2 - lines, 0, 1)


MAZES = {
    "coarse": (4, 0.0, 0.0), "middling": (6, 0.0, 0.0), "fine": (8, 0.0, 0.0), "fine_with_loops": (8, 0.35, 0.0),
    "long_rows": (7, 0.0, 0.6), "long_columns": (7, 0.0, -0.6),
}  # fmt: skip
TASKS = family(
    "maps",
    "natural",
    [
        ("land_use", "plain", "Which land use the aerial picture shows.", _land, LAND),
        ("land_use_grey", "grey", "Which land use it is, without colour.", _land, LAND),
        ("roads", "blur", "Which plan the roads follow.", _network, NETWORKS),
        ("water", "lighting", "Which form the water has.", _river, WATERS),
        ("maze", "low_contrast", "Which kind of maze it is.", _maze, MAZES),
        ("contours", "noise", "Which landform the contour lines show.", _contours, RELIEFS),
        ("roads_hidden", "occlusion", "Which plan the partly covered roads follow.", _network, NETWORKS),
    ],
)
