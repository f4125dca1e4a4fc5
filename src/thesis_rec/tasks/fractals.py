"""Fractals: Julia sets, iterated function systems, branching trees, coastlines."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng

CONSTANTS = {
    "rabbit": (-0.122, 0.745),
    "dendrite": (0.0, 1.0),
    "san_marco": (-0.75, 0.05),
    "spiral": (-0.75, 0.2),
    "dust": (0.36, 0.36),
    "airplane": (-1.31, 0.0),
    "siegel": (-0.39, -0.587),
    "galaxies": (-0.81, 0.17),
    "flower": (0.28, 0.0),
}


def _escape(u: Array, v: Array, c: Array, steps: int, power: int = 2) -> Array:
    """Smooth escape time of z -> z^power + c, normalised."""
    z = (u + 1j * v).astype(np.complex64)
    count = np.zeros(z.shape, dtype=np.float32)
    for _ in range(steps):
        z = z**power + c if power != 2 else z * z + c
        magnitude = np.abs(z)
        inside = magnitude < 4
        count += inside
        z = np.where(inside, z, 8)
    return (count / steps) ** 0.6


def _julia(name: str, n: int, rng: Rng) -> Array:
    u, v, _ = canvas.frame(n, rng, (0.55, 0.8), 0.25)
    re, im = CONSTANTS[name]
    c = re + 1j * im + canvas.uniform(rng, -0.015, 0.015, n) + 1j * canvas.uniform(rng, -0.015, 0.015, n)
    return canvas.normalise(_escape(u, v, c.astype(np.complex64), 26))


def _power(power: int, n: int, rng: Rng) -> Array:
    u, v, _ = canvas.frame(n, rng, (0.6, 0.8), 0.15)
    angle, size = canvas.uniform(rng, 0, 2 * np.pi, n), canvas.uniform(rng, 0.5, 0.72, n)
    return canvas.normalise(_escape(u * 1.1, v * 1.1, (size * np.exp(1j * angle)).astype(np.complex64), 14, power))


#: Middle and half the width of parts of the Mandelbrot set.
PARTS = {
    "whole": (-0.6, 0.0, 1.35),
    "seahorses": (-0.745, 0.11, 0.06),
    "elephants": (0.29, 0.015, 0.05),
    "minibrot": (-1.755, 0.0, 0.06),
    "antenna": (-0.16, 1.035, 0.06),
    "second_bulb": (-1.25, 0.05, 0.18),
    "top_bulb": (0.0, 0.72, 0.22),
}


def _mandelbrot(part: tuple[float, float, float], n: int, rng: Rng) -> Array:
    re, im, width = part
    u, v, _ = canvas.frame(n, rng, (0.8, 1.25), 0.15)
    u, v = u * width + re, v * width + im
    z = np.zeros(u.shape, dtype=np.complex64)
    c = (u + 1j * v).astype(np.complex64)
    count = np.zeros(u.shape, dtype=np.float32)
    for _ in range(40):
        z = z * z + c
        inside = np.abs(z) < 4
        count += inside
        z = np.where(inside, z, 8)
        c = np.where(inside, c, 0)
    return canvas.normalise(np.log1p(count))


SYSTEMS: dict[str, list[tuple[float, float, float, float, float, float]]] = {
    "sierpinski": [(0.5, 0, 0, 0.5, 0, -0.5), (0.5, 0, 0, 0.5, -0.45, 0.4), (0.5, 0, 0, 0.5, 0.45, 0.4)],
    "carpet": [(1 / 3, 0, 0, 1 / 3, i * 0.6, j * 0.6) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j],
    "fern": [
        (0.85, 0.04, -0.04, 0.85, 0, -0.15),
        (0.2, -0.26, -0.23, 0.22, 0, 0.35),
        (-0.15, 0.28, -0.26, 0.24, 0, 0.4),
        (0.05, 0, 0, 0.3, 0, 0.6),
    ],
    "dragon": [(0.5, -0.5, 0.5, 0.5, -0.25, 0.15), (-0.5, -0.5, 0.5, -0.5, 0.25, 0.15)],
    "levy": [(0.5, -0.5, 0.5, 0.5, -0.4, 0.2), (0.5, 0.5, -0.5, 0.5, 0.4, 0.2)],
    "vicsek": [(1 / 3, 0, 0, 1 / 3, i, j) for i, j in ((0, 0), (0.6, 0), (-0.6, 0), (0, 0.6), (0, -0.6))],
    "pentaflake": [(0.38, 0, 0, 0.38, 0.58 * np.sin(a), -0.58 * np.cos(a)) for a in np.arange(5) * 2 * np.pi / 5],
    "snowflake": [(1 / 3, 0, 0, 1 / 3, 0.6 * np.sin(a), -0.6 * np.cos(a)) for a in np.arange(6) * np.pi / 3],
    "cantor_cross": [(0.42, 0, 0, 0.42, i, j) for i in (-0.52, 0.52) for j in (-0.52, 0.52)],
}


def _attractor(name: str, n: int, rng: Rng) -> Array:
    """Chaos game: walkers hop between the maps, hits are counted per pixel."""
    maps = np.array(SYSTEMS[name], dtype=np.float32)
    walkers, hops = 60, 22
    p = np.zeros((n, walkers, 2), dtype=np.float32)
    angle = rng.uniform(-np.pi, np.pi, (n, 1)) * (0.12 if name == "fern" else 1)
    size, shift = rng.uniform(0.75, 1.05, (n, 1)), rng.uniform(-0.15, 0.15, (n, 1, 2))
    wobble = rng.normal(0, 0.02, (n, len(maps), 6)).astype(np.float32)
    hits = np.zeros(n * canvas.SIZE**2)
    for hop in range(hops):
        pick = (
            rng.integers(0, len(maps), (n, walkers))
            if name != "fern"
            else rng.choice(4, (n, walkers), p=[0.7, 0.12, 0.12, 0.06])
        )
        m = maps[pick] + wobble[np.arange(n)[:, None], pick]
        p = np.stack(
            [
                m[..., 0] * p[..., 0] + m[..., 1] * p[..., 1] + m[..., 4],
                m[..., 2] * p[..., 0] + m[..., 3] * p[..., 1] + m[..., 5],
            ],
            -1,
        )
        if hop < 5:
            continue
        q = np.stack(canvas.rotate(p[..., 0], p[..., 1], angle), axis=-1) * size[..., None] + shift
        cell = np.floor((q + 1) * canvas.SIZE / 2).astype(np.int64)
        inside = ((cell >= 0) & (cell < canvas.SIZE)).all(-1)
        where = (np.arange(n)[:, None] * canvas.SIZE + cell[..., 1]) * canvas.SIZE + cell[..., 0]
        hits += np.bincount(where[inside], minlength=len(hits))
    return np.clip(canvas.blur(hits.reshape(n, canvas.SIZE, canvas.SIZE).astype(np.float32), 0.45) / 2.2, 0, 1)


def _tree(
    n: int, rng: Rng, spread: float, depth: int = 5, ratio: float = 0.74, children: int = 2, bend: float = 0.0
) -> Array:
    x, y = canvas.grid()
    lean = rng.normal(0, 0.08, n)
    nodes = [(rng.uniform(-0.15, 0.15, n), np.full(n, 0.92), lean, rng.uniform(0.48, 0.6, n))]
    best = np.full((n, canvas.SIZE, canvas.SIZE), 9.0, dtype=np.float32)
    for level in range(depth):
        grown = []
        for px, py, angle, length in nodes:
            qx, qy = px + np.sin(angle) * length, py - np.cos(angle) * length
            width = 0.055 * 0.72**level
            best = np.minimum(best, canvas.segment(x, y, *(canvas.column(a) for a in (px, py, qx, qy))) - width)
            for c in range(children):
                turn = (c / (children - 1) * 2 - 1) * spread + bend + rng.normal(0, 0.07, n)
                grown.append((qx, qy, angle + turn, length * ratio * rng.uniform(0.88, 1.08, n)))
        nodes = grown
    return canvas.cover(best)


def _coast(roughness: float, n: int, rng: Rng) -> Array:
    field = canvas.power_noise(n, rng, roughness)
    x, y = canvas.grid()
    angle = canvas.uniform(rng, 0, 2 * np.pi, n)
    return canvas.cover((field * 0.35 + np.cos(angle) * x + np.sin(angle) * y) * 0.25)


CURVES = ["koch", "quadratic_koch", "hilbert", "gosper_like", "peano_like", "terdragon", "crystal", "ring"]
RULES = {
    "koch": ("F--F--F", {"F": "F+F--F+F"}, 60, 3),
    "quadratic_koch": ("F+F+F+F", {"F": "F+F-F-F+F"}, 90, 2),
    "hilbert": ("A", {"A": "+BF-AFA-FB+", "B": "-AF+BFB+FA-"}, 90, 3),
    "gosper_like": ("F", {"F": "F-G--G+F++FF+G-", "G": "+F-GG--G-F++F+G"}, 60, 2),
    "peano_like": ("F", {"F": "F+F-F-F-F+F+F+F-F"}, 90, 2),
    "terdragon": ("F", {"F": "F+F-F"}, 120, 4),
    "crystal": ("F+F+F+F", {"F": "FF+F++F+F"}, 90, 2),
    "ring": ("F+F+F+F", {"F": "FF+F+F+F+F+F-F"}, 90, 1),
}


def _turtle(name: str) -> Array:
    """Walk an L-system's string (Prusinkiewicz and Lindenmayer 1990); (K, 2) points in -1..1."""
    word, rules, degrees, depth = RULES[name]
    for _ in range(depth):
        word = "".join(rules.get(symbol, symbol) for symbol in word)
    angle, points = 0.0, [(0.0, 0.0)]
    for symbol in word:
        if symbol in "FG":
            points.append((points[-1][0] + np.cos(angle), points[-1][1] + np.sin(angle)))
        elif symbol in "+-":
            angle += np.deg2rad(degrees) * (1 if symbol == "+" else -1)
    path = np.array(points)
    path -= (path.max(0) + path.min(0)) / 2
    return path / np.abs(path).max()


def _curve(name: str, n: int, rng: Rng) -> Array:
    u, v, size = canvas.frame(n, rng, (0.7, 0.9), 0.08, np.pi, 1.2)
    return canvas.cover(
        canvas.polyline(u, v, np.tile(_turtle(name), (1, 1, 1))) * size - canvas.uniform(rng, 0.02, 0.045, n)
    )


TASKS = family(
    "fractals",
    "structured",
    [
        ("julia", "lighting", "Which Julia set is shown.", _julia, list(CONSTANTS)),
        ("julia_power", "noise", "Which power the iteration has.", _power, named("power_{}", range(2, 7))),
        ("mandelbrot", "invert", "Which part of the Mandelbrot set is shown.", _mandelbrot, PARTS),
        ("attractor", "plain", "Which iterated function system it is.", _attractor, list(SYSTEMS)),
        (
            "tree_angle",
            "texture",
            "How wide the tree's branches spread.",
            lambda d, n, rng: _tree(n, rng, np.deg2rad(d)),
            named("{}_degrees", [12, 22, 32, 45, 60, 80]),
        ),
        (
            "tree_depth",
            "blur",
            "How often the tree branches.",
            lambda d, n, rng: _tree(n, rng, rng.uniform(0.35, 0.6), d),
            named("{}_times", range(2, 7)),
        ),
        (
            "tree_kind",
            "low_contrast",
            "Which way the tree branches.",
            lambda c, n, rng: _tree(n, rng, *c),
            {
                "forked": (0.5, 5, 0.72, 2, 0.0),
                "threefold": (0.6, 4, 0.72, 3, 0.0),
                "left_bent": (0.45, 5, 0.74, 2, -0.3),
                "right_bent": (0.45, 5, 0.74, 2, 0.3),
                "short_twigs": (0.5, 5, 0.5, 2, 0.0),
                "long_twigs": (0.5, 4, 0.95, 2, 0.0),
            },
        ),
        ("coast", "clutter", "How rough the coastline is.", _coast, named("slope_{}", (1.0, 1.4, 1.8, 2.2, 2.8))),
        ("curve", "grey", "Which recursive curve is drawn.", _curve, CURVES),
    ],
)
