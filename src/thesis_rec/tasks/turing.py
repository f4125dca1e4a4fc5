"""Turing patterns from the Swift-Hohenberg equation (Swift and Hohenberg, Phys. Rev. A 15, 1977).

u_t = r u - (1 + L)^2 u + g u^2 - u^3, L the Laplacian scaled by the wavelength; stepped semi-implicitly in Fourier
space. r and g decide between stripes, hexagonal spots, holes and labyrinths, as feed and kill rates do in Gray-Scott's
reaction-diffusion model.
"""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng

FIELD = 64


def _evolve(
    n: int,
    rng: Rng,
    g: float,
    r: float = 0.4,
    wavelength: float = 7.5,
    steps: int = 26,
    bias: tuple[float, float] = (1.0, 0.0),
) -> Array:
    """Grow patterns and cut n windows out of them.

    Args:
        n: Windows.
        rng: Randomness.
        g: Quadratic term: 0 stripes, positive spots, negative holes.
        r: Distance from the onset.
        wavelength: In pixels.
        steps: Of size 1; few steps leave defects.
        bias: Stretch of wave numbers and direction (radians): makes stripes align.

    Returns:
        (n, 32, 32) in 0..1.
    """
    from scipy import fft

    fields = -(-n // 6)
    fx, fy = canvas.frequencies(FIELD)
    along, across = canvas.rotate(fx, fy, bias[1] + canvas.uniform(rng, -0.12, 0.12, fields))
    lengths = wavelength * canvas.uniform(rng, 0.88, 1.12, fields)
    k2 = ((along / bias[0]) ** 2 + (across * bias[0]) ** 2) * (lengths / FIELD) ** 2
    divisor = (1 / (1 + 1.0 - r + (1 - np.minimum(k2, 6)) ** 2)).astype(np.float32)
    u = rng.normal(0, 0.3, (fields, FIELD, FIELD)).astype(np.float32)
    for _ in range(steps):
        # The linear part is implicit with one unit of extra damping, the rest explicit.
        u = fft.irfft2(fft.rfft2(2 * u + g * u**2 - u**3) * divisor, s=(FIELD, FIELD))
        u = np.clip(u, -3, 3)
    windows = np.empty((n, canvas.SIZE, canvas.SIZE), dtype=np.float32)
    corner = rng.integers(0, FIELD - canvas.SIZE + 1, (n, 2))
    for i in range(n):
        a, b = corner[i]
        windows[i] = u[i % fields, a : a + canvas.SIZE, b : b + canvas.SIZE]
    flip = rng.random((n, 1, 1)) < 0.5
    if bias[0] == 1.0:
        windows = np.where(flip, windows[:, :, ::-1], windows)
    return canvas.normalise(windows)


REGIMES = {
    "stripes": (0.0, 0.5, 26),
    "spots": (1.4, 0.25, 26),
    "holes": (-1.4, 0.25, 26),
    "spots_and_stripes": (0.55, 0.35, 26),
    "holes_and_stripes": (-0.55, 0.35, 26),
    "onset": (0.0, 0.1, 5),
}
G = [-1.3, -0.7, -0.3, 0.3, 0.7, 1.3]
LENGTHS = [4.2, 5.4, 6.8, 8.6, 11.0, 14.0]
TASKS = family(
    "turing",
    "natural",
    [
        (
            "regime",
            "plain",
            "Which pattern the reaction forms.",
            lambda c, n, rng: _evolve(n, rng, c[0], c[1], steps=c[2]),
            REGIMES,
        ),
        (
            "wavelength",
            "lighting",
            "How wide the pattern's waves are.",
            lambda w, n, rng: _evolve(n, rng, 0.15, wavelength=w),
            named("{:g}_pixels", LENGTHS),
        ),
        (
            "balance",
            "blur",
            "How far holes turn into spots.",
            lambda g, n, rng: _evolve(n, rng, g, 0.3, 7.0),
            named("balance_{:g}", G),
        ),
        (
            "time",
            "noise",
            "How long the pattern has grown.",
            lambda s, n, rng: _evolve(n, rng, 0.1, 0.35, 7.0, s),
            named("after_{}", [1, 3, 6, 12, 30]),
        ),
        (
            "direction",
            "low_contrast",
            "Which way most stripes run.",
            lambda k, n, rng: _evolve(n, rng, 0.1, 0.3, 7.0, 18, (1.22, k * np.pi / 6)),
            {f"{k * 30}_degrees": k for k in range(6)},
        ),
        (
            "spots_width",
            "occlusion",
            "How wide the spots are.",
            lambda w, n, rng: _evolve(n, rng, 1.3, 0.25, w),
            named("{:g}_pixels", LENGTHS),
        ),
    ],
)
