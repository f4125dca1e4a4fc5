"""Leaves, crowns, lawns and blossoms: stains, seasons and kinds, told by colour and where it lies."""

import numpy as np

from thesis_rec.tasks import canvas, tints
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.tints import Tint


def _leaf(n: int, rng: Rng) -> tuple[Array, Array, Array, Array]:
    """Coordinates along and across a leaf, its coverage, and the coverage of its veins, each (n, 32, 32)."""
    u, v, size = canvas.frame(n, rng, (0.7, 0.95), 0.12)
    width = canvas.uniform(rng, 0.45, 0.65, n)
    outline = np.abs(v) - width * np.cos(np.clip(u, -1, 1) * np.pi / 2) ** 0.8
    across = v / np.maximum(width * np.cos(np.clip(u, -1, 1) * np.pi / 2), 0.05)
    side = np.abs(np.mod((u - np.abs(v) * 0.8) * 3.2, 1) - 0.5) - 0.1
    veins = np.minimum(np.abs(v) - 0.035, side * 0.25)
    return u, across, canvas.cover(np.maximum(outline, np.abs(u) - 1) * size), canvas.cover(veins * size)


def _greens(n: int, rng: Rng) -> Array:
    return canvas.colours(n, rng, (0.4, 0.8), (0.35, 0.7), hue=(0.22, 0.38))


STAINS: dict[str, Tint] = {
    "yellow": (0.15, 0.75, 0.85),
    "brown": (0.07, 0.6, 0.35),
    "black": (0.7, 0.2, 0.1),
    "white": (0.2, 0.04, 0.92),
    "rust": (0.05, 0.85, 0.75),
    "purple": (0.82, 0.5, 0.4),
}


def _spots(n: int, rng: Rng, threshold: Array) -> Array:
    """Coverage of irregular spots; a higher threshold leaves fewer of them."""
    return canvas.cover((threshold - canvas.smooth_noise(n, rng, 4.5)) * 0.12)


def _stain(name: str, n: int, rng: Rng) -> Array:
    _, _, leaf, veins = _leaf(n, rng)
    green = _greens(n, rng)
    blade = canvas.over(np.broadcast_to(green, (n, 32, 32, 3)), veins * 0.5, green * 1.35)
    blade = canvas.over(blade, _spots(n, rng, canvas.uniform(rng, 0.5, 1.1, n)), tints.shade(STAINS[name], n, rng))
    return tints.lit(canvas.over(tints.backdrop(n, rng), leaf, np.clip(blade, 0, 1)), rng)


def _extent(k: int, n: int, rng: Rng) -> Array:
    """Of a leaf's four parts, k are withered, in patches."""
    _, _, leaf, veins = _leaf(n, rng)
    field = canvas.smooth_noise(n, rng, 3)
    # The share of the leaf is set by its own quantile, whatever the patches look like.
    inside = np.where(leaf > 0.5, field, np.nan).reshape(n, -1)
    share = np.clip((k + rng.uniform(-0.35, 0.35, n)) / 4, 0, 1)
    level = np.array([np.nanquantile(row, 1 - s) for row, s in zip(inside, share, strict=True)])
    withered = canvas.cover((canvas.column(level) - field) * 0.12) * (canvas.column(share) > 0.02)
    dry = canvas.colours(n, rng, (0.4, 0.7), (0.4, 0.75), hue=(0.06, 0.13))
    blade = canvas.over(np.broadcast_to(_greens(n, rng), (n, 32, 32, 3)), withered, dry)
    blade = canvas.over(blade, veins * 0.4, dry * 0.7)
    return tints.lit(canvas.over(tints.backdrop(n, rng), leaf, blade), rng)


CROWNS: dict[str, Tint] = {
    "summer": (0.3, 0.65, 0.45),
    "yellow": (0.14, 0.75, 0.8),
    "orange": (0.07, 0.8, 0.8),
    "red": (0.0, 0.8, 0.6),
    "brown": (0.07, 0.5, 0.4),
    "blossom": (0.93, 0.35, 0.9),
}


def _crown(name: str, n: int, rng: Rng) -> Array:
    """Trees of one colour on a meadow, before a sky."""
    x, y = canvas.grid()
    sky = canvas.colours(n, rng, (0.0, 0.6), (0.5, 0.95), hue=(0.52, 0.66))
    meadow = canvas.colours(n, rng, (0.2, 0.7), (0.3, 0.7), hue=(0.12, 0.34))
    horizon = canvas.uniform(rng, 0.2, 0.6, n)
    image = np.where((y > horizon)[..., None], meadow, np.broadcast_to(sky, (n, 32, 32, 3)))
    for _ in range(3):
        cx, r = canvas.uniform(rng, -0.85, 0.85, n), canvas.uniform(rng, 0.25, 0.45, n)
        cy = horizon - r * canvas.uniform(rng, 0.9, 1.4, n)
        trunk = canvas.cover(canvas.box(x - cx, y - (cy + horizon + 0.1) / 2, 0.05, (horizon - cy + 0.1) / 2))
        image = canvas.over(image, trunk, tints.shade((0.06, 0.4, 0.25), n, rng))
        edge = np.hypot(x - cx, y - cy) - r * (1 + 0.15 * canvas.smooth_noise(n, rng, 5))
        leaves = tints.grained(tints.shade(CROWNS[name], n, rng, 1.3), n, rng, 0.25, 0.4)
        image = canvas.over(image, canvas.cover(edge), leaves)
    return tints.lit(image, rng)


BLOSSOMS = ["white", "yellow", "orange", "red", "pink", "violet", "blue"]


def _blossom(name: str, n: int, rng: Rng) -> Array:
    """Blossoms of one colour among leaves, some of another among them."""
    x, y = canvas.grid()
    image = tints.grained(_greens(n, rng), n, rng, 0.3, 0.5)
    places = canvas.scatter_cells(n, rng, 7, 4, 0.6)
    (stray,) = tints.others(name, BLOSSOMS, 1, n, rng)
    for k in range(7):
        r = canvas.uniform(rng, 0.1, 0.2, n)
        u, v = (x - canvas.column(places[:, k, 0])) / r, (y - canvas.column(places[:, k, 1])) / r
        petals = np.hypot(u, v) - 0.75 - 0.3 * np.cos(5 * np.arctan2(v, u) + canvas.uniform(rng, 0, 6.3, n))
        image = canvas.over(image, canvas.cover(petals * r), stray if k < 2 else tints.tint(name, n, rng))
        image = canvas.over(image, canvas.cover(canvas.disc(u, v, 0.25) * r), tints.tint("amber", n, rng))
    return tints.lit(image, rng)


PATTERNS = ["even", "margin", "veins", "between_veins", "tip", "half"]


def _pattern(name: str, n: int, rng: Rng) -> Array:
    """Where a leaf is yellow."""
    u, across, leaf, veins = _leaf(n, rng)
    soft = 0.1 * canvas.smooth_noise(n, rng, 4)
    pale = {
        "even": lambda: np.full((n, 32, 32), 0.8, dtype=np.float32) + soft,
        "margin": lambda: canvas.smoothstep((np.maximum(np.abs(across), np.abs(u)) - 0.65 + soft) * 5),
        "veins": lambda: veins,
        "between_veins": lambda: 1 - veins,
        "tip": lambda: canvas.smoothstep((u - 0.1 + soft) * 3),
        "half": lambda: canvas.smoothstep(0.5 + (across + soft) * 3),
    }[name]()
    yellow = canvas.colours(n, rng, (0.5, 0.8), (0.7, 0.95), hue=(0.13, 0.18))
    blade = canvas.over(np.broadcast_to(_greens(n, rng), (n, 32, 32, 3)), np.clip(pale, 0, 1), yellow)
    return tints.lit(canvas.over(tints.backdrop(n, rng), leaf, blade), rng)


LAWNS: dict[str, Tint] = {
    "fresh": (0.26, 0.75, 0.75),
    "dark": (0.34, 0.7, 0.35),
    "blue_green": (0.44, 0.45, 0.5),
    "grey_green": (0.28, 0.22, 0.5),
    "yellow_green": (0.19, 0.65, 0.75),
    "straw": (0.12, 0.45, 0.8),
    "burnt": (0.07, 0.45, 0.4),
}


def _lawn(name: str, n: int, rng: Rng) -> Array:
    """Blades of grass of one colour, with bare earth in between."""
    fx, fy = canvas.frequencies()
    blades = canvas.filtered_noise(n, rng, np.exp(-(fx**2) / 120 - fy**2 / canvas.uniform(rng, 8, 40, n)))
    grass = np.clip(tints.shade(LAWNS[name], n, rng) * (1 + 0.28 * blades)[..., None], 0, 1)
    earth = canvas.colours(n, rng, (0.05, 0.5), (0.15, 0.6))
    bare = canvas.cover(0.1 * (canvas.smooth_noise(n, rng, 2.5) + canvas.uniform(rng, 0.0, 1.3, n)))
    return tints.lit(canvas.over(grass, bare, earth), rng)


TASKS = family(
    "foliage",
    "natural",
    [
        ("stain", "occlusion", "Which colour a leaf's spots have.", _stain, list(STAINS)),
        ("extent", "low_contrast", "How much of a leaf has withered.", _extent, named("quarters_{}", range(5))),
        ("crown", "lighting", "Which colour the trees have.", _crown, list(CROWNS)),
        ("blossom", "blur", "Which colour most blossoms have.", _blossom, BLOSSOMS),
        ("pattern", "clutter", "Where a leaf is yellow.", _pattern, PATTERNS),
        ("lawn", "noise", "Which green the grass has.", _lawn, list(LAWNS)),
    ],
)
