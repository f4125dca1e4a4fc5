"""Objects of a dozen kinds, painted part by part."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.canvas import Array, Rng

OBJECTS = ["car", "house", "tree", "fish", "bird", "boat", "mushroom", "cup", "flower", "person", "bottle", "lamp"]


def thing(
    kind: str, n: int, rng: Rng, scale: tuple[float, float] = (0.45, 0.75), shift: float = 0.25
) -> list[tuple[Array, Array]]:
    """Parts of an object as (coverage, colour) in painting order."""
    u, v, size = canvas.frame(n, rng, scale, shift, 0.18, 1.25)
    u = np.where(rng.random((n, 1, 1)) < 0.5, u, -u)
    tint = canvas.colours(n, rng, (0.4, 1), (0.4, 1))
    other = canvas.colours(n, rng, (0.2, 1), (0.3, 1))
    dark, pale = canvas.colours(n, rng, (0, 0.4), (0.02, 0.2)), canvas.colours(n, rng, (0, 0.25), (0.8, 1))
    brown = canvas.colours(n, rng, (0.4, 0.7), (0.25, 0.5), hue=(0.05, 0.1))
    green = canvas.colours(n, rng, (0.4, 0.9), (0.25, 0.7), hue=(0.22, 0.42))

    def box(cx: float, cy: float, w: float, h: float) -> Array:
        return canvas.box(u - cx, v - cy, w, h)

    def disc(cx: float, cy: float, r: float) -> Array:
        return canvas.disc(u - cx, v - cy, r)

    def wedge(cx: float, top: float, bottom: float, half: float) -> Array:
        """A triangle standing on its base."""
        slope = half / (bottom - top)
        return np.maximum((np.abs(u - cx) - (v - top) * slope) / np.hypot(1, slope), v - bottom)

    if kind == "car":
        parts = [
            (np.minimum(box(0, 0.15, 0.95, 0.25), box(-0.05, -0.22, 0.5, 0.25)), tint),
            (box(-0.05, -0.22, 0.36, 0.14), pale),
            (np.minimum(disc(-0.5, 0.42, 0.23), disc(0.5, 0.42, 0.23)), dark),
        ]
    elif kind == "house":
        parts = [
            (box(0, 0.4, 0.65, 0.5), tint),
            (wedge(0, -0.8, -0.08, 0.85), other),
            (box(-0.2, 0.6, 0.14, 0.3), dark),
            (box(0.3, 0.35, 0.15, 0.15), pale),
        ]
    elif kind == "tree":
        crown = np.where(
            rng.random((n, 1, 1)) < 0.5, wedge(0, -0.95, 0.35, 0.65), np.hypot(u, (v + 0.25) * 1.05) - 0.65
        )
        parts = [(box(0, 0.65, 0.13, 0.4), brown), (crown, green)]
    elif kind == "fish":
        body = (np.hypot(u * 0.7, v * 1.35) - 0.5) / 1.3
        parts = [
            (np.maximum(np.abs(v) * 0.8 - (u - 0.4) * 0.6, u - 0.95), other),
            (body, tint),
            (disc(-0.42, -0.08, 0.09), dark),
        ]
    elif kind == "bird":
        parts = [
            (np.hypot(u * 0.8, v * 1.3) - 0.5, tint),
            (disc(-0.5, -0.4, 0.28), tint),
            (np.maximum(np.abs(v + 0.38) + (-u - 0.95) * 0.5, u + 0.7), other),
            (np.maximum(np.abs(u - 0.15) - 0.45, np.abs(v - 0.05 - 0.3 * u) - 0.16), other),
            (np.minimum(box(-0.1, 0.65, 0.04, 0.25), box(0.15, 0.65, 0.04, 0.25)), dark),
        ]
    elif kind == "boat":
        parts = [
            (np.maximum(np.maximum(0.3 - v, v - 0.7), np.abs(u) - 0.95 + (v - 0.3) * 0.7), tint),
            (box(0, -0.25, 0.05, 0.6), dark),
            (np.maximum(np.maximum(-u + 0.07, v - 0.2), (u * 0.8 - v * 0.6 - 0.62) * 0.9), pale),
        ]
    elif kind == "mushroom":
        parts = [
            (box(0, 0.4, 0.22, 0.45), pale),
            (np.maximum(np.hypot(u * 0.85, v + 0.05) - 0.7, v), tint),
            (np.minimum(disc(-0.3, -0.3, 0.12), disc(0.25, -0.4, 0.12)), pale),
        ]
    elif kind == "cup":
        parts = [
            (np.abs(disc(0.55, 0, 0.3)) - 0.1, tint),
            (np.maximum(np.abs(u) - 0.5 + 0.12 * v, np.abs(v) - 0.6), tint),
            (box(0, -0.55, 0.5, 0.07), dark),
        ]
    elif kind == "flower":
        petals = np.minimum.reduce(
            [disc(0.42 * np.cos(a), -0.3 + 0.42 * np.sin(a), 0.27) for a in np.arange(6) * np.pi / 3]
        )
        parts = [(box(0, 0.5, 0.06, 0.45), green), (petals, tint), (disc(0, -0.3, 0.22), other)]
    elif kind == "person":
        legs = np.minimum(box(-0.17, 0.7, 0.11, 0.35), box(0.17, 0.7, 0.11, 0.35))
        parts = [
            (legs, dark),
            (np.minimum(box(0, 0.05, 0.32, 0.4), box(0, -0.2, 0.6, 0.11)), tint),
            (
                disc(0, -0.65, 0.27),
                canvas.hsv(0.07, canvas.uniform(rng, 0.2, 0.6, n), canvas.uniform(rng, 0.4, 0.95, n)),
            ),
        ]
    elif kind == "bottle":
        parts = [
            (np.minimum(box(0, 0.3, 0.33, 0.6), box(0, -0.55, 0.13, 0.4)), tint),
            (box(0, 0.35, 0.33, 0.22), pale),
            (box(0, -0.92, 0.15, 0.07), dark),
        ]
    else:  # lamp
        parts = [
            (box(0, 0.3, 0.05, 0.6), dark),
            (box(0, 0.9, 0.35, 0.07), dark),
            (np.maximum(np.abs(u) - 0.35 - (v + 0.5) * 0.5, np.abs(v + 0.45) - 0.35), tint),
        ]
    return [(canvas.cover(d * size), c) for d, c in parts]


def place(image: Array, kind: str, rng: Rng, scale: tuple[float, float] = (0.45, 0.75), shift: float = 0.25) -> Array:
    """Paint an object of one kind on each of the images (n, 32, 32, 3)."""
    for mask, colour in thing(kind, len(image), rng, scale, shift):
        image = canvas.over(image, mask, colour)
    return image
