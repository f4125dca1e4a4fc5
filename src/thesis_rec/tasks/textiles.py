"""Cloth: dyes, stains, threads and prints, told by colour."""

from collections.abc import Sequence

import numpy as np

from thesis_rec.tasks import canvas, tints
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.shapes import FIGURES
from thesis_rec.tasks.tints import Tint


def _weave(n: int, rng: Rng) -> Array:
    """Brightness of threads and folds around 1, (n, 32, 32)."""
    x, y = canvas.grid()
    u, v = canvas.rotate(x, y, canvas.uniform(rng, -0.4, 0.4, n))
    pitch = canvas.uniform(rng, 18, 40, n)
    threads = np.sin(u * pitch) * np.sin(v * pitch)
    folds = canvas.smooth_noise(n, rng, 1.5)
    return 1 + canvas.uniform(rng, 0.05, 0.2, n) * threads + canvas.uniform(rng, 0.05, 0.16, n) * folds


def _woven(colours: Array, rng: Rng) -> Array:
    """Colours (n, 32, 32, 3) on woven cloth."""
    return tints.lit(np.clip(colours * _weave(len(colours), rng)[..., None], 0, 1), rng)


STAINS: dict[str, Tint] = {
    "coffee": (0.07, 0.6, 0.35),
    "wine": (0.95, 0.65, 0.4),
    "grass": (0.27, 0.6, 0.45),
    "ink": (0.64, 0.75, 0.4),
    "turmeric": (0.13, 0.85, 0.85),
    "soot": (0.1, 0.1, 0.12),
    "beetroot": (0.9, 0.75, 0.6),
}


def _stain(name: str, n: int, rng: Rng) -> Array:
    """A stain, soaked in more or less, on striped or plain cloth of any colour."""
    x, y = canvas.grid()
    u, _ = canvas.rotate(x, y, canvas.uniform(rng, 0, np.pi, n))
    cloth = canvas.colours(n, rng, (0.0, 0.55), (0.45, 1.0))
    stripes = (np.sin(u * canvas.uniform(rng, 5, 14, n)) > 0.3) & (rng.random((n, 1, 1)) < 0.6)
    image = canvas.over(np.broadcast_to(cloth, (n, 32, 32, 3)), stripes, canvas.colours(n, rng, (0.0, 0.7), (0.3, 1)))
    cx, cy = canvas.uniform(rng, -0.4, 0.4, n), canvas.uniform(rng, -0.4, 0.4, n)
    edge = np.hypot(x - cx, y - cy) - canvas.uniform(rng, 0.25, 0.5, n) + 0.12 * canvas.smooth_noise(n, rng, 3)
    soaked = canvas.uniform(rng, 0.6, 0.95, n) * canvas.cover(edge, 3)
    return _woven(canvas.over(image, soaked, tints.shade(STAINS[name], n, rng)), rng)


DYES = [
    ("red", "yellow"),
    ("yellow", "red"),
    ("blue", "white"),
    ("blue", "violet"),
    ("green", "blue"),
    ("orange", "brown"),
    ("white", "pink"),
    ("teal", "lime"),
]


def _dye(pair: tuple[str, str], n: int, rng: Rng) -> Array:
    """Dip-dyed cloth: one colour on top runs into another below."""
    x, y = canvas.grid()
    _, v = canvas.rotate(x, y, canvas.uniform(rng, -0.5, 0.5, n))
    t = (
        0.5
        + (v - canvas.uniform(rng, -0.3, 0.3, n)) * canvas.uniform(rng, 0.5, 1.5, n)
        + 0.2 * canvas.smooth_noise(n, rng, 3)
    )
    t = canvas.smoothstep(t)[..., None]
    top, bottom = (tints.tint(name, n, rng, 1.2) for name in pair)
    return _woven(top * (1 - t) + bottom * t, rng)


PLAIDS = [
    ("red", "green", "white"),
    ("red", "black", "white"),
    ("blue", "green", "black"),
    ("brown", "orange", "white"),
    ("grey", "white", "red"),
    ("blue", "white", "red"),
    ("green", "yellow", "black"),
    ("violet", "grey", "white"),
]


def _plaid(names: Sequence[str], n: int, rng: Rng) -> Array:
    """Bands of two colours cross on a ground of a third, in any order."""
    x, y = canvas.grid()
    u, v = canvas.rotate(x, y, canvas.uniform(rng, -0.5, 0.5, n))
    shades = np.stack([tints.tint(name, n, rng) for name in names])
    order = rng.permuted(np.tile(np.arange(3), (n, 1)), axis=1)
    image, wide, thin = (shades[order[:, k], np.arange(n)] for k in range(3))
    image = np.broadcast_to(image, (n, 32, 32, 3))
    pitch, phase = canvas.uniform(rng, 1.1, 2.0, n), canvas.uniform(rng, 0, 1, n)
    for axis in (u, v):
        place = np.mod(axis * pitch + phase, 1)
        image = canvas.over(image, 0.7 * (place < 0.4), wide)
        image = canvas.over(image, 0.85 * (np.abs(place - 0.7) < 0.08), thin)
    return _woven(image, rng)


THREADS = ["red", "orange", "yellow", "green", "blue", "violet", "white", "black"]


def _thread(name: str, n: int, rng: Rng) -> Array:
    """A thread of one colour is drawn through cloth that is itself of several."""
    x, y = canvas.grid()
    one, two = tints.others(name, THREADS, 2, n, rng)
    patches = canvas.cover(0.2 * canvas.smooth_noise(n, rng, 2), 2)[..., None]
    image = (one * patches + two * (1 - patches)) * 0.75 + 0.25 * canvas.colours(n, rng, (0, 0.6), (0.3, 1))
    a = canvas.uniform(rng, 0, np.pi, n)
    path = np.cos(a) * x + np.sin(a) * y + 0.25 * canvas.smooth_noise(n, rng, 1.5) - canvas.uniform(rng, -0.3, 0.3, n)
    stitched = canvas.cover(np.abs(path) - canvas.uniform(rng, 0.1, 0.2, n))
    return _woven(canvas.over(image, stitched, tints.tint(name, n, rng)), rng)


PRINTS = [
    ("red", "white"),
    ("white", "red"),
    ("blue", "yellow"),
    ("yellow", "blue"),
    ("green", "pink"),
    ("orange", "teal"),
    ("black", "white"),
    ("violet", "lime"),
]


def _print(pair: tuple[str, str], n: int, rng: Rng) -> Array:
    """Small figures of one colour, repeated on a ground of another, with a trim of a third."""
    x, y = canvas.grid()
    u, v = canvas.rotate(x, y, canvas.uniform(rng, -0.4, 0.4, n))
    pitch = canvas.uniform(rng, 1.3, 2.2, n)
    a = np.mod(u * pitch + canvas.uniform(rng, 0, 1, n), 1) * 2 - 1
    b = np.mod(v * pitch + canvas.uniform(rng, 0, 1, n), 1) * 2 - 1
    names = ["disc", "square", "star", "heart", "triangle"]
    pick = canvas.column(rng.integers(0, len(names), n))
    r = canvas.uniform(rng, 0.45, 0.7, n)
    figure = np.select([pick == k for k in range(len(names))], [FIGURES[name](a / r, b / r) for name in names])
    ground: Array = np.broadcast_to(tints.tint(pair[1], n, rng), (n, 32, 32, 3))
    image = canvas.over(ground, canvas.cover(figure * r / pitch), tints.tint(pair[0], n, rng))
    trim = canvas.cover(canvas.uniform(rng, 0.55, 0.85, n) - v)
    return _woven(canvas.over(image, trim, canvas.colours(n, rng, (0.2, 1), (0.2, 0.95))), rng)


def _faded(k: int, n: int, rng: Rng) -> Array:
    """Patchwork of any hues that was washed out k times."""
    pieces = np.argmax(np.stack([canvas.smooth_noise(n, rng, 2) for _ in range(4)]), axis=0)
    rows = np.arange(n)[:, None, None]
    fresh = np.clip(0.95 - (k + rng.uniform(0, 1, (n, 1))) * 0.15 + rng.normal(0, 0.05, (n, 4)), 0, 1)
    hue, value = rng.random((n, 4)), rng.uniform(0.5, 0.95, (n, 4))
    return _woven(canvas.hsv(hue[rows, pieces], fresh[rows, pieces], value[rows, pieces]), rng)


TASKS = family(
    "textiles",
    "structured",
    [
        ("stain", "blur", "What has stained the cloth.", _stain, list(STAINS)),
        ("dye", "lighting", "Which colour runs into which.", _dye, {f"{a}_to_{b}": (a, b) for (a, b) in DYES}),
        ("plaid", "noise", "Which colours the check has.", _plaid, {"_".join(p): p for p in PLAIDS}),
        ("thread", "low_contrast", "Which colour the drawn thread has.", _thread, THREADS),
        ("print", "occlusion", "Which colour is printed on which.", _print, {f"{a}_on_{b}": (a, b) for a, b in PRINTS}),
        ("faded", "clutter", "How far the colours have faded.", _faded, named("washed_{}", range(6))),
    ],
)
