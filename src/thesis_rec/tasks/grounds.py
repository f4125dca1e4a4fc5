"""Textured grounds of ten materials."""

from collections.abc import Callable

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.canvas import Array, Rng

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
    shift: Array = 0.5 * np.mod(np.floor(v * 3.5), 2)
    reliefs: dict[str, Callable[[], Array]] = {
        "grass": lambda: canvas.filtered_noise(n, rng, np.exp(-(fx**2) / 120 - fy**2 / 12)) * 0.22,
        "water": lambda: (
            canvas.filtered_noise(n, rng, np.exp(-(fx**2) / 8 - (fy - 0) ** 2 / 60) * np.hypot(fx, fy)) * 0.13
        ),
        "sand": lambda: (
            fine * 0.06 + np.sin(u * canvas.uniform(rng, 14, 20, n) + 2 * canvas.smooth_noise(n, rng, 1.5)) * 0.05
        ),
        "brick": lambda: fine * 0.05 - 0.35 * (np.minimum(np.mod(u * 2 + shift, 1), np.mod(v * 3.5, 1)) < 0.16),
        "wood": lambda: (
            np.sin(v * canvas.uniform(rng, 14, 20, n) + canvas.smooth_noise(n, rng, 1.2) * 1.8) * 0.16 + fine * 0.04
        ),
        "snow": lambda: canvas.power_noise(n, rng, 1.8) * 0.04 + fine * 0.012,
        "leaves": lambda: np.tanh(canvas.smooth_noise(n, rng, 6) * 3) * 0.3,
        "asphalt": lambda: canvas.power_noise(n, rng, 0.0) * 0.2,
        "fabric": lambda: np.sin(u * 38) * np.sin(v * 38) * 0.28,
        "stone": lambda: canvas.power_noise(n, rng, 1.4) * 0.22,
    }
    return np.clip(base * (1 + reliefs[kind]())[..., None], 0, 1)


def any_ground(n: int, rng: Rng) -> Array:
    """Textured grounds of all materials in equal parts, (n, 32, 32, 3)."""
    return canvas.of_all_kinds(n, rng, GROUNDS, lambda kind, count: ground(kind, count, rng))
