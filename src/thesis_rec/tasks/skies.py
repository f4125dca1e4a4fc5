"""Skies over land and water: the hour, the season and the light, told by colour."""

import numpy as np

from thesis_rec.tasks import canvas, tints
from thesis_rec.tasks.base import family
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.tints import Tint


def _height(n: int, rng: Rng) -> tuple[Array, Array]:
    """Height of the sky's pixels over the horizon (0 there, 1 on top) and coverage of the land, each (n, 32, 32)."""
    x, y = canvas.grid()
    bends, phase = canvas.uniform(rng, 1, 4, n), canvas.uniform(rng, 0, 6.3, n)
    skyline = canvas.uniform(rng, 0.1, 0.7, n) + canvas.uniform(rng, 0, 0.15, n) * np.sin(x * bends + phase)
    return np.clip((skyline - y) / (skyline + 1), 0, 1), canvas.cover(skyline - y)


def _any_sky(n: int, rng: Rng) -> Array:
    """Sky colours of any hour, one per image, (n, 1, 1, 3)."""
    return canvas.colours(n, rng, (0.0, 0.6), (0.35, 0.95), hue=(0.45, 1.15))


def _land(n: int, rng: Rng) -> Array:
    """Land of any colour, (n, 32, 32, 3)."""
    return tints.grained(canvas.colours(n, rng, (0.1, 0.7), (0.1, 0.7)), n, rng, 0.2)


def _silhouettes(image: Array, rng: Rng) -> Array:
    """Masts, trees and roofs before the sky."""
    n = len(image)
    x, y = canvas.grid()
    for _ in range(3):
        cx, top = canvas.uniform(rng, -1, 1, n), canvas.uniform(rng, -0.5, 0.5, n)
        tower = np.maximum(np.abs(x - cx) - canvas.uniform(rng, 0.03, 0.18, n), top - y)
        crown = canvas.disc(x - cx, y - top, canvas.uniform(rng, 0.05, 0.25, n))
        image = canvas.over(
            image, canvas.cover(np.minimum(tower, crown)), canvas.colours(n, rng, (0, 0.6), (0.03, 0.35))
        )
    return image


#: Colours at the horizon, half way up and on top.
HOURS: dict[str, list[Tint]] = {
    "night": [(0.64, 0.6, 0.3), (0.66, 0.7, 0.16), (0.67, 0.8, 0.07)],
    "dawn": [(0.95, 0.35, 0.95), (0.82, 0.3, 0.75), (0.66, 0.5, 0.5)],
    "morning": [(0.14, 0.25, 0.98), (0.52, 0.15, 0.95), (0.57, 0.4, 0.85)],
    "noon": [(0.55, 0.25, 0.95), (0.58, 0.5, 0.9), (0.61, 0.65, 0.75)],
    "golden": [(0.11, 0.75, 0.98), (0.09, 0.45, 0.9), (0.06, 0.25, 0.7)],
    "sunset": [(0.05, 0.85, 0.95), (-0.03, 0.65, 0.75), (-0.2, 0.5, 0.4)],
    "overcast": [(0.6, 0.06, 0.8), (0.6, 0.08, 0.65), (0.62, 0.1, 0.5)],
}


def _hour(name: str, n: int, rng: Rng) -> Array:
    height, land = _height(n, rng)
    t = np.clip(height + 0.08 * canvas.smooth_noise(n, rng, 2), 0, 1)
    image = canvas.over(tints.between(HOURS[name], t, n, rng), land, _land(n, rng))
    return tints.lit(_silhouettes(image, rng), rng)


SUNS: dict[str, Tint] = {
    "white": (0.15, 0.05, 1.0),
    "yellow": (0.15, 0.7, 1.0),
    "orange": (0.08, 0.85, 0.98),
    "red": (0.0, 0.8, 0.85),
    "bluish": (0.58, 0.35, 0.95),
    "copper": (0.04, 0.6, 0.5),
}


def _sun(name: str, n: int, rng: Rng) -> Array:
    """A sun or moon of one colour in a sky of any colour."""
    x, y = canvas.grid()
    height, land = _height(n, rng)
    near, far = (_any_sky(n, rng) for _ in range(2))
    sky = near * (1 - height[..., None]) + far * height[..., None]
    d = np.hypot(x - canvas.uniform(rng, -0.7, 0.7, n), y - canvas.uniform(rng, -0.7, 0.1, n))
    r = canvas.uniform(rng, 0.22, 0.4, n)
    colour = tints.shade(SUNS[name], n, rng)
    sky = canvas.over(sky, 0.35 * np.exp(-np.clip(d / r - 1, 0, None)), colour)
    sky = canvas.over(sky, canvas.cover(d - r), colour)
    haze = canvas.cover(0.15 * (canvas.smooth_noise(n, rng, 2.5) + 1), 3) * 0.6
    sky = canvas.over(sky, haze, canvas.colours(n, rng, (0, 0.2), (0.5, 1)))
    return tints.lit(_silhouettes(canvas.over(sky, land, _land(n, rng)), rng), rng)


WATERS: dict[str, Tint] = {
    "deep_blue": (0.62, 0.75, 0.45),
    "turquoise": (0.49, 0.55, 0.75),
    "green": (0.36, 0.5, 0.45),
    "brown": (0.09, 0.5, 0.5),
    "grey": (0.58, 0.1, 0.5),
    "red": (0.0, 0.5, 0.5),
}


def _water(name: str, n: int, rng: Rng) -> Array:
    """Water of one colour under a sky of any colour that it mirrors a little."""
    height, land = _height(n, rng)
    near, far = (_any_sky(n, rng) for _ in range(2))
    sky = near * (1 - height[..., None]) + far * height[..., None]
    fx, fy = canvas.frequencies()
    ripples = canvas.filtered_noise(n, rng, np.exp(-(fx**2) / 12 - fy**2 / 80))
    water = tints.shade(WATERS[name], n, rng) * 0.82 + near * 0.18
    water = np.clip(water * (1 + 0.16 * ripples)[..., None], 0, 1)
    return tints.lit(_silhouettes(canvas.over(sky, land, water), rng), rng)


SEASONS: dict[str, Tint] = {
    "snow": (0.6, 0.06, 0.93),
    "spring": (0.26, 0.6, 0.7),
    "rape": (0.15, 0.8, 0.88),
    "wheat": (0.11, 0.5, 0.8),
    "lavender": (0.74, 0.4, 0.6),
    "heath": (0.93, 0.35, 0.5),
    "ploughed": (0.06, 0.45, 0.35),
}


def _season(name: str, n: int, rng: Rng) -> Array:
    """A field of one colour, hedges of other colours, and any sky."""
    x, y = canvas.grid()
    height, land = _height(n, rng)
    sky = tints.between(HOURS["noon"], height, n, rng)
    dull = (rng.random((n, 1, 1)) < 0.5)[..., None]
    sky = np.where(dull, tints.between(HOURS["overcast"], height, n, rng), sky)
    furrows = np.sin((x * canvas.uniform(rng, -3, 3, n) + 6) / (y - 1.6) * canvas.uniform(rng, 1, 3, n))
    field = np.clip(tints.shade(SEASONS[name], n, rng) * (1 + 0.12 * furrows)[..., None], 0, 1)
    hedge = canvas.cover(np.abs(y - canvas.uniform(rng, 0.3, 0.9, n) - 0.2 * x) - canvas.uniform(rng, 0.03, 0.1, n))
    field = canvas.over(field, hedge, canvas.colours(n, rng, (0.2, 0.7), (0.15, 0.5)))
    return tints.lit(_silhouettes(canvas.over(sky, land, field), rng), rng)


CLOUDS: dict[str, Tint] = {
    "white": (0.6, 0.03, 0.97),
    "slate": (0.6, 0.2, 0.4),
    "pink": (0.95, 0.35, 0.93),
    "orange": (0.07, 0.6, 0.93),
    "violet": (0.76, 0.35, 0.6),
    "sulphur": (0.15, 0.4, 0.85),
}


def _cloud(name: str, n: int, rng: Rng) -> Array:
    """Clouds of one colour in a sky of any colour."""
    height, land = _height(n, rng)
    near, far = (_any_sky(n, rng) for _ in range(2))
    sky = near * (1 - height[..., None]) + far * height[..., None]
    fx, fy = canvas.frequencies()
    puffs = canvas.filtered_noise(n, rng, np.exp(-(fx**2) / 8 - fy**2 / 24))
    cover = canvas.cover((canvas.uniform(rng, 0.1, 0.7, n) - puffs) * 0.3, 3)
    cloud = np.clip(tints.shade(CLOUDS[name], n, rng) * (1 + 0.1 * puffs)[..., None], 0, 1)
    image = canvas.over(canvas.over(sky, cover, cloud), land, _land(n, rng))
    return tints.lit(_silhouettes(image, rng), rng)


AURORAS = ["green", "red", "violet", "blue", "yellow", "white"]


def _aurora(name: str, n: int, rng: Rng) -> Array:
    """Curtains of light of one colour over a night, with lit windows of any colour below."""
    x, y = canvas.grid()
    height, land = _height(n, rng)
    sky = tints.between(HOURS["night"], height, n, rng)
    curtain = x - 0.3 * canvas.smooth_noise(n, rng, 1.5) - canvas.uniform(rng, -0.5, 0.5, n)
    foot = canvas.uniform(rng, -0.1, 0.4, n)
    rays = 0.75 + 0.25 * np.sin(x * canvas.uniform(rng, 15, 30, n) + canvas.uniform(rng, 0, 6.3, n))
    light = np.exp(-((curtain / canvas.uniform(rng, 0.2, 0.45, n)) ** 2)) * canvas.cover(y - foot, 6) * rays
    sky = canvas.over(sky, np.clip(light, 0, 1) * canvas.uniform(rng, 0.5, 0.9, n), tints.tint(name, n, rng))
    image = canvas.over(sky, land, _land(n, rng) * 0.5)
    places = canvas.scatter_cells(n, rng, 4, 4, 0.6)
    for k in range(4):
        dy = y - 0.75 - 0.2 * canvas.column(places[:, k, 1])
        window = canvas.cover(canvas.box(x - canvas.column(places[:, k, 0]), dy, 0.06, 0.06))
        image = canvas.over(image, window, canvas.colours(n, rng, (0.2, 0.9), (0.7, 1)))
    return tints.lit(image, rng)


TASKS = family(
    "skies",
    "natural",
    [
        ("hour", "noise", "Which hour the sky shows.", _hour, list(HOURS)),
        ("sun", "blur", "Which colour the sun or moon has.", _sun, list(SUNS)),
        ("water", "low_contrast", "Which colour the water has.", _water, list(WATERS)),
        ("season", "lighting", "What covers the field.", _season, list(SEASONS)),
        ("cloud", "occlusion", "Which colour the clouds have.", _cloud, list(CLOUDS)),
        ("aurora", "clutter", "Which colour the northern light has.", _aurora, AURORAS),
    ],
)
