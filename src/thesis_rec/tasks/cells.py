"""Microscopy-like pictures: cells, nuclei, colonies."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng


def _ground(n: int, rng: Rng, stain: bool = True) -> Array:
    """Pale tissue grounds (or dark fluorescence), with a soft unevenness."""
    tint = canvas.colours(n, rng, (0.02, 0.25), (0.75, 0.95), hue=(0.75, 1.1))
    if not stain:
        tint = canvas.colours(n, rng, (0, 0.6), (0.0, 0.15))
    return np.clip(tint + 0.03 * canvas.power_noise(n, rng, 1.3)[..., None], 0, 1)


def _membrane(u: Array, v: Array, n: int, rng: Rng, lobes: float = 0.06) -> Array:
    """Radius of an irregular round outline minus the distance from its middle, per pixel (negative inside)."""
    angle = np.arctan2(v, u)
    edge = 1 + sum(lobes * np.cos(k * angle + canvas.uniform(rng, 0, 6.3, n)) for k in (2, 3, 5))
    return np.hypot(u, v) - edge


NUCLEI = ["none", "small_round", "large_round", "bean", "two_lobes", "three_lobes", "ring", "granules"]


def _blood(kind: str, n: int, rng: Rng) -> Array:
    """One blood cell in the middle, told apart by its nucleus, red cells around it."""
    x, y = canvas.grid()
    image = _ground(n, rng)
    red = canvas.colours(n, rng, (0.25, 0.5), (0.7, 0.95), hue=(0.95, 1.04))
    for _ in range(5):
        a = canvas.uniform(rng, 0, 2 * np.pi, n)
        r = canvas.uniform(rng, 0.25, 0.36, n)
        u, v = (
            (x - np.cos(a) * canvas.uniform(rng, 0.75, 1.1, n)) / r,
            (y - np.sin(a) * canvas.uniform(rng, 0.75, 1.1, n)) / r,
        )
        d = _membrane(u, v, n, rng, 0.03)
        image = canvas.over(image, canvas.cover(d * r) * (0.55 + 0.4 * canvas.smoothstep(np.hypot(u, v))), red)
    u, v, size = canvas.frame(n, rng, (0.42, 0.58), 0.2)
    plasma = canvas.colours(n, rng, (0.1, 0.3), (0.75, 0.95), hue=(0.62, 0.9))
    image = canvas.over(image, canvas.cover(_membrane(u, v, n, rng, 0.03) * size), plasma)
    dark = canvas.colours(n, rng, (0.45, 0.8), (0.3, 0.55), hue=(0.68, 0.8))
    if kind == "none":
        return image
    if kind == "small_round":
        d = _membrane(u * 2.4 + canvas.uniform(rng, -0.6, 0.6, n), v * 2.4, n, rng, 0.04) / 2.4
    elif kind == "large_round":
        d = _membrane(u * 1.25, v * 1.25, n, rng, 0.05) / 1.25
    elif kind == "bean":
        d = np.maximum(_membrane(u * 1.4, v * 1.4, n, rng, 0.03) / 1.4, 0.4 - np.hypot(u - 0.65, v))
    elif kind == "ring":
        d = np.abs(np.hypot(u, v) - 0.5) - 0.17
    elif kind == "granules":
        spots = canvas.scatter_cells(n, rng, 9, 4, 0.5) * 0.75
        d = canvas.discs(u, v, spots, lambda: canvas.uniform(rng, 0.08, 0.16, n))
    else:
        lobes = 2 if kind == "two_lobes" else 3
        d = np.full(u.shape, 9.0, dtype=np.float32)
        for i in range(lobes):
            a = i * 2 * np.pi / lobes + canvas.uniform(rng, -0.2, 0.2, n)
            d = np.minimum(
                d, canvas.disc(u - 0.45 * np.cos(a), v - 0.45 * np.sin(a), canvas.uniform(rng, 0.28, 0.36, n))
            )
    return canvas.over(image, canvas.cover(d * size) * canvas.uniform(rng, 0.8, 1, n), dark)


OUTLINES = ["round", "oval", "sickle", "spiky", "drop", "target", "dividing", "burst"]


def _outline_distance(kind: str, u: Array, v: Array) -> Array:
    """Signed distance of one cell of a kind, in its own coordinates."""
    rho, angle = np.hypot(u, v), np.arctan2(v, u)
    return {
        "round": lambda: rho - 0.95,
        "oval": lambda: (np.hypot(u * 0.75, v * 1.5) - 0.8) * 0.8,
        "sickle": lambda: np.maximum(rho - 1.1, 0.95 - np.hypot(u - 0.6, v)),
        "spiky": lambda: (rho - 0.85 - 0.17 * np.cos(9 * angle)) * 0.7,
        "drop": lambda: np.minimum(rho - 0.6, np.maximum(np.abs(v) * 0.9 + u * 0.35 - 0.45, -u)),
        "target": lambda: rho - 0.95,
        "dividing": lambda: np.minimum(np.hypot(u - 0.5, v), np.hypot(u + 0.5, v)) - 0.55,
        "burst": lambda: np.maximum(rho - 0.95, 0.3 - np.hypot(u - 0.9, v)) - 0.1 * np.cos(3 * angle),
    }[kind]()


def _outline(kind: str, n: int, rng: Rng) -> Array:
    """Several red cells of one kind."""
    image = _ground(n, rng)
    tint = canvas.colours(n, rng, (0.3, 0.7), (0.55, 0.9), hue=(0.9, 1.08))
    spots = canvas.scatter_cells(n, rng, 4, 2, 0.45)
    x, y = canvas.grid()
    for i in range(4):
        # One to four cells: those left out are painted with nothing.
        shown = 1.0 if i == 0 else rng.random((n, 1, 1)) < 0.6
        r = canvas.uniform(rng, 0.3, 0.4, n)
        u, v = (x - canvas.column(spots[:, i, 0])) / r, (y - canvas.column(spots[:, i, 1])) / r
        u, v = canvas.rotate(u, v, canvas.uniform(rng, 0, 2 * np.pi, n))
        rho = np.hypot(u, v)
        d = _outline_distance(kind, u, v)
        pale = (
            0.75 - 0.45 * np.exp(-(rho**2) * 4)
            if kind not in ("target", "dividing")
            else 0.6 + 0.35 * np.cos(rho * 6.5)
        )
        image = canvas.over(image, canvas.cover(d * r) * pale * shown, tint)
    return image


def _density(k: int, n: int, rng: Rng) -> Array:
    count = [2, 4, 7, 11, 16, 23][k]
    image = _ground(n, rng, stain=False)
    spots = canvas.scatter_cells(n, rng, count, 5, 0.7)
    x, y = canvas.grid()
    glow = canvas.colours(n, rng, (0.4, 1), (0.7, 1))
    for i in range(count):
        r = canvas.uniform(rng, 0.1, 0.17, n)
        u, v = (x - canvas.column(spots[:, i, 0])) / r, (y - canvas.column(spots[:, i, 1])) / r
        image = canvas.over(
            image,
            np.exp(-(np.hypot(u, v * canvas.uniform(rng, 0.7, 1.4, n)) ** 3)) * canvas.uniform(rng, 0.5, 1, n),
            glow,
        )
    return image


def _arrangement(kind: str, n: int, rng: Rng) -> Array:
    """Bacteria: cocci or rods, alone, in pairs, chains or clusters."""
    image = _ground(n, rng)
    x, y = canvas.grid()
    d = np.full((n, canvas.SIZE, canvas.SIZE), 9.0, dtype=np.float32)
    rod = "rod" in kind or kind == "spirals"
    groups = {
        "single_cocci": (7, 1),
        "pairs": (4, 2),
        "chains": (2, 6),
        "clusters": (2, 7),
        "single_rods": (6, 1),
        "rod_chains": (2, 4),
        "spirals": (3, 1),
        "rod_stacks": (2, 5),
    }
    colonies, members = groups[kind]
    spots = canvas.scatter_cells(n, rng, colonies, 3 if colonies > 3 else 2, 0.5)
    size = canvas.uniform(rng, 0.07, 0.1, n)
    for c in range(colonies):
        a = canvas.uniform(rng, 0, 2 * np.pi, n)
        for m in range(members):
            step = m - (members - 1) / 2
            cx, cy = canvas.column(spots[:, c, 0]), canvas.column(spots[:, c, 1])
            if kind in ("chains", "pairs"):
                bend = a + step * 0.25
                cx, cy = cx + np.cos(bend) * step * size * 2.1, cy + np.sin(bend) * step * size * 2.1
            elif kind == "rod_chains":
                cx, cy = cx + np.cos(a) * step * size * 4.6, cy + np.sin(a) * step * size * 4.6
            elif kind == "rod_stacks":
                cx, cy = cx - np.sin(a) * step * size * 2.2, cy + np.cos(a) * step * size * 2.2
            elif kind == "clusters":
                cx, cy = cx + canvas.uniform(rng, -0.22, 0.22, n), cy + canvas.uniform(rng, -0.22, 0.22, n)
            if kind == "spirals":
                t = np.linspace(-1, 1, 9)
                bow = np.stack([t * 0.4, 0.09 * np.sin(t * 8)], -1)[None] + rng.normal(0, 0.01, (n, 9, 2))
                u, v = canvas.rotate(x - cx, y - cy, a)
                d = np.minimum(d, canvas.polyline(u, v, bow) - size * 0.45)
            elif rod:
                dx, dy = np.cos(a) * size * 1.5, np.sin(a) * size * 1.5
                d = np.minimum(d, canvas.segment(x, y, cx - dx, cy - dy, cx + dx, cy + dy) - size * 0.7)
            else:
                d = np.minimum(d, canvas.disc(x - cx, y - cy, size))
    tint = canvas.colours(n, rng, (0.4, 0.9), (0.3, 0.7), hue=(0.6, 1.05))
    return canvas.over(image, canvas.cover(d), tint)


TISSUES = ["epithelium", "muscle", "fat", "cartilage", "gland", "stroma", "debris", "lymphoid"]


def _tissue(kind: str, n: int, rng: Rng) -> Array:
    """Histology-like textures in haematoxylin and eosin colours."""
    x, y = canvas.grid()
    pink = canvas.colours(n, rng, (0.25, 0.5), (0.75, 0.95), hue=(0.88, 0.97))
    violet = canvas.colours(n, rng, (0.45, 0.75), (0.35, 0.6), hue=(0.7, 0.8))
    white = np.full((n, 1, 1, 3), 0.93, dtype=np.float32)
    fx, fy = canvas.frequencies()
    along, across = canvas.rotate(fx, fy, canvas.uniform(rng, 0, np.pi, n))
    fibre = canvas.filtered_noise(n, rng, np.exp(-(along**2) / 60 - across**2 / 2))
    fine, coarse = canvas.power_noise(n, rng, 0.5), canvas.smooth_noise(n, rng, 2.2)
    image: Array = np.broadcast_to(pink, (n, canvas.SIZE, canvas.SIZE, 3)) * (1 + 0.05 * fine[..., None])
    nuclei, radius, shade = {
        "epithelium": (13, 0.1, violet),
        "muscle": (5, 0.07, violet),
        "fat": (4, 0.04, violet),
        "cartilage": (5, 0.12, white),
        "gland": (9, 0.08, violet),
        "stroma": (7, 0.06, violet),
        "debris": (6, 0.05, violet),
        "lymphoid": (22, 0.085, violet),
    }[kind]
    if kind in ("muscle", "stroma"):
        image = canvas.over(
            image,
            canvas.smoothstep(fibre * 0.5 + 0.3) * (0.6 if kind == "muscle" else 0.85),
            pink * 0.72 if kind == "muscle" else white,
        )
    elif kind == "fat":
        image = canvas.over(image, canvas.smoothstep(np.abs(canvas.smooth_noise(n, rng, 3)) * 5) * 0.95, white)
    elif kind == "cartilage":
        image = image * 0.85 + violet * 0.15
    elif kind == "gland":
        x, y = x - canvas.uniform(rng, -0.4, 0.4, n), y - canvas.uniform(rng, -0.4, 0.4, n)
        image = canvas.over(
            image,
            canvas.cover(np.hypot(x, y * canvas.uniform(rng, 0.8, 1.3, n)) - canvas.uniform(rng, 0.2, 0.45, n)),
            white,
        )
    elif kind == "debris":
        image = canvas.over(image, canvas.smoothstep(coarse + 0.2), white * 0.95)
        image = canvas.over(image, (fine > 1).astype(np.float32) * 0.5, violet)
    spots = canvas.scatter_cells(n, rng, nuclei, 5, 0.7)
    if kind == "gland":
        a = (np.arange(nuclei) + rng.uniform(-0.2, 0.2, (n, nuclei))) * 2 * np.pi / nuclei
        spots = np.stack([0.6 * np.cos(a), 0.6 * np.sin(a)], -1)
    for i in range(nuclei):
        r = canvas.uniform(rng, 0.8, 1.2, n) * radius
        p, q = x - canvas.column(spots[:, i, 0]), y - canvas.column(spots[:, i, 1])
        image = canvas.over(
            image,
            canvas.cover(np.hypot(p, q * canvas.uniform(rng, 0.7, 1.5, n)) - r) * canvas.uniform(rng, 0.6, 1, n),
            shade,
        )
    return image


def _ripeness(k: int, n: int, rng: Rng) -> Array:
    """Share of stained (dark) among ten cells."""
    image = _ground(n, rng)
    dark = canvas.colours(n, rng, (0.5, 0.8), (0.35, 0.55), hue=(0.05, 0.1))
    pale = canvas.colours(n, rng, (0.2, 0.45), (0.6, 0.8), hue=(0.55, 0.65))
    spots = canvas.scatter_cells(n, rng, 10, 4, 0.4)
    x, y = canvas.grid()
    for i in range(10):
        r = canvas.uniform(rng, 0.14, 0.2, n)
        u, v = (x - canvas.column(spots[:, i, 0])) / r, (y - canvas.column(spots[:, i, 1])) / r
        image = canvas.over(
            image,
            canvas.cover(_membrane(u, v, n, rng, 0.08) * r) * canvas.uniform(rng, 0.7, 1, n),
            dark if i < k * 2 else pale,
        )
    return image


ARRANGEMENTS = ["single_cocci", "pairs", "chains", "clusters", "single_rods", "rod_chains", "spirals", "rod_stacks"]
TASKS = family(
    "cells",
    "natural",
    [
        ("nucleus", "plain", "Which nucleus the white blood cell has.", _blood, NUCLEI),
        ("nucleus_blurred", "blur", "Which nucleus the blurred white blood cell has.", _blood, NUCLEI),
        ("outline", "lighting", "Which form the red cells have.", _outline, OUTLINES),
        ("density", "noise", "How many nuclei glow.", _density, named("density_{}", range(6))),
        ("bacteria", "low_contrast", "How the bacteria are arranged.", _arrangement, ARRANGEMENTS),
        ("tissue", "blur", "Which tissue it is.", _tissue, TISSUES),
        ("tissue_grey", "grey", "Which tissue it is, without colour.", _tissue, TISSUES),
        ("stained", "occlusion", "Which share of the cells is stained.", _ripeness, named("share_{}", range(6))),
    ],
)
