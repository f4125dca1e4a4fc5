"""How many things are there."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.shapes import FIGURES


def _things(
    count: int,
    n: int,
    rng: Rng,
    figure: str = "disc",
    side: int = 4,
    jitter: float = 0.35,
    sizes: tuple[float, float] = (0.1, 0.17),
) -> Array:
    spots = canvas.scatter_cells(n, rng, count, side, jitter)
    x, y = canvas.grid()

    def one(k: int) -> Array:
        size = canvas.uniform(rng, *sizes, n)
        u, v = x - canvas.column(spots[:, k, 0]), y - canvas.column(spots[:, k, 1])
        u, v = canvas.rotate(u, v, canvas.uniform(rng, 0, 2 * np.pi, n))
        return FIGURES[figure](u / size, v / size) * size

    return canvas.cover(canvas.union(n, count, one))


def _bars(count: int, n: int, rng: Rng) -> Array:
    x, y = canvas.grid()
    x, y = canvas.rotate(x, y, canvas.uniform(rng, -0.25, 0.25, n) + np.pi / 2 * column_choice(n, rng, 2))
    pitch = canvas.uniform(rng, 1.3, 1.75, n) / max(count, 2)
    start = -pitch * (count - 1) / 2 + canvas.uniform(rng, -0.12, 0.12, n)
    width = pitch * canvas.uniform(rng, 0.14, 0.3, n)
    return canvas.cover(
        canvas.union(
            n,
            count,
            lambda k: canvas.box(
                x - start - k * pitch,
                y - canvas.uniform(rng, -0.15, 0.15, n),
                width,
                canvas.uniform(rng, 0.45, 0.75, n),
            ),
        )
    )


def column_choice(n: int, rng: Rng, options: int) -> Array:
    """Draw n integers below `options`, (n, 1, 1)."""
    return canvas.column(rng.integers(0, options, n))


def _among(count: int, n: int, rng: Rng, distractor: str = "square") -> Array:
    total = 9
    spots = canvas.scatter_cells(n, rng, total, 4, 0.3)
    x, y = canvas.grid()

    def one(k: int) -> Array:
        size = canvas.uniform(rng, 0.15, 0.2, n)
        u, v = (x - canvas.column(spots[:, k, 0])) / size, (y - canvas.column(spots[:, k, 1])) / size
        return FIGURES["disc" if k < count else distractor](u, v) * size

    return canvas.cover(canvas.union(n, total, one))


def _coloured(count: int, n: int, rng: Rng) -> Array:
    total = 8
    spots = canvas.scatter_cells(n, rng, total, 4, 0.35)
    x, y = canvas.grid()
    image: Array = np.broadcast_to(canvas.colours(n, rng, (0, 0.2), (0.0, 0.35)), (n, canvas.SIZE, canvas.SIZE, 3))
    for k in range(total):
        size = canvas.uniform(rng, 0.13, 0.2, n)
        mask = canvas.cover(canvas.disc(x - canvas.column(spots[:, k, 0]), y - canvas.column(spots[:, k, 1]), size))
        hue = canvas.uniform(rng, -0.04, 0.04, n) + (0.0 if k < count else canvas.uniform(rng, 0.25, 0.7, n))
        image = canvas.over(image, mask, canvas.colours(n, rng, (0.75, 1), (0.7, 1), hue=hue))
    return image


def _gaps(count: int, n: int, rng: Rng) -> Array:
    x, y = canvas.grid()
    u, v = x - canvas.uniform(rng, -0.15, 0.15, n), y - canvas.uniform(rng, -0.15, 0.15, n)
    angle = np.arctan2(v, u) + canvas.uniform(rng, 0, 2 * np.pi, n)
    radius = canvas.uniform(rng, 0.5, 0.75, n)
    ring = np.abs(np.hypot(u, v) - radius) - canvas.uniform(rng, 0.05, 0.11, n)
    sector = np.abs(np.mod(angle + np.pi / count, 2 * np.pi / count) - np.pi / count) * radius
    return canvas.cover(np.maximum(ring, 0.13 - sector))


TASKS = family(
    "counting",
    "structured",
    [
        ("dots", "plain", "How many dots there are.", _things, named("{}_dots", range(1, 10))),
        ("bars", "lighting", "How many bars there are.", _bars, named("{}_bars", range(1, 9))),
        (
            "stars",
            "texture",
            "How many stars lie on a texture.",
            lambda k, n, rng: _things(k, n, rng, "star", 3, 0.3, (0.22, 0.34)),
            named("{}_stars", range(1, 7)),
        ),
        (
            "mixed_sizes",
            "blur",
            "How many blobs of different sizes there are.",
            lambda k, n, rng: _things(k, n, rng, "disc", 3, 0.35, (0.08, 0.28)),
            named("{}_blobs", range(1, 8)),
        ),
        ("discs_among_squares", "grey", "How many discs are among squares.", _among, named("{}_discs", range(9))),
        ("red_among_colours", "lighting", "How many of eight dots are red.", _coloured, named("{}_red", range(8))),
        ("gaps", "noise", "How many gaps the ring has.", _gaps, named("{}_gaps", range(1, 9))),
        (
            "many",
            "clutter",
            "Roughly how many specks there are.",
            lambda k, n, rng: _things(k, n, rng, "disc", 7, 0.4, (0.06, 0.1)),
            named("about_{}", [4, 8, 14, 22, 32, 45]),
        ),
    ],
)
