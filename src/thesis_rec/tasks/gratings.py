"""Stripes: direction, spacing, profile, geometry."""

from collections.abc import Callable

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named, numbered
from thesis_rec.tasks.canvas import Array, Rng


def _wave(phase: Array) -> Array:
    return 0.5 + 0.5 * np.sin(phase)


def _stripes(n: int, rng: Rng, angle: Array, cycles: Array) -> Array:
    x, y = canvas.grid()
    along, _ = canvas.rotate(x, y, angle)
    return _wave(along * cycles * np.pi + canvas.uniform(rng, 0, 2 * np.pi, n))


def _orientation(k: int, n: int, rng: Rng, steps: int = 8, spread: float = 0.35) -> Array:
    angle = (k + rng.uniform(-spread, spread, (n, 1, 1))) * np.pi / steps
    return _stripes(n, rng, angle, canvas.uniform(rng, 2.0, 6.5, n))


def _frequency(k: int, n: int, rng: Rng, steps: int = 8) -> Array:
    cycles = 1.3 * (8.5 / 1.3) ** ((k + rng.uniform(0.1, 0.9, (n, 1, 1))) / steps)
    return _stripes(n, rng, canvas.uniform(rng, 0, np.pi, n), cycles)


def _plaid(k: int, n: int, rng: Rng) -> Array:
    """Two gratings crossing at (k + 1) * 15 degrees."""
    angle = canvas.uniform(rng, 0, np.pi, n)
    cross = np.deg2rad((k + 1) * 15 + rng.uniform(-4, 4, (n, 1, 1)))
    cycles = canvas.uniform(rng, 3, 6, n)
    return (
        _stripes(n, rng, angle, cycles) + _stripes(n, rng, angle + cross, cycles * canvas.uniform(rng, 0.9, 1.1, n))
    ) / 2


PROFILES: dict[str, Callable[[Array], Array]] = {
    "sine": lambda t: 0.5 + 0.5 * np.sin(2 * np.pi * t),
    "square": lambda t: canvas.smoothstep((np.abs(t - 0.5) - 0.25) * 8 + 0.5),
    "saw": lambda t: t,
    "thin_lines": lambda t: np.exp(-((t - 0.5) ** 2) / 0.008),
    "double_lines": lambda t: np.exp(-((t - 0.3) ** 2) / 0.006) + np.exp(-((t - 0.65) ** 2) / 0.006),
    "staircase": lambda t: np.floor(t * 3) / 2,
    "wide_bars": lambda t: canvas.smoothstep((np.abs(t - 0.5) - 0.1) * 8 + 0.5),
}


def _profile(name: str, n: int, rng: Rng) -> Array:
    x, y = canvas.grid()
    along, _ = canvas.rotate(x, y, canvas.uniform(rng, 0, 2 * np.pi, n))
    t = np.mod(along * canvas.uniform(rng, 1.0, 2.0, n) + canvas.uniform(rng, 0, 1, n), 1)
    return PROFILES[name](t)


def _geometry(name: str, n: int, rng: Rng) -> Array:
    u, v, _ = canvas.frame(n, rng, (0.9, 1.1), 0.45)
    rho, theta = np.hypot(u, v), np.arctan2(v, u)
    pitch, spokes = canvas.uniform(rng, 8, 15, n), canvas.column(rng.integers(4, 9, n))
    phase = {
        "parallel": lambda: u * pitch,
        "rings": lambda: rho * pitch,
        "spokes": lambda: theta * spokes,
        "spiral": lambda: rho * pitch + theta * column_sign(n, rng) * np.minimum(spokes, 3),
        "log_spiral": lambda: np.log(rho + 0.05) * 5 + theta * column_sign(n, rng) * spokes,
        "hyperbolic": lambda: u * v * pitch * 1.5,
        "waves": lambda: u * pitch + 2.5 * np.sin(v * 5),
        "chirp": lambda: np.sign(u) * np.abs(u + 1.2) ** 2 * pitch * 0.6,
        "ellipses": lambda: np.hypot(u * 2.2, v) * pitch * 0.8,
        "fan": lambda: np.arctan2(v, u + 1.8) * 24,
    }[name]()
    return _wave(phase + canvas.uniform(rng, 0, 2 * np.pi, n))


def column_sign(n: int, rng: Rng) -> Array:
    """Draw n signs, (n, 1, 1)."""
    return canvas.column(rng.integers(0, 2, n) * 2 - 1)


def _gabor(k: int, n: int, rng: Rng) -> Array:
    """A small patch of stripes in noise; class is the direction."""
    x, y = canvas.grid()
    u, v = x - canvas.uniform(rng, -0.5, 0.5, n), y - canvas.uniform(rng, -0.5, 0.5, n)
    angle = (k + rng.uniform(-0.3, 0.3, (n, 1, 1))) * np.pi / 6
    along, _ = canvas.rotate(u, v, angle)
    patch = np.exp(-(u**2 + v**2) / canvas.uniform(rng, 0.06, 0.15, n)) * np.sin(along * canvas.uniform(rng, 9, 16, n))
    return np.clip(0.5 + 0.45 * patch + 0.09 * canvas.power_noise(n, rng, 0.5), 0, 1)


def _curvature(k: int, n: int, rng: Rng) -> Array:
    u, v, _ = canvas.frame(n, rng, (1.0, 1.0), 0.3)
    bend = (k + rng.uniform(-0.3, 0.3, (n, 1, 1))) * 0.32
    return _wave((u + bend * v * v * 1.2) * canvas.uniform(rng, 7, 13, n) + canvas.uniform(rng, 0, 6, n))


def _contour(k: int, n: int, rng: Rng) -> Array:
    """Stripes whose direction k applies inside a region only; outside they run crosswise."""
    angle = (k + rng.uniform(-0.25, 0.25, (n, 1, 1))) * np.pi / 6
    cycles = canvas.uniform(rng, 4, 7, n)
    u, v, size = canvas.frame(n, rng, (0.55, 0.75), 0.2)
    inside = canvas.cover(canvas.disc(u, v, 1) * size)
    other = angle + np.pi / 2 + canvas.uniform(rng, -0.5, 0.5, n)
    return inside * _stripes(n, rng, angle, cycles) + (1 - inside) * _stripes(n, rng, other, cycles)


GEOMETRIES = ["parallel", "rings", "spokes", "spiral", "log_spiral", "hyperbolic", "waves", "chirp", "ellipses", "fan"]
SIX = [f"{k * 30}_degrees" for k in range(6)]
TASKS = family(
    "gratings",
    "structured",
    [
        (
            "orientation",
            "noise",
            "Which way the stripes run.",
            _orientation,
            {f"{k * 22.5:g}_degrees": k for k in range(8)},
        ),
        ("frequency", "lighting", "How fine the stripes are.", _frequency, named("spacing_{}", range(8))),
        (
            "plaid",
            "plain",
            "At which angle two gratings cross.",
            _plaid,
            {f"{15 * (k + 1)}_degrees": k for k in range(6)},
        ),
        ("profile", "blur", "Which brightness profile the stripes have.", _profile, list(PROFILES)),
        ("geometry", "clutter", "Along which curves the stripes run.", _geometry, GEOMETRIES),
        ("gabor", "low_contrast", "Which way a faint patch's stripes run.", _gabor, numbered(SIX)),
        ("curvature", "occlusion", "How bent the stripes are.", _curvature, named("bend_{}", range(6))),
        ("region", "grey", "Which way the stripes of the inner region run.", _contour, numbered(SIX)),
    ],
)
