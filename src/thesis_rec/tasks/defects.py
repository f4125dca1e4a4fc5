"""Inspection pictures: scratches, pits, cracks, stains on surfaces; faults of printed circuits."""

from functools import partial

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family
from thesis_rec.tasks.canvas import Array, Rng

SURFACES = ["brushed", "cast", "woven", "tiled", "polished", "wooden", "leather"]


def surface(kind: str, n: int, rng: Rng) -> Array:
    """Surfaces of one kind, (n, 32, 32, 3)."""
    x, y = canvas.grid()
    fx, fy = canvas.frequencies()
    turn = canvas.uniform(rng, 0, np.pi, n)
    along, across = canvas.rotate(fx, fy, turn)
    u, v = canvas.rotate(x, y, turn)
    relief = {
        "brushed": lambda: canvas.filtered_noise(n, rng, np.exp(-(across**2) / 3 - along**2 / 200)) * 0.1,
        "cast": lambda: canvas.power_noise(n, rng, 0.8) * 0.11,
        "woven": lambda: np.sin(u * 24) * 0.1 + np.sin(v * 24) * 0.1,
        "tiled": lambda: (
            -0.3 * ((np.mod(u * 1.6, 1) < 0.1) | (np.mod(v * 1.6, 1) < 0.1)) + canvas.power_noise(n, rng, 1.0) * 0.03
        ),
        "polished": lambda: canvas.power_noise(n, rng, 2.2) * 0.06,
        "wooden": lambda: (
            np.sin(v * 14 + canvas.smooth_noise(n, rng, 1.3)) * 0.12 + canvas.power_noise(n, rng, 0.5) * 0.04
        ),
        "leather": lambda: -np.abs(canvas.smooth_noise(n, rng, 6)) * 0.16,
    }[kind]()
    tint = canvas.colours(n, rng, (0.0, 0.4), (0.35, 0.9))
    return np.clip(tint * (1 + relief)[..., None], 0, 1)


def _any_surface(n: int, rng: Rng) -> Array:
    return canvas.of_all_kinds(n, rng, SURFACES, lambda kind, count: surface(kind, count, rng))


def _crack_path(n: int, rng: Rng, length: float = 1.3, points: int = 9, wander: float = 0.14) -> Array:
    """Jagged paths, (n, points, 2)."""
    angle = rng.uniform(0, 2 * np.pi, (n, 1))
    t = np.linspace(-0.5, 0.5, points)[None] * length
    side = np.cumsum(rng.normal(0, wander, (n, points)), axis=1)
    side -= side.mean(1, keepdims=True)
    cx, cy = rng.uniform(-0.25, 0.25, (2, n, 1))
    return np.stack([cx + np.cos(angle) * t - np.sin(angle) * side, cy + np.sin(angle) * t + np.cos(angle) * side], -1)


DEFECTS = ["none", "scratch", "pit", "crack", "stain", "dent", "hole", "smear", "rust", "inclusion"]


def flaw(kind: str, image: Array, rng: Rng, strength: float = 1.0) -> Array:
    """Add a flaw to surfaces; `strength` scales its size and contrast."""
    n = len(image)
    x, y = canvas.grid()
    cx, cy = canvas.uniform(rng, -0.55, 0.55, n), canvas.uniform(rng, -0.55, 0.55, n)
    u, v = canvas.rotate(x - cx, y - cy, canvas.uniform(rng, 0, 2 * np.pi, n))
    grow = canvas.uniform(rng, 0.8, 1.25, n) * strength
    dark = canvas.uniform(rng, 0.35, 0.75, n) * min(1.0, 0.4 + 0.6 * strength)
    black = np.zeros((n, 1, 1, 3), dtype=np.float32)
    white = np.ones((n, 1, 1, 3), dtype=np.float32)
    if kind == "none":
        return image
    if kind == "scratch":
        d = canvas.box(u, v + 0.12 * u * u, 0.6 * grow, 0.0) - 0.025 * grow
        bright = rng.random((n, 1, 1, 1)) < 0.6
        return canvas.over(image, canvas.cover(d) * dark, np.where(bright, white, black))
    if kind == "pit":
        spots = np.stack([rng.normal(0, 0.2, (n, 6)), rng.normal(0, 0.2, (n, 6))], -1)
        d = canvas.discs(u, v, spots, lambda: canvas.uniform(rng, 0.03, 0.07, n) * grow)
        return canvas.over(image, canvas.cover(d) * dark, black)
    if kind == "crack":
        path = _crack_path(n, rng, 1.4 * strength)
        d = canvas.polyline(x, y, path) - canvas.uniform(rng, 0.012, 0.035, n) * grow
        return canvas.over(image, canvas.cover(d) * np.minimum(dark * 1.3, 1), black)
    blob = np.hypot(u, v * canvas.uniform(rng, 0.8, 1.5, n)) + 0.07 * canvas.smooth_noise(n, rng, 3)
    if kind == "stain":
        return canvas.over(
            image,
            canvas.smoothstep((0.42 * grow - blob) * 5 + 0.5) * dark * 0.7,
            canvas.colours(n, rng, (0.2, 0.9), (0.1, 0.5)),
        )
    if kind == "dent":
        slope = u * np.exp(-(u**2 + v**2) / (0.09 * grow**2)) * 3.5
        return np.clip(image * (1 + slope * dark)[..., None], 0, 1)
    if kind == "hole":
        image = canvas.over(image, canvas.cover(np.hypot(u, v) - 0.27 * grow) * 0.95, black)
        return canvas.over(image, canvas.cover(np.abs(np.hypot(u, v) - 0.3 * grow) - 0.03) * 0.6, white)
    if kind == "smear":
        smudge = canvas.blur(image, 2.2)
        mask = canvas.cover((canvas.box(u, v, 0.6 * grow, 0.22 * grow)), 4)
        return canvas.over(image, mask, np.clip(smudge * canvas.uniform(rng, 0.85, 1.2, n)[..., None], 0, 1))
    if kind == "rust":
        speck = canvas.smoothstep(canvas.power_noise(n, rng, 0.7) * 1.2 + (0.5 * grow - blob) * 3)
        return canvas.over(
            image,
            speck * canvas.cover(blob - 0.65 * grow, 6) * 0.8,
            canvas.colours(n, rng, (0.6, 0.9), (0.3, 0.6), hue=(0.03, 0.08)),
        )
    d = np.minimum(canvas.box(u, v, 0.2 * grow, 0.08 * grow), canvas.box(u + 0.08, v - 0.1, 0.07 * grow, 0.12 * grow))
    return canvas.over(image, canvas.cover(d) * 0.9, canvas.colours(n, rng, (0, 0.3), (0.7, 1)))


def _kind(kind: str, n: int, rng: Rng, strength: float = 1.0) -> Array:
    return flaw(kind, _any_surface(n, rng), rng, strength)


def _surface(kind: str, n: int, rng: Rng) -> Array:
    image = surface(kind, n, rng)
    for defect, part in zip(DEFECTS, canvas.parts(n, len(DEFECTS), rng), strict=True):
        if len(part):
            image[part] = flaw(defect, image[part], rng)
    return image


def _severity(cracks: int, n: int, rng: Rng) -> Array:
    """None to many cracks."""
    image = _any_surface(n, rng)
    for _ in range(cracks):
        image = flaw("crack", image, rng, 0.8)
    return image


FAULTS = ["good", "open", "short", "mouse_bite", "spur", "pinhole", "copper"]


def _circuit(kind: str, n: int, rng: Rng) -> Array:
    """Printed-circuit tracks with one of the six classical faults, or none."""
    x, y = canvas.grid()
    quarter = canvas.column(rng.integers(0, 2, n)) * np.pi / 2
    u, v = canvas.rotate(x, y, quarter + canvas.uniform(rng, -0.06, 0.06, n))
    pitch, width = canvas.uniform(rng, 0.46, 0.58, n), canvas.uniform(rng, 0.12, 0.16, n)
    offset = canvas.uniform(rng, -0.2, 0.2, n)
    bend = canvas.uniform(rng, -0.5, 0.5, n)
    sway = v - np.clip(u - bend, 0, 0.5) * canvas.column(rng.integers(-1, 2, n))
    track = np.abs(np.mod((sway - offset) / pitch + 0.5, 1) - 0.5) * pitch - width
    # The fault sits on the middle track (or between it and its neighbour).
    px = canvas.uniform(rng, -0.6, 0.6, n)
    along, beside = u - px, sway - offset
    if kind == "open":
        track = np.maximum(track, 0.12 - np.hypot(along, beside * 0.5))
    elif kind == "short":
        track = np.minimum(track, canvas.box(along, beside - pitch / 2, 0.09, pitch / 2))
    elif kind == "mouse_bite":
        track = np.maximum(track, 0.13 - np.hypot(along, beside - width))
    elif kind == "spur":
        track = np.minimum(track, np.hypot(along, (beside - width) * 0.7) - 0.1)
    elif kind == "pinhole":
        track = np.maximum(track, 0.075 - np.hypot(along, beside))
    elif kind == "copper":
        track = np.minimum(track, np.hypot(along, beside - pitch / 2) - 0.085)
    pads = canvas.scatter_cells(n, rng, 2, 3, 0.4)
    for i in range(2):
        p, q = x - canvas.column(pads[:, i, 0]), y - canvas.column(pads[:, i, 1])
        track = np.minimum(track, np.abs(np.hypot(p, q) - 0.17) - 0.06)
    board = canvas.colours(n, rng, (0.4, 0.9), (0.15, 0.45), hue=(0.25, 0.5))
    copper = canvas.colours(n, rng, (0.3, 0.7), (0.6, 0.95), hue=(0.08, 0.16))
    return canvas.over(np.broadcast_to(board, (n, canvas.SIZE, canvas.SIZE, 3)), canvas.cover(track), copper)


WEAVES = ["good", "missing_weft", "missing_warp", "knot", "oil", "tear", "wrinkle"]


def _fabric(kind: str, n: int, rng: Rng) -> Array:
    x, y = canvas.grid()
    u, v = canvas.rotate(x, y, canvas.uniform(rng, -0.25, 0.25, n))
    pitch = canvas.uniform(rng, 13, 20, n)
    px, py = canvas.uniform(rng, -0.5, 0.5, n), canvas.uniform(rng, -0.5, 0.5, n)
    if kind == "wrinkle":
        u = u + 0.09 * np.exp(-(((u - px) / 0.2) ** 2)) * np.sin(v * 4)
    warp, weft = 0.5 + 0.5 * np.sin(u * pitch), 0.5 + 0.5 * np.sin(v * pitch)
    if kind == "missing_weft":
        weft = weft * (np.abs(v - py) > 0.16)
    elif kind == "missing_warp":
        warp = warp * (np.abs(u - px) > 0.16)
    over_under = np.sin(u * pitch / 2) * np.sin(v * pitch / 2) > 0
    tone = np.where(over_under, warp, weft * 0.8)
    r = np.hypot(u - px, v - py)
    if kind == "knot":
        tone = np.maximum(tone, np.exp(-((r / 0.13) ** 2)) * 1.3)
    elif kind == "oil":
        tone = tone * (1 - 0.65 * canvas.smoothstep((0.4 - r) * 5 + 0.07 * canvas.smooth_noise(n, rng, 3)))
    elif kind == "tear":
        tone = tone * (1 - canvas.cover(canvas.polyline(x, y, _crack_path(n, rng, 0.8)) - 0.06))
    if kind == "wrinkle":
        tone = tone * (1 - 0.4 * np.exp(-(((u - px) / 0.12) ** 2)))
    return np.clip(tone, 0, 1)


TASKS = family(
    "defects",
    "natural",
    [
        ("kind", "plain", "Which flaw the surface has.", _kind, DEFECTS),
        ("subtle", "lighting", "Which small flaw the surface has.", partial(_kind, strength=0.65), DEFECTS),
        ("surface", "occlusion", "Which surface it is, flawed or not.", _surface, SURFACES),
        (
            "cracks",
            "low_contrast",
            "How cracked the surface is.",
            _severity,
            {"none": 0, "one": 1, "two": 2, "four": 4, "seven": 7},
        ),
        ("circuit", "plain", "Which fault the printed circuit has.", _circuit, FAULTS),
        ("circuit_grey", "grey", "Which fault the printed circuit has, without colour.", _circuit, FAULTS),
        ("fabric", "lighting", "Which fault the fabric has.", _fabric, WEAVES),
    ],
)
