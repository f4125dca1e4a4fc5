"""Composed scenes: objects on textured grounds, landscapes, weather, times of day."""

from __future__ import annotations

import numpy as np

from thesis_rec.starter.tasks import canvas
from thesis_rec.starter.tasks.base import by_class, family
from thesis_rec.starter.tasks.canvas import Array, Rng

GROUNDS = ["grass", "water", "sand", "brick", "wood", "snow", "leaves", "asphalt", "fabric", "stone"]


def ground(kind: str, n: int, rng: Rng) -> Array:
    """Textured grounds of one material, (n, 32, 32, 3)."""
    x, y = canvas.grid()
    fx, fy = canvas.frequencies()
    u, v = canvas.rotate(x, y, canvas.uniform(rng, -0.3, 0.3, n) + np.pi / 2 * canvas.column(rng.integers(0, 2, n)))
    hue, saturation, value = {
        "grass": (0.28, 0.6, 0.5),
        "water": (0.56, 0.55, 0.6),
        "sand": (0.11, 0.4, 0.8),
        "brick": (0.03, 0.6, 0.6),
        "wood": (0.07, 0.55, 0.5),
        "snow": (0.6, 0.06, 0.92),
        "leaves": (0.25, 0.65, 0.4),
        "asphalt": (0.6, 0.06, 0.35),
        "fabric": (0.0, 0.5, 0.55),
        "stone": (0.1, 0.12, 0.55),
    }[kind]
    base = canvas.hsv(
        hue + canvas.uniform(rng, -0.04, 0.04, n) if kind != "fabric" else canvas.uniform(rng, 0, 1, n),
        saturation * canvas.uniform(rng, 0.6, 1.3, n).clip(0, 1.2),
        value * canvas.uniform(rng, 0.75, 1.1, n),
    )
    fine = canvas.power_noise(n, rng, 0.4)
    relief = {
        "grass": lambda: canvas.filtered_noise(n, rng, np.exp(-(fx**2) / 120 - fy**2 / 12)) * 0.22,
        "water": lambda: (
            canvas.filtered_noise(n, rng, np.exp(-(fx**2) / 8 - (fy - 0) ** 2 / 60) * np.hypot(fx, fy)) * 0.13
        ),
        "sand": lambda: (
            fine * 0.06 + np.sin(u * canvas.uniform(rng, 14, 20, n) + 2 * canvas.smooth_noise(n, rng, 1.5)) * 0.05
        ),
        "brick": lambda: (
            fine * 0.05
            - 0.35 * (np.minimum(np.mod(u * 2 + 0.5 * np.mod(np.floor(v * 3.5), 2), 1), np.mod(v * 3.5, 1)) < 0.16)
        ),
        "wood": lambda: (
            np.sin(v * canvas.uniform(rng, 14, 20, n) + canvas.smooth_noise(n, rng, 1.2) * 1.8) * 0.16 + fine * 0.04
        ),
        "snow": lambda: canvas.power_noise(n, rng, 1.8) * 0.04 + fine * 0.012,
        "leaves": lambda: np.tanh(canvas.smooth_noise(n, rng, 6) * 3) * 0.3,
        "asphalt": lambda: canvas.power_noise(n, rng, 0.0) * 0.2,
        "fabric": lambda: np.sin(u * 38) * np.sin(v * 38) * 0.28,
        "stone": lambda: canvas.power_noise(n, rng, 1.4) * 0.22,
    }[kind]()
    return np.clip(base * (1 + relief)[..., None], 0, 1)


def _any_ground(n: int, rng: Rng) -> Array:
    stack = np.empty((n, canvas.SIZE, canvas.SIZE, 3), dtype=np.float32)
    for kind, part in zip(GROUNDS, canvas.parts(n, len(GROUNDS), rng), strict=True):
        if len(part):
            stack[part] = ground(kind, len(part), rng)
    return stack


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
    brown = canvas.hsv(
        canvas.uniform(rng, 0.05, 0.1, n), canvas.uniform(rng, 0.4, 0.7, n), canvas.uniform(rng, 0.25, 0.5, n)
    )
    green = canvas.hsv(
        canvas.uniform(rng, 0.22, 0.42, n), canvas.uniform(rng, 0.4, 0.9, n), canvas.uniform(rng, 0.25, 0.7, n)
    )

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


def _place(image: Array, kind: str, rng: Rng, scale: tuple[float, float] = (0.45, 0.75), shift: float = 0.25) -> Array:
    for mask, colour in thing(kind, len(image), rng, scale, shift):
        image = canvas.over(image, mask, colour)
    return image


def _object(kind: str, n: int, rng: Rng) -> Array:
    return _place(_any_ground(n, rng), kind, rng)


def _with_object(kind: str, n: int, rng: Rng) -> Array:
    """The ground is the class; any object lies on it."""
    image = ground(kind, n, rng)
    for other, part in zip(OBJECTS, canvas.parts(n, len(OBJECTS), rng), strict=True):
        if len(part):
            image[part] = _place(image[part], other, rng, (0.35, 0.6), 0.4)
    return image


LAND = ["mountains", "sea", "desert", "city", "forest", "field", "road", "island"]


def _landscape(kind: str, n: int, rng: Rng, light: tuple[float, float, float] | None = None) -> Array:
    """Landscapes; `light` is (sky hue, sky saturation, brightness)."""
    x, y = canvas.grid()
    hue, saturation, bright = light or (0.57, 0.45, 0.95)
    horizon = canvas.uniform(rng, -0.15, 0.35, n)
    sky = canvas.hsv(
        hue + canvas.uniform(rng, -0.04, 0.04, n),
        saturation * (0.6 - 0.4 * y),
        bright * canvas.uniform(rng, 0.8, 1.05, n) + 0 * x,
    )
    clouds = canvas.smoothstep(canvas.power_noise(n, rng, 1.6) * 0.5 - canvas.uniform(rng, -0.2, 0.6, n))
    image = canvas.over(sky, clouds * 0.8, np.float32(bright) * canvas.colours(n, rng, (0, 0.1), (0.8, 1)))
    lit = np.float32(min(1.0, bright + 0.1))
    floor = {
        "mountains": "grass",
        "sea": "water",
        "desert": "sand",
        "city": "asphalt",
        "forest": "leaves",
        "field": "grass",
        "road": "grass",
        "island": "water",
    }[kind]
    rolling = horizon + 0.05 * np.sin(x * canvas.uniform(rng, 1, 4, n) + canvas.uniform(rng, 0, 6, n)) * (
        kind not in ("sea", "island", "city")
    )
    if kind == "mountains":
        for k in range(3):
            peak, top, slope = (
                canvas.uniform(rng, -0.9, 0.9, n),
                horizon - canvas.uniform(rng, 0.35, 0.8, n),
                canvas.uniform(rng, 0.7, 1.4, n),
            )
            ridge = top + np.abs(x - peak) * slope + 0.05 * np.sin(x * 9 + k)
            rock = canvas.hsv(
                canvas.uniform(rng, 0.55, 0.68, n),
                canvas.uniform(rng, 0.1, 0.35, n),
                lit * canvas.uniform(rng, 0.3, 0.6, n),
            )
            image = canvas.over(image, canvas.cover(ridge - y), rock)
            image = canvas.over(
                image,
                canvas.cover(ridge - y) * canvas.cover(y - top - 0.16),
                np.full((n, 1, 1, 3), 0.9 * lit, dtype=np.float32),
            )
    if kind == "city":
        for _ in range(6):
            wall = lit * canvas.colours(n, rng, (0, 0.3), (0.2, 0.7))
            d = canvas.box(
                x - canvas.uniform(rng, -1, 1, n),
                y - horizon,
                canvas.uniform(rng, 0.1, 0.22, n),
                canvas.uniform(rng, 0.2, 0.85, n),
            )
            windows = (np.sin(x * 42) * np.sin(y * 42) > 0.35) * 0.5
            image = canvas.over(image, canvas.cover(d), wall * (1 + windows[..., None]))
    image = canvas.over(image, canvas.cover(rolling - y), ground(floor, n, rng) * lit)
    if kind == "forest":
        for _ in range(7):
            cx, top = canvas.uniform(rng, -1, 1, n), canvas.uniform(rng, -0.8, -0.2, n)
            green = lit * canvas.hsv(
                canvas.uniform(rng, 0.25, 0.42, n), canvas.uniform(rng, 0.4, 0.8, n), canvas.uniform(rng, 0.2, 0.5, n)
            )
            image = canvas.over(
                image, canvas.cover(np.maximum(np.abs(x - cx) - (y - top) * 0.28, y - top - 1.1) * 0.9), green
            )
    elif kind == "road":
        centre = canvas.uniform(rng, -0.4, 0.4, n)
        across = np.abs(x - centre * (1 - (y - horizon))) - (y - horizon) * 0.55
        image = canvas.over(
            image, canvas.cover(np.maximum(across, horizon - y)), lit * canvas.colours(n, rng, (0, 0.1), (0.25, 0.45))
        )
        image = canvas.over(
            image,
            canvas.cover(np.maximum(across + (y - horizon) * 0.51, horizon - y)) * (np.sin(y * 18) > 0),
            np.full((n, 1, 1, 3), lit),
        )
    elif kind == "island":
        hill = (
            np.hypot((x - canvas.uniform(rng, -0.4, 0.4, n)) * 1.2, (y - horizon) * 2)
            - canvas.uniform(rng, 0.35, 0.6, n)
        ) * 0.5
        image = canvas.over(image, canvas.cover(np.maximum(hill, y - horizon - 0.08)), ground("grass", n, rng) * lit)
    elif kind == "field":
        rows = np.sin((x + canvas.uniform(rng, -0.5, 0.5, n)) / (np.abs(y - horizon) + 0.12) * 3.5)
        image = canvas.over(
            image,
            canvas.cover(rolling - y) * canvas.smoothstep(rows) * 0.6,
            lit * canvas.hsv(canvas.uniform(rng, 0.12, 0.2, n), 0.7, 0.75),
        )
    return image


LIGHTS = {
    "day": (0.57, 0.45, 0.95),
    "dawn": (0.93, 0.35, 0.75),
    "dusk": (0.06, 0.7, 0.55),
    "night": (0.65, 0.7, 0.16),
    "overcast": (0.6, 0.05, 0.7),
    "storm": (0.5, 0.2, 0.35),
}


def _light(light: str, n: int, rng: Rng) -> Array:
    image = np.empty((n, canvas.SIZE, canvas.SIZE, 3), dtype=np.float32)
    for kind, part in zip(LAND, canvas.parts(n, len(LAND), rng), strict=True):
        if len(part):
            image[part] = _landscape(kind, len(part), rng, LIGHTS[light])
    return image * canvas.uniform(rng, 0.75, 1.25, n)[..., None]


WEATHER = ["clear", "rain", "snowfall", "fog", "dust", "lens_flare"]


def _weather(kind: str, n: int, rng: Rng) -> Array:
    image = _light("day", n, rng)
    x, y = canvas.grid()
    fx, fy = canvas.frequencies()
    if kind == "rain":
        along, across = canvas.rotate(fx, fy, canvas.uniform(rng, -0.3, 0.3, n))
        drops = canvas.filtered_noise(n, rng, np.exp(-(across**2) / 12 - along**2 / 250))
        image = image * 0.75 + 0.3 * (drops > 1.1)[..., None]
    elif kind == "snowfall":
        image = canvas.over(
            image * 0.9,
            canvas.smoothstep(canvas.smooth_noise(n, rng, 9) * 1.5 - 2.0),
            np.ones((n, 1, 1, 3), dtype=np.float32),
        )
    elif kind == "fog":
        veil = np.clip(canvas.uniform(rng, 0.45, 0.75, n) + 0.1 * canvas.smooth_noise(n, rng, 1.5), 0, 1)
        image = canvas.over(image, veil, canvas.colours(n, rng, (0, 0.08), (0.65, 0.9)))
    elif kind == "dust":
        veil = np.clip(canvas.uniform(rng, 0.35, 0.6, n) + 0.12 * canvas.power_noise(n, rng, 1.2), 0, 1)
        image = canvas.over(
            image,
            veil,
            canvas.hsv(
                canvas.uniform(rng, 0.07, 0.12, n), canvas.uniform(rng, 0.35, 0.6, n), canvas.uniform(rng, 0.55, 0.8, n)
            ),
        )
    elif kind == "lens_flare":
        r = np.hypot(x - canvas.uniform(rng, -0.8, 0.8, n), y - canvas.uniform(rng, -0.9, 0, n))
        image = image + (np.exp(-r * 5) + 0.25 * np.exp(-((r - 0.6) ** 2) * 150))[..., None]
    return image


def _companions(k: int, n: int, rng: Rng) -> Array:
    """K objects of any kinds on any ground."""
    image = _any_ground(n, rng)
    spots = canvas.scatter_cells(n, rng, k, 2, 0.3)
    for i in range(k):
        for name, part in zip(OBJECTS, canvas.parts(n, len(OBJECTS), rng), strict=True):
            if len(part):
                for mask, colour in thing(name, len(part), rng, (0.34, 0.42), 0.0):
                    image[part] = canvas.over(image[part], canvas.sample(mask, *_moved(spots[part, i])), colour)
    return image


def _moved(spot: Array) -> tuple[Array, Array]:
    x, y = canvas.grid()
    return x - canvas.column(spot[:, 0]) + 0 * y, y - canvas.column(spot[:, 1]) + 0 * x


TASKS = family(
    "scenes",
    "natural",
    [
        ("object", "plain", "Which object stands on any ground.", OBJECTS, by_class(_object, OBJECTS)),
        (
            "object_dim",
            "lighting",
            "Which object stands on any unevenly lit ground.",
            OBJECTS[:10],
            by_class(_object, OBJECTS[:10]),
        ),
        (
            "object_hidden",
            "occlusion",
            "Which partly covered object it is.",
            OBJECTS[:10],
            by_class(_object, OBJECTS[:10]),
        ),
        ("ground", "noise", "Which ground an object stands on.", GROUNDS, by_class(_with_object, GROUNDS)),
        ("ground_grey", "grey", "Which ground it is, without colour.", GROUNDS, by_class(_with_object, GROUNDS)),
        ("landscape", "blur", "Which landscape it is.", LAND, by_class(_landscape, LAND)),
        ("light", "low_contrast", "Which time of day it is.", list(LIGHTS), by_class(_light, list(LIGHTS))),
        ("weather", "plain", "Which weather it is.", WEATHER, by_class(_weather, WEATHER)),
        (
            "companions",
            "clutter",
            "How many objects there are.",
            ["one", "two", "three", "four"],
            by_class(_companions, [1, 2, 3, 4]),
        ),
    ],
)
