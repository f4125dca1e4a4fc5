"""Flow pictures: vector fields made visible by line integral convolution (Cabral and Leedom, SIGGRAPH 1993)."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng

FIELDS = ["uniform", "vortex", "spread", "saddle", "shear", "spiral", "vortex_pair", "dipole", "jet"]


def _field(kind: str, u: Array, v: Array) -> tuple[Array, Array]:
    rho2 = u**2 + v**2 + 0.02
    one, zero = np.ones_like(u), np.zeros_like(u)
    if kind == "uniform":
        return one, zero
    if kind == "vortex":
        return -v, u
    if kind == "spread":
        return u, v
    if kind == "saddle":
        return u, -v
    if kind == "shear":
        return one, np.sin(u * 3.2)
    if kind == "spiral":
        return u - v, u + v
    if kind == "vortex_pair":
        a, b = np.exp(-((u - 0.5) ** 2 + v**2) * 3), np.exp(-((u + 0.5) ** 2 + v**2) * 3)
        return -v * a + v * b, (u - 0.5) * a - (u + 0.5) * b
    if kind == "dipole":
        return (u**2 - v**2) / rho2, 2 * u * v / rho2
    return np.exp(-(v**2) * 9) + 0.02, 0.5 * np.sign(v) * np.exp(-np.abs(v) * 2)


def _smear(p: Array, q: Array, n: int, rng: Rng, steps: int = 6) -> Array:
    """Average noise along the field's lines, both ways."""
    # Positions are in pixels and looked up in the nearest one: blur follows anyway.
    length = (np.sqrt(p**2 + q**2) + 1e-6) / 0.9
    p, q = (np.ascontiguousarray(a / length, dtype=np.float32).reshape(-1) for a in (p, q))
    noise = canvas.normalise(canvas.power_noise(n, rng, 0.2))
    flat, size = noise.reshape(-1), canvas.SIZE
    start = (np.arange(n, dtype=np.int32) * size * size)[:, None, None]
    rows, columns = (a.astype(np.float32)[None] for a in np.mgrid[:size, :size])
    total = noise.copy()
    for sign in (np.float32(1), np.float32(-1)):
        x, y = np.repeat(columns, n, axis=0), np.repeat(rows, n, axis=0)
        where = start + (np.rint(y) * size + np.rint(x)).astype(np.int32)
        for _ in range(steps):
            x, y = np.clip(x + sign * p[where], 0, size - 1), np.clip(y + sign * q[where], 0, size - 1)
            where = start + (np.rint(y) * size + np.rint(x)).astype(np.int32)
            total += flat[where]
    return np.clip(canvas.standardise(total) * 0.28 + 0.5, 0, 1)


def _turned(kind: str, n: int, rng: Rng, angle: Array, shift: float = 0.25) -> tuple[Array, Array]:
    x, y = canvas.grid()
    u, v = canvas.rotate(x - canvas.uniform(rng, -shift, shift, n), y - canvas.uniform(rng, -shift, shift, n), angle)
    p, q = _field(kind, u, v)
    return canvas.rotate(p, q, -angle)


def _kind(kind: str, n: int, rng: Rng) -> Array:
    p, q = _turned(kind, n, rng, canvas.uniform(rng, 0, 2 * np.pi, n))
    wobble = [canvas.smooth_noise(n, rng, 1.5) * 0.08 for _ in range(2)]
    return _smear(p + wobble[0], q + wobble[1], n, rng)


def _arrows(kind: str, n: int, rng: Rng) -> Array:
    """The same fields as a board of short needles with thick heads."""
    p, q = _turned(kind, n, rng, canvas.uniform(rng, 0, 2 * np.pi, n))
    x, y = canvas.grid()
    length = np.sqrt(p**2 + q**2) + 1e-6
    d = np.full((n, canvas.SIZE, canvas.SIZE), 9.0, dtype=np.float32)
    for i in range(3, canvas.SIZE, 6):
        for j in range(3, canvas.SIZE, 6):
            cx, cy = x[0, 0, j], y[0, i, 0]
            dx, dy = (canvas.column((a / length)[:, i, j]) * 0.13 for a in (p, q))
            d = np.minimum(d, canvas.segment(x, y, cx - dx, cy - dy, cx + dx, cy + dy) - 0.02)
            d = np.minimum(d, canvas.disc(x - cx - dx * 0.8, y - cy - dy * 0.8, 0.06))
    return canvas.cover(d)


def _direction(k: int, n: int, rng: Rng) -> Array:
    p, q = _turned("shear", n, rng, (k + rng.uniform(-0.25, 0.25, (n, 1, 1))) * np.pi / 6, 0.6)
    return _smear(p, q, n, rng)


def _turbulence(k: int, n: int, rng: Rng) -> Array:
    """From laminar to turbulent: share of a random stream function."""
    share = [0.0, 0.3, 0.7, 1.5, 5.0][k]
    stream = canvas.smooth_noise(n, rng, 3)
    gy, gx = np.gradient(stream, axis=(1, 2))
    angle = canvas.uniform(rng, 0, 2 * np.pi, n)
    return _smear(np.cos(angle) + share * gy * 2.5, np.sin(angle) - share * gx * 2.5, n, rng)


def _vortices(k: int, n: int, rng: Rng) -> Array:
    """K whirls in a weak stream."""
    x, y = canvas.grid()
    p = np.full((n, canvas.SIZE, canvas.SIZE), 0.12, dtype=np.float32)
    q = np.zeros_like(p)
    spots = canvas.scatter_cells(n, rng, k, 3 if k > 2 else 2, 0.3) if k else np.zeros((n, 0, 2))
    for i in range(k):
        u, v = x - canvas.column(spots[:, i, 0]) * 0.85, y - canvas.column(spots[:, i, 1]) * 0.85
        sign = canvas.column(rng.integers(0, 2, n) * 2 - 1)
        g = np.exp(-(u**2 + v**2) * 7) * sign * 4
        p, q = p - v * g, q + u * g
    return _smear(p, q, n, rng)


def _hair(kind: str, n: int, rng: Rng) -> Array:
    """Fingerprint-like ridges around singular points: loop, whorl, arch, delta."""
    u, v, _ = canvas.frame(n, rng, (0.9, 1.1), 0.2, 0.4)
    angle = np.arctan2(v, u)
    theta = {
        "loop": 0.5 * np.arctan2(v, u),
        "whorl": angle + np.pi / 2,
        "arch": 0.9 * np.exp(-(u**2) * 2) * np.sign(u) * np.exp(-((v - 0.2) ** 2)),
        "delta": -0.5 * angle,
        "double_loop": 0.5 * np.arctan2(v - 0.4, u) + 0.5 * np.arctan2(v + 0.4, u),
        "plain": 0.2 * u,
    }[kind]
    lines = _smear(np.cos(theta), np.sin(theta), n, rng, 8)
    return canvas.smoothstep((lines - 0.5) * 2.2 + 0.5)


PRINTS = ["loop", "whorl", "arch", "delta", "double_loop", "plain"]
TASKS = family(
    "flow",
    "natural",
    [
        ("kind", "plain", "Which flow it is.", _kind, FIELDS),
        ("kind_lit", "lighting", "Which unevenly lit flow it is.", _kind, FIELDS),
        ("needles", "clutter", "Which flow the needles show.", _arrows, FIELDS),
        (
            "direction",
            "low_contrast",
            "Which way the flow runs.",
            _direction,
            {f"{k * 30}_degrees": k for k in range(6)},
        ),
        ("turbulence", "noise", "How turbulent the flow is.", _turbulence, named("level_{}", range(5))),
        ("vortices", "grey", "How many whirls there are.", _vortices, named("{}_whirls", range(5))),
        ("prints", "occlusion", "Which kind of fingerprint it is.", _hair, PRINTS),
    ],
)
