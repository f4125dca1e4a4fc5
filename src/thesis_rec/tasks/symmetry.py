"""Symmetry: mirror axes, rotation orders, friezes, wallpapers, kaleidoscopes."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng


def _motif(n: int, rng: Rng, size: int = 48, cycles: float = 5) -> Array:
    """Random motifs without symmetry, in 0..1."""
    field = canvas.smooth_noise(n, rng, cycles, size)
    return canvas.smoothstep(field * canvas.uniform(rng, 0.6, 2.0, n) + 0.5)


def _centre(n: int, rng: Rng, shift: float = 0.12) -> tuple[Array, Array]:
    x, y = canvas.grid()
    return x - canvas.uniform(rng, -shift, shift, n), y - canvas.uniform(rng, -shift, shift, n)


def _mirror(k: int, n: int, rng: Rng, steps: int = 6) -> Array:
    """Patterns that are their own mirror image; the class is the axis."""
    u, v = _centre(n, rng)
    u, v = canvas.rotate(u, v, (k + rng.uniform(-0.2, 0.2, (n, 1, 1))) * np.pi / steps)
    return canvas.sample(_motif(n, rng), np.abs(u) * 0.75, v * 0.75)


def _rotation(order: int, n: int, rng: Rng, mirrored: bool = False) -> Array:
    """Patterns of rotation order `order` (cyclic, or dihedral when mirrored)."""
    u, v = _centre(n, rng)
    rho, angle = np.hypot(u, v), np.arctan2(v, u) + canvas.uniform(rng, 0, 2 * np.pi, n)
    # Harmonics of the order only; amplitudes depend on the radius.
    field = np.zeros(u.shape, dtype=np.float32)
    for k in (1, 2, 3):
        phase = 0.0 if mirrored else canvas.uniform(rng, 0, 2 * np.pi, n) + rho * canvas.uniform(rng, -4, 4, n)
        field = (
            field
            + np.cos(k * order * angle + phase)
            * np.cos(rho * canvas.uniform(rng, 2, 9, n) + canvas.uniform(rng, 0, 6.3, n))
            / k**0.7
        )
    return canvas.smoothstep(field * canvas.uniform(rng, 0.7, 1.5, n) + 0.5) * canvas.cover(rho - 0.95)


KINDS = ["none", "mirror", "half_turn", "quarter_turn", "two_mirrors", "translation", "glide"]


def _kind(kind: str, n: int, rng: Rng) -> Array:
    u, v = _centre(n, rng)
    if kind not in ("translation", "glide"):
        u, v = canvas.rotate(u, v, canvas.uniform(rng, 0, 2 * np.pi, n))
    motif = _motif(n, rng)
    if kind == "mirror":
        u = np.abs(u)
    elif kind == "half_turn":
        u, v = np.where(v < 0, -u, u), np.abs(v)
    elif kind == "quarter_turn":
        for _ in range(3):
            away = (u < 0) | (v < 0)
            u, v = np.where(away, v, u), np.where(away, -u, v)
    elif kind == "two_mirrors":
        u, v = np.abs(u), np.abs(v)
    elif kind in ("translation", "glide"):
        half = canvas.uniform(rng, 0.45, 0.6, n)
        cell = np.floor(u / half)
        u = u - cell * half - half / 2
        if kind == "glide":
            v = np.where(np.mod(cell, 2) > 0, -v, v)
    return canvas.sample(motif, u * 0.7, v * 0.7)


FRIEZES = ["p1", "p11g", "p1m1", "p2", "p2mg", "p11m", "p2mm"]


def _frieze(group: str, n: int, rng: Rng) -> Array:
    """The seven frieze groups: strips that repeat along x."""
    u, v = _centre(n, rng, 0.3)
    u, v = canvas.rotate(u, v, canvas.uniform(rng, -0.12, 0.12, n))
    width = canvas.uniform(rng, 0.65, 0.9, n)
    t = np.mod(u / width, 1)
    w = v
    if group == "p11g":
        w = np.where(t >= 0.5, -v, v)
        t = np.mod(t, 0.5)
    elif group == "p1m1":
        t = np.abs(t - 0.5)
    elif group == "p2":
        w = np.where(t >= 0.5, -v, v)
        t = np.where(t >= 0.5, 1 - t, t)
    elif group == "p2mg":
        w = np.where(t >= 0.5, -v, v)
        t = np.abs(np.mod(t, 0.5) - 0.25)
    elif group == "p11m":
        w = np.abs(v)
    elif group == "p2mm":
        t, w = np.abs(t - 0.5), np.abs(v)
    strip = canvas.cover(np.abs(v) - 0.62)
    return canvas.sample(_motif(n, rng, 48, 4), (t - 0.5) * 1.1, w * 0.7) * strip


WALLPAPERS = ["p1", "p2", "pm", "pg", "pmm", "p4", "p4m", "p3"]


def _wallpaper(group: str, n: int, rng: Rng) -> Array:
    """Sums of plane waves, made symmetric under the group's point operations."""
    u, v = _centre(n, rng, 1.0)
    waves = np.zeros((n, canvas.SIZE, canvas.SIZE), dtype=np.float32)
    cell = canvas.uniform(rng, 3.6, 4.8, n)
    for _ in range(5):
        k = rng.integers(-3, 4, (2, n, 1, 1)).astype(np.float32)
        k[0] += (k[0] == 0) & (k[1] == 0)
        phase, amplitude = canvas.uniform(rng, 0, 2 * np.pi, n), canvas.uniform(rng, 0.5, 1, n)

        def wave(p: Array, q: Array, k: Array = k, phase: Array = phase, amplitude: Array = amplitude) -> Array:
            return amplitude * np.cos((k[0] * p + k[1] * q) * cell + phase)

        orbit: list[tuple[Array, Array]] = [(u, v)]
        if group in ("p2", "pmm", "p4", "p4m"):
            orbit.append((-u, -v))
        if group in ("pm", "pmm", "p4m"):
            orbit += [(-p, q) for p, q in list(orbit)]
        if group == "pg":
            orbit.append((-u, v + np.pi / cell))
        if group in ("p4", "p4m"):
            orbit += [(-q, p) for p, q in list(orbit)]
        if group == "p3":
            # Waves on a hexagonal lattice, turned by thirds.
            s = np.sqrt(3) / 2
            p, q = u, (u * 0.5 + v) / s * 0.5
            orbit = [(p, q)] + [
                (
                    np.cos(a) * u - np.sin(a) * v,
                    ((np.cos(a) * u - np.sin(a) * v) * 0.5 + np.sin(a) * u + np.cos(a) * v) / s * 0.5,
                )
                for a in (2 * np.pi / 3, 4 * np.pi / 3)
            ]
        waves = waves + sum(wave(p, q) for p, q in orbit)
    return canvas.smoothstep(canvas.standardise(waves) * 0.6 + 0.5)


def _broken(share: float, n: int, rng: Rng) -> Array:
    """A mirror pattern of which a growing share is not mirrored."""
    u, v = _centre(n, rng, 0.08)
    u, v = canvas.rotate(u, v, canvas.uniform(rng, -0.1, 0.1, n))
    motif = _motif(n, rng, 48, 4)
    whole = canvas.sample(motif, np.abs(u) * 0.8, v * 0.8)
    other = canvas.sample(_motif(n, rng, 48, 4), u * 0.8, v * 0.8)
    region = (
        canvas.smoothstep((share * 2 - 1 - v * canvas.column(rng.integers(0, 2, n) * 2 - 1)) * 4 + 0.5)
        if 0 < share < 1
        else np.full_like(whole, share)
    )
    return np.where(u > 0, whole * (1 - region) + other * region, whole)


ORDERS = [2, 3, 4, 5, 6, 8]
TASKS = family(
    "symmetry",
    "structured",
    [
        (
            "mirror_axis",
            "lighting",
            "Along which axis the pattern is mirrored.",
            _mirror,
            {f"{k * 30}_degrees": k for k in range(6)},
        ),
        ("rotation", "plain", "Of which order the rotational symmetry is.", _rotation, named("order_{}", ORDERS)),
        (
            "kaleidoscope",
            "noise",
            "Of which order the kaleidoscope is.",
            lambda k, n, rng: _rotation(k, n, rng, True),
            named("order_{}", ORDERS),
        ),
        ("kind", "grey", "Which symmetry the pattern has.", _kind, KINDS),
        ("frieze", "plain", "Which frieze group it is.", _frieze, FRIEZES),
        ("wallpaper", "blur", "Which wallpaper group it is.", _wallpaper, WALLPAPERS),
        (
            "broken",
            "low_contrast",
            "How far the mirror symmetry is broken.",
            _broken,
            {"whole": 0.0, "quarter": 0.25, "half": 0.5, "broken": 1.0},
        ),
    ],
)
