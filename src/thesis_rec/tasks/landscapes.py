"""Landscapes at different times of day and in different weather."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.grounds import ground

LAND = ["mountains", "sea", "desert", "city", "forest", "field", "road", "island"]


def landscape(kind: str, n: int, rng: Rng, light: tuple[float, float, float] | None = None) -> Array:
    """Landscapes of one kind, (n, 32, 32, 3); `light` is (sky hue, sky saturation, brightness)."""
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
            green = lit * canvas.colours(n, rng, (0.4, 0.8), (0.2, 0.5), hue=(0.25, 0.42))
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


def lit_landscape(light: str, n: int, rng: Rng) -> Array:
    """Landscapes of any kind at one time of day, (n, 32, 32, 3)."""
    image = canvas.of_all_kinds(n, rng, LAND, lambda kind, count: landscape(kind, count, rng, LIGHTS[light]))
    return image * canvas.uniform(rng, 0.75, 1.25, n)[..., None]


WEATHER = ["clear", "rain", "snowfall", "fog", "dust", "lens_flare"]


def weathered_landscape(kind: str, n: int, rng: Rng) -> Array:
    """Landscapes of any kind by day in one kind of weather, (n, 32, 32, 3)."""
    image = lit_landscape("day", n, rng)
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
            canvas.colours(n, rng, (0.35, 0.6), (0.55, 0.8), hue=(0.07, 0.12)),
        )
    elif kind == "lens_flare":
        r = np.hypot(x - canvas.uniform(rng, -0.8, 0.8, n), y - canvas.uniform(rng, -0.9, 0, n))
        image = image + (np.exp(-r * 5) + 0.25 * np.exp(-((r - 0.6) ** 2) * 150))[..., None]
    return image
