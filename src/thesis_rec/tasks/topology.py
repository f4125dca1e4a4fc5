"""Curves and blobs: holes, parts, crossings, open or closed, inside or outside."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng


def _wobbly(n: int, rng: Rng, points: int, radius: float = 0.7, wobble: float = 0.22, span: float = 1.0) -> Array:
    """Star-shaped closed (span 1) or open curves, (n, points, 2)."""
    t = np.linspace(0, 2 * np.pi * span, points)[None]
    t = t + rng.uniform(0, 2 * np.pi, (n, 1))
    r = radius * (1 + sum(wobble / k * np.cos(k * t + rng.uniform(0, 2 * np.pi, (n, 1))) for k in (2, 3, 4)))
    return np.stack([r * np.cos(t), r * np.sin(t)], -1)


def _line(
    n: int,
    rng: Rng,
    points: Array,
    pen: tuple[float, float] = (0.045, 0.085),
    scale: tuple[float, float] = (0.85, 1.05),
) -> Array:
    u, v, size = canvas.frame(n, rng, scale, 0.12)
    return canvas.cover(canvas.polyline(u, v, points) * size - canvas.uniform(rng, *pen, n))


def _holes(k: int, n: int, rng: Rng) -> Array:
    u, v, size = canvas.frame(n, rng, (0.85, 1.0), 0.08)
    angle = np.arctan2(v, u)
    edge = 0.85 * (
        1
        + 0.08 * np.cos(2 * angle + canvas.uniform(rng, 0, 6, n))
        + 0.06 * np.cos(3 * angle + canvas.uniform(rng, 0, 6, n))
    )
    body = np.hypot(u, v) - edge
    if k:
        spots = canvas.scatter_cells(n, rng, k, 3, 0.3) * 0.68
        holes = canvas.discs(u, v, spots, lambda: canvas.uniform(rng, 0.1, 0.17, n))
        body = np.maximum(body, -holes)
    return canvas.cover(body * size)


def _parts(k: int, n: int, rng: Rng) -> Array:
    """K blobs, each a short thick worm."""
    x, y = canvas.grid()
    spots = canvas.scatter_cells(n, rng, k, 3, 0.2)

    def one(i: int) -> Array:
        cx, cy, a = canvas.column(spots[:, i, 0]), canvas.column(spots[:, i, 1]), canvas.uniform(rng, 0, np.pi, n)
        dx, dy = np.cos(a) * 0.17, np.sin(a) * 0.17
        return canvas.segment(x, y, cx - dx, cy - dy, cx + dx, cy + dy) - canvas.uniform(rng, 0.05, 0.11, n)

    return canvas.cover(canvas.union(n, k, one))


def _crossings(k: int, n: int, rng: Rng) -> Array:
    """Lissajous-like closed curves: a rose with k + 1 lobes winds around itself."""
    t = np.linspace(0, 2 * np.pi, 48)[None] + rng.uniform(0, 0.1, (n, 1))
    if k == 0:
        points = _wobbly(n, rng, 30)
    else:
        # A circle that carries a small circle: k inner loops.
        r = rng.uniform(0.45, 0.55, (n, 1))
        s = rng.uniform(0.3, 0.4, (n, 1))
        points = np.stack([r * np.cos(t) + s * np.cos((k + 1) * t), r * np.sin(t) + s * np.sin((k + 1) * t)], -1)
    return _line(n, rng, points, (0.03, 0.055))


def _closed(kind: str, n: int, rng: Rng) -> Array:
    if kind == "two_closed":
        inner = _line(n, rng, _wobbly(n, rng, 22, 0.3), scale=(0.9, 1.0))
        return np.maximum(inner, _line(n, rng, _wobbly(n, rng, 28, 0.8, 0.1), scale=(0.95, 1.0)))
    if kind == "spiral":
        t = np.linspace(0, 1, 30)[None]
        a = t * rng.uniform(8, 11, (n, 1)) * rng.choice([-1, 1], (n, 1)) + rng.uniform(0, 6, (n, 1))
        return _line(n, rng, np.stack([(0.12 + 0.75 * t) * np.cos(a), (0.12 + 0.75 * t) * np.sin(a)], -1))
    if kind == "wave":
        t = np.linspace(-0.9, 0.9, 28)[None]
        return _line(
            n,
            rng,
            np.stack(
                [np.broadcast_to(t, (n, 28)), 0.35 * np.sin(t * rng.uniform(4, 7, (n, 1)) + rng.uniform(0, 6, (n, 1)))],
                -1,
            ),
        )
    span = {"closed": 1.0, "small_gap": 0.88, "large_gap": 0.68, "arc": 0.4}[kind]
    return _line(n, rng, _wobbly(n, rng, 30, 0.72, 0.15, span))


def _inside(kind: str, n: int, rng: Rng) -> Array:
    """A dot inside, outside or on a wobbly closed curve."""
    points = _wobbly(n, rng, 36, 0.62, 0.3)
    which = rng.integers(0, 36, n)
    on = points[np.arange(n), which]
    reach = (
        {"inside": 0.45, "on": 1.0, "outside": 1.55}[kind] * rng.uniform(0.92, 1.08, (n, 1))
        if kind != "inside"
        else rng.uniform(0.0, 0.6, (n, 1))
    )
    dot = on * reach
    x, y = canvas.grid()
    curve = canvas.polyline(x, y, points) - canvas.uniform(rng, 0.03, 0.06, n)
    return canvas.cover(
        np.minimum(curve, canvas.disc(x - canvas.column(dot[:, 0]), y - canvas.column(dot[:, 1]), 0.13))
    )


def _petals(k: int, n: int, rng: Rng) -> Array:
    t = np.linspace(0, 2 * np.pi, 18 * k if k > 3 else 48)[None]
    r = 0.9 * np.abs(np.cos(k * t / 2)) ** rng.uniform(0.7, 1.3, (n, 1))
    return _line(n, rng, np.stack([r * np.cos(t), r * np.sin(t)], -1), (0.03, 0.05))


def _links(kind: str, n: int, rng: Rng) -> Array:
    u, v, size = canvas.frame(n, rng, (0.75, 0.95), 0.12)
    gap = {"apart": 1.0, "touching": 0.78, "linked": 0.45, "nested": 0.12, "three_apart": 0.95, "three_linked": 0.5}[
        kind
    ]
    r = canvas.uniform(rng, 0.36, 0.4, n)
    if kind.startswith("three"):
        spots = [(gap * 0.62 * np.cos(a), gap * 0.62 * np.sin(a)) for a in (0.0, 2.1, 4.2)]
        r = r * 0.85
    else:
        spots = [(-gap * 0.5, 0.0), (gap * 0.5, 0.0)]
    d = np.full(u.shape, 9.0, dtype=np.float32)
    for i, (cx, cy) in enumerate(spots):
        radius = r * (1.75 if kind == "nested" and i == 0 else 1.0) * (0.7 if kind == "nested" and i == 1 else 1.0)
        d = np.minimum(d, np.abs(canvas.disc(u - cx, v - cy, radius)))
    return canvas.cover(d * size - canvas.uniform(rng, 0.025, 0.05, n))


def _branches(k: int, n: int, rng: Rng) -> Array:
    """A node with k arms."""
    u, v, size = canvas.frame(n, rng, (0.8, 1.0), 0.2)
    zero = np.zeros((n, 1, 1), dtype=np.float32)

    def arm(i: int) -> Array:
        a = i * 2 * np.pi / k + canvas.uniform(rng, -0.6, 0.6, n) / k
        r = canvas.uniform(rng, 0.65, 0.95, n)
        return canvas.segment(u, v, zero, zero, np.cos(a) * r, np.sin(a) * r)

    return canvas.cover(canvas.union(n, k, arm) * size - canvas.uniform(rng, 0.04, 0.08, n))


OPEN = ["closed", "small_gap", "large_gap", "arc", "spiral", "wave", "two_closed"]
LINKS = ["apart", "touching", "linked", "nested", "three_apart", "three_linked"]
TASKS = family(
    "topology",
    "structured",
    [
        ("holes", "plain", "How many holes the blob has.", _holes, named("{}_holes", range(6))),
        ("holes_noisy", "noise", "How many holes the blob has, under noise.", _holes, named("{}_holes", range(6))),
        ("parts", "texture", "Of how many parts the figure is.", _parts, named("{}_parts", range(1, 7))),
        ("loops", "grey", "How many inner loops the curve makes.", _crossings, named("{}_loops", range(6))),
        ("closed", "clutter", "Whether and how the curve closes.", _closed, OPEN),
        ("inside", "lighting", "Whether the dot lies inside the curve.", _inside, ["inside", "on", "outside"]),
        ("petals", "blur", "How many petals the rose has.", _petals, named("{}_petals", range(2, 8))),
        ("links", "low_contrast", "How the rings hang together.", _links, LINKS),
        ("branches", "occlusion", "How many arms meet.", _branches, named("{}_arms", range(2, 8))),
    ],
)
