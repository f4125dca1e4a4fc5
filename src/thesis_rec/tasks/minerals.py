"""Rocks, soils and rusting metal: the colours of rough surfaces and how they are mixed."""

from collections.abc import Sequence

import numpy as np

from thesis_rec.tasks import canvas, tints
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.tints import Tint


def _rock(n: int, rng: Rng) -> Array:
    """Rough stone of any subdued colour, (n, 32, 32, 3)."""
    base = canvas.colours(n, rng, (0.0, 0.3), (0.25, 0.8))
    grains = 0.08 * np.stack([canvas.power_noise(n, rng, 0.3) for _ in range(3)], axis=-1)
    relief = 1 + 0.22 * canvas.power_noise(n, rng, canvas.uniform(rng, 0.8, 1.6, n))
    return np.clip((base + grains) * relief[..., None], 0, 1)


SOILS: dict[str, Tint] = {
    "black": (0.07, 0.3, 0.18),
    "grey": (0.1, 0.1, 0.5),
    "pale": (0.11, 0.18, 0.85),
    "brown": (0.07, 0.5, 0.4),
    "red": (0.02, 0.65, 0.5),
    "yellow": (0.12, 0.6, 0.7),
    "olive": (0.18, 0.4, 0.45),
}


def _soil(name: str, n: int, rng: Rng) -> Array:
    """Crumbs of one soil, with stones and roots of other colours in it."""
    crumbs = canvas.power_noise(n, rng, canvas.uniform(rng, 0.2, 0.9, n))
    image = np.clip(tints.shade(SOILS[name], n, rng, 0.9) * (1 + 0.3 * np.tanh(crumbs))[..., None], 0, 1)
    stones = canvas.cover(0.1 * (canvas.smooth_noise(n, rng, 4) + canvas.uniform(rng, 0.8, 1.8, n)))
    image = canvas.over(image, stones, canvas.colours(n, rng, (0.0, 0.5), (0.2, 0.9)))
    roots = canvas.cover(np.abs(canvas.smooth_noise(n, rng, 3)) * 0.3 - 0.02)
    return tints.lit(canvas.over(image, roots * 0.7, canvas.hsv(canvas.uniform(rng, 0.05, 0.3, n), 0.4, 0.6)), rng)


GRAINS = ["red", "orange", "yellow", "green", "teal", "blue", "violet"]


def _grains(name: str, n: int, rng: Rng) -> Array:
    """Grains of one colour are sprinkled over a rock, among black and white ones."""
    image = _rock(n, rng)
    spots = canvas.smooth_noise(n, rng, canvas.uniform(rng, 6, 9, n))
    dark = canvas.smooth_noise(n, rng, 8)
    image = canvas.over(image, canvas.cover((1.3 - dark) * 0.1), tints.tint("black", n, rng))
    image = canvas.over(image, canvas.cover((1.5 + dark) * 0.1), tints.tint("white", n, rng))
    level = canvas.uniform(rng, 0.9, 1.5, n)
    return tints.lit(canvas.over(image, canvas.cover((level - spots) * 0.1), tints.tint(name, n, rng)), rng)


def _share(k: int, n: int, rng: Rng) -> Array:
    """A granite of two minerals, of which the rosy one takes k of 6 parts."""
    field = canvas.smooth_noise(n, rng, canvas.uniform(rng, 4, 8, n))
    share = np.clip((k + 0.5 + rng.uniform(-0.4, 0.4, n)) / 6, 0.02, 0.98)
    level = np.array([np.quantile(f, 1 - s) for f, s in zip(field, share, strict=True)])
    rosy = tints.grained(tints.shade((0.02, 0.4, 0.75), n, rng, 1.3), n, rng, 0.15, 0.3)
    pale = tints.grained(
        canvas.hsv(canvas.uniform(rng, 0.1, 0.6, n), 0.1, canvas.uniform(rng, 0.4, 0.9, n)), n, rng, 0.15, 0.3
    )
    image = canvas.over(pale, canvas.cover((canvas.column(level) - field) * 0.1), rosy)
    mica = canvas.cover((1.5 - canvas.smooth_noise(n, rng, 8)) * 0.1)
    return tints.lit(canvas.over(image, mica, tints.tint("black", n, rng)), rng)


VEINS: dict[str, Tint] = {
    "gold": (0.13, 0.75, 0.85),
    "copper": (0.05, 0.65, 0.75),
    "malachite": (0.42, 0.65, 0.55),
    "azurite": (0.61, 0.75, 0.6),
    "quartz": (0.1, 0.04, 0.95),
    "cinnabar": (0.99, 0.8, 0.65),
    "amethyst": (0.77, 0.45, 0.65),
}


def _vein(name: str, n: int, rng: Rng) -> Array:
    """A vein of one mineral runs through the rock."""
    x, y = canvas.grid()
    a = canvas.uniform(rng, 0, np.pi, n)
    path = np.cos(a) * x + np.sin(a) * y + 0.22 * canvas.smooth_noise(n, rng, 2) - canvas.uniform(rng, -0.3, 0.3, n)
    vein = canvas.cover(np.abs(path) - canvas.uniform(rng, 0.1, 0.22, n), 1.5)
    mineral = tints.grained(tints.shade(VEINS[name], n, rng), n, rng, 0.15, 0.3)
    return tints.lit(canvas.over(_rock(n, rng), vein, mineral), rng)


COATS: dict[str, Tint] = {
    "rust": (0.05, 0.75, 0.6),
    "verdigris": (0.45, 0.45, 0.65),
    "soot": (0.1, 0.1, 0.1),
    "zinc": (0.1, 0.03, 0.92),
    "sulphur": (0.16, 0.7, 0.85),
    "minium": (0.02, 0.85, 0.85),
}


def _coat(name: str, n: int, rng: Rng) -> Array:
    """Something grows over brushed metal of any tint, from the seams on."""
    fx, fy = canvas.frequencies()
    brushed = canvas.filtered_noise(n, rng, np.exp(-(fx**2) / 4 - fy**2 / 150))
    metal = canvas.colours(n, rng, (0.0, 0.45), (0.35, 0.8)) * (1 + 0.12 * brushed)[..., None]
    x, y = canvas.grid()
    seam = np.abs(np.where(rng.random((n, 1, 1)) < 0.5, x, y) - canvas.uniform(rng, -0.6, 0.6, n))
    growth = canvas.cover((seam - canvas.uniform(rng, 0.1, 0.5, n) + 0.25 * canvas.smooth_noise(n, rng, 4)) * 0.5, 2)
    coat = tints.grained(tints.shade(COATS[name], n, rng), n, rng, 0.2, 0.3)
    image = canvas.over(np.clip(metal, 0, 1), growth, coat)
    return tints.lit(canvas.over(image, canvas.cover(seam - 0.03), tints.tint("black", n, rng)), rng)


AGATES: list[tuple[str, str, str]] = [
    ("brown", "white", "orange"),
    ("blue", "white", "grey"),
    ("red", "white", "black"),
    ("green", "white", "lime"),
    ("violet", "white", "pink"),
    ("black", "white", "grey"),
    ("orange", "yellow", "brown"),
]


def _agate(names: Sequence[str], n: int, rng: Rng) -> Array:
    """Wavy layers of three colours around a hollow."""
    u, v, _ = canvas.frame(n, rng, (0.6, 1.0), 0.6)
    depth = np.hypot(u, v) * canvas.uniform(rng, 2.5, 5, n) + 0.35 * canvas.smooth_noise(n, rng, 2.5)
    layer = np.mod(np.floor(depth), 3)
    shades = [tints.tint(name, n, rng) for name in names]
    image = np.select([(layer == 0)[..., None], (layer == 1)[..., None]], shades[:2], shades[2])
    outside = canvas.cover(0.12 * (canvas.smooth_noise(n, rng, 1.5) + canvas.uniform(rng, 0.7, 1.5, n)))
    return tints.lit(canvas.over(tints.grained(image, n, rng, 0.08), outside, _rock(n, rng)), rng)


TASKS = family(
    "minerals",
    "natural",
    [
        ("soil", "lighting", "Which soil it is, told by its colour.", _soil, list(SOILS)),
        ("grains", "blur", "Which colour the grains in the rock have.", _grains, GRAINS),
        ("share", "noise", "How much of the rock is rosy.", _share, named("sixths_{}", range(6))),
        ("vein", "occlusion", "Which mineral fills the vein.", _vein, list(VEINS)),
        ("coat", "low_contrast", "What grows over the metal.", _coat, list(COATS)),
        ("agate", "clutter", "Which colours the layers have.", _agate, {"_".join(a): a for a in AGATES}),
    ],
)
