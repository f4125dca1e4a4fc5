"""How two things relate: above, inside, touching, bigger, same, aligned."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.shapes import FIGURES

NAMES = ["disc", "square", "triangle", "star", "cross", "heart"]


def _at(name: str, cx: Array, cy: Array, size: Array, angle: Array | float = 0.0) -> Array:
    x, y = canvas.grid()
    u, v = canvas.rotate((x - cx) / size, (y - cy) / size, angle)
    return FIGURES[name](u, v) * size


def _random_at(n: int, rng: Rng, cx: Array, cy: Array, size: Array) -> Array:
    pick = canvas.column(rng.integers(0, len(NAMES), n))
    return np.select([pick == k for k in range(len(NAMES))], [_at(name, cx, cy, size) for name in NAMES])


def _above(kind: str, n: int, rng: Rng) -> Array:
    """Where the disc lies as seen from the square."""
    angle = {"right": 0.0, "below": 0.5, "left": 1.0, "above": 1.5}[kind] * np.pi + canvas.uniform(rng, -0.55, 0.55, n)
    half = canvas.uniform(rng, 0.28, 0.42, n)
    mx, my = canvas.uniform(rng, -0.3, 0.3, n), canvas.uniform(rng, -0.3, 0.3, n)
    dx, dy = np.cos(angle) * half, np.sin(angle) * half
    size = canvas.uniform(rng, 0.17, 0.26, n)
    return canvas.cover(np.minimum(_at("disc", mx + dx, my + dy, size), _at("square", mx - dx, my - dy, size)))


CONTACTS = ["apart", "touching", "overlapping", "inside", "at_rim"]


def _contact(kind: str, n: int, rng: Rng) -> Array:
    large, small = canvas.uniform(rng, 0.42, 0.52, n), canvas.uniform(rng, 0.17, 0.24, n)
    reach = {
        "apart": large + small + canvas.uniform(rng, 0.12, 0.25, n),
        "touching": large + small - 0.02,
        "overlapping": large,
        "inside": canvas.uniform(rng, 0, 0.1, n),
        "at_rim": large - small,
    }[kind]
    angle = canvas.uniform(rng, 0, 2 * np.pi, n)
    cx, cy = -np.cos(angle) * reach * 0.45, -np.sin(angle) * reach * 0.45
    ring = np.abs(_at("disc", cx, cy, large / 0.85)) - 0.045
    return canvas.cover(
        np.minimum(
            ring, np.abs(_at("disc", cx + np.cos(angle) * reach, cy + np.sin(angle) * reach, small / 0.85)) - 0.045
        )
    )


def _bigger(times: float, n: int, rng: Rng) -> Array:
    """Size of the left figure against the right."""
    ratio = times * np.exp(canvas.uniform(rng, -0.06, 0.06, n))
    base = canvas.uniform(rng, 0.24, 0.3, n)
    tilt = canvas.uniform(rng, 0, 6.3, n)
    pick = canvas.column(rng.integers(0, len(NAMES), n))
    y1, y2 = canvas.uniform(rng, -0.35, 0.35, n), canvas.uniform(rng, -0.35, 0.35, n)
    sides = []
    for cx, cy, size in ((-0.48, y1, base * np.sqrt(ratio)), (0.48, y2, base / np.sqrt(ratio))):
        drawn = [_at(name, canvas.column(np.full(n, cx)), cy, size, tilt) for name in NAMES]
        sides.append(np.select([pick == i for i in range(len(NAMES))], drawn))
    return canvas.cover(np.minimum(*sides))


SAMES = ["same", "turned", "mirrored", "other"]


def _same(kind: str, n: int, rng: Rng) -> Array:
    """Two random blobs: same, turned by a quarter, mirrored, or different."""
    first, second = (canvas.smooth_noise(n, rng, 3.2, 24) for _ in range(2))
    axis = (np.arange(24) - 11.5) / 12
    falloff = np.hypot(axis[None, :], axis[:, None])[None] ** 2 * 2.2 - 0.9
    first, second = first - falloff, second - falloff
    if kind == "same":
        second = first
    elif kind == "turned":
        second = np.rot90(first, 1, axes=(1, 2))
    elif kind == "mirrored":
        second = first[:, :, ::-1]
    x, y = canvas.grid()
    both = np.zeros((n, canvas.SIZE, canvas.SIZE), dtype=np.float32)
    for field, side in ((first, -0.5), (second, 0.5)):
        cy = canvas.uniform(rng, -0.3, 0.3, n)
        both = both + canvas.sample(
            canvas.smoothstep(field * 1.5 + 0.5), (x - side) * 2.1 + 0 * y + 0 * cy, (y - cy) * 2.1 + 0 * x
        )
    return np.clip(both, 0, 1)


def _between(kind: str, n: int, rng: Rng) -> Array:
    """Which of three in a row is the star."""
    angle = canvas.uniform(rng, -0.35, 0.35, n)
    far = canvas.uniform(rng, 0.5, 0.6, n)
    size = canvas.uniform(rng, 0.17, 0.22, n)
    d = np.full((n, canvas.SIZE, canvas.SIZE), 9.0, dtype=np.float32)
    cy = canvas.uniform(rng, -0.3, 0.3, n)
    for i, place in enumerate(("left", "middle", "right")):
        cx = (i - 1) * far
        d = np.minimum(
            d,
            _at(
                "star" if place == kind else "disc",
                np.cos(angle) * cx,
                cy + np.sin(angle) * cx,
                size * (1.35 if place == kind else 1),
            ),
        )
    return canvas.cover(d)


ALIGNMENTS = ["row", "column", "falling", "rising", "triangle", "scattered"]


def _aligned(kind: str, n: int, rng: Rng) -> Array:
    """How four dots are arranged."""
    t = np.array([-0.6, -0.2, 0.2, 0.6])[None, :, None]
    line = {"row": (1, 0), "column": (0, 1), "falling": (0.8, 0.8), "rising": (0.8, -0.8)}
    if kind in line:
        spots = t * np.array(line[kind])[None, None] + rng.uniform(-0.2, 0.2, (n, 1, 2))
    elif kind == "triangle":
        a = rng.uniform(0, 6.3, (n, 1)) + np.array([[0, 2.1, 4.2]])
        spots = np.concatenate([0.55 * np.stack([np.cos(a), np.sin(a)], -1), np.zeros((n, 1, 2))], 1) + rng.uniform(
            -0.15, 0.15, (n, 1, 2)
        )
    else:
        spots = canvas.scatter_cells(n, rng, 4, 3, 0.6)
    spots = spots + rng.normal(0, 0.035, (n, 4, 2))
    return canvas.cover(
        canvas.union(
            n,
            4,
            lambda i: _random_at(
                n, rng, canvas.column(spots[:, i, 0]), canvas.column(spots[:, i, 1]), canvas.uniform(rng, 0.12, 0.17, n)
            ),
        )
    )


FRONTS = [
    "disc_before_square",
    "square_before_disc",
    "star_before_disc",
    "disc_before_star",
    "square_before_star",
    "star_before_square",
]


def _front(kind: str, n: int, rng: Rng) -> Array:
    """Which of two overlapping figures lies in front."""
    front, behind = kind.split("_before_")
    angle, half = canvas.uniform(rng, 0, 2 * np.pi, n), canvas.uniform(rng, 0.18, 0.26, n)
    size = canvas.uniform(rng, 0.42, 0.52, n)
    dx, dy, tilt = np.cos(angle) * half, np.sin(angle) * half, canvas.uniform(rng, -0.5, 0.5, n)
    image: Array = np.broadcast_to(canvas.colours(n, rng), (n, canvas.SIZE, canvas.SIZE, 3))
    for name, sign in ((behind, -1), (front, 1)):
        scale = size * (1.25 if name == "star" else 1)
        d = _at(name, sign * dx, sign * dy, scale, tilt)
        image = canvas.over(image, canvas.cover(d), canvas.colours(n, rng))
        image = canvas.over(image, canvas.cover(np.abs(d) - 0.03), canvas.colours(n, rng, (0, 0.2), (0, 0.2)))
    return image


TASKS = family(
    "relation",
    "structured",
    [
        ("side", "texture", "On which side of the square the disc lies.", _above, ["right", "below", "left", "above"]),
        ("contact", "noise", "How two circles touch.", _contact, CONTACTS),
        (
            "bigger",
            "lighting",
            "How the left figure's size compares.",
            _bigger,
            {"half": 0.5, "smaller": 0.75, "equal": 1.0, "larger": 1.33, "double": 2.0},
        ),
        ("same", "plain", "Whether two blobs are the same.", _same, SAMES),
        ("between", "clutter", "Which of three is the star.", _between, ["left", "middle", "right"]),
        ("aligned", "blur", "How four figures are arranged.", _aligned, ALIGNMENTS),
        ("front", "low_contrast", "Which figure lies in front of which.", _front, FRONTS),
    ],
)
