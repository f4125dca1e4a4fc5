"""Solids under a lamp: ray-marched distance fields with Lambert and Phong shading."""

from collections.abc import Callable

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng

Solid = Callable[[Array, Array, Array], Array]


def _cube(x: Array, y: Array, z: Array, sizes: tuple[float, float, float] = (0.6, 0.6, 0.6)) -> Array:
    d = np.stack([np.abs(a) - s for a, s in zip((x, y, z), sizes, strict=True)])
    return np.sqrt((np.maximum(d, 0) ** 2).sum(0)) + np.minimum(d.max(0), 0)


def _cylinder(x: Array, y: Array, z: Array) -> Array:
    return np.maximum(np.hypot(x, y) - 0.5, np.abs(z) - 0.75)


def _cone(x: Array, y: Array, z: Array) -> Array:
    return np.maximum(np.hypot(x, y) * 0.9 + z * 0.43 - 0.32, -z - 0.7)


def _torus(x: Array, y: Array, z: Array) -> Array:
    return np.hypot(np.hypot(x, y) - 0.6, z) - 0.25


def _octahedron(x: Array, y: Array, z: Array) -> Array:
    return (np.abs(x) + np.abs(y) + np.abs(z) - 0.95) * 0.577


def _capsule(x: Array, y: Array, z: Array) -> Array:
    return np.sqrt(x**2 + y**2 + (z - np.clip(z, -0.55, 0.55)) ** 2) - 0.33


def _cross(x: Array, y: Array, z: Array) -> Array:
    arms = [_cube(x, y, z, tuple(0.85 if i == k else 0.24 for i in range(3))) for k in range(3)]  # type: ignore[arg-type]
    return np.minimum(np.minimum(arms[0], arms[1]), arms[2])


SOLIDS: dict[str, Solid] = {
    "sphere": lambda x, y, z: np.sqrt(x**2 + y**2 + z**2) - 0.72,
    "cube": _cube,
    "cylinder": _cylinder,
    "cone": _cone,
    "torus": _torus,
    "octahedron": _octahedron,
    "capsule": _capsule,
    "slab": lambda x, y, z: _cube(x, y, z, (0.75, 0.75, 0.16)),
    "jack": _cross,
    "disc_pair": lambda x, y, z: (
        np.minimum(np.sqrt(x**2 + y**2 + (z - 0.45) ** 2), np.sqrt(x**2 + y**2 + (z + 0.45) ** 2)) - 0.42
    ),
}


def _turns(n: int, rng: Rng) -> Array:
    """Random rotations, (n, 3, 3)."""
    q = rng.standard_normal((n, 4))
    a, b, c, d = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (c * c + d * d), 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), 1 - 2 * (b * b + d * d), 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), 1 - 2 * (b * b + c * c)],
    ]
    return np.array(rows).transpose(2, 0, 1).astype(np.float32)


def _look(
    solid: Solid, n: int, rng: Rng, scale: tuple[float, float] = (0.7, 1.05), turn: Array | None = None
) -> tuple[Array, Array]:
    """Coverage (n, 32, 32) and unit normals (n, 3, 32, 32) in the viewer's frame."""
    u, v, size = canvas.frame(n, rng, scale, 0.22, 0.0)
    turn = _turns(n, rng) if turn is None else turn
    m = turn[:, :, :, None, None]

    def distance(x: Array, y: Array, z: Array) -> Array:
        return solid(*(m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2] * z for i in range(3)))

    depth = np.full(u.shape, -1.4, dtype=np.float32)
    closest = np.full(u.shape, 9.0, dtype=np.float32)
    for _ in range(14):
        d = distance(u, v, depth)
        closest = np.minimum(closest, d)
        depth = np.minimum(depth + d, 1.6)
    step = 0.02
    here = distance(u, v, depth)
    normal = (
        np.stack([distance(u + step, v, depth), distance(u, v + step, depth), distance(u, v, depth + step)], axis=1)
        - here[:, None]
    )
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6
    return np.clip(1.2 - np.minimum(closest, here) * size / canvas.PIXEL * 1.4, 0, 1), normal


def _lamp(n: int, rng: Rng, azimuth: Array | None = None, elevation: Array | None = None) -> Array:
    """Directions to the lamp, (n, 3, 1, 1); the viewer looks along +z, y points down."""
    azimuth = rng.uniform(0, 2 * np.pi, n) if azimuth is None else azimuth
    elevation = rng.uniform(0.35, 1.0, n) if elevation is None else elevation
    flat = np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), -np.sin(elevation)], axis=1)[
        :, :, None, None
    ].astype(np.float32)


def _shade(
    cover: Array, normal: Array, lamp: Array, rng: Rng, gloss: Array | float = 0.3, tint: Array | None = None
) -> Array:
    n = len(cover)
    lambert = np.clip((normal * lamp).sum(1), 0, 1)
    half = lamp + np.array([0, 0, -1], dtype=np.float32)[None, :, None, None]
    half = half / np.linalg.norm(half, axis=1, keepdims=True)
    spark = np.clip((normal * half).sum(1), 0, 1) ** 24 * gloss
    tint = canvas.colours(n, rng, (0, 0.9), (0.55, 1)) if tint is None else tint
    ambient = canvas.uniform(rng, 0.1, 0.25, n)
    lit = tint * (ambient + (1 - ambient) * lambert)[..., None] + spark[..., None]
    ground = canvas.colours(n, rng, (0, 0.6), (0.1, 0.9))
    x, y = canvas.grid()
    ground = ground * (1 + 0.2 * (x * lamp[:, 0] + y * lamp[:, 1]))[..., None]
    return canvas.over(np.broadcast_to(ground, (n, canvas.SIZE, canvas.SIZE, 3)), cover, lit)


def _solid(name: str, n: int, rng: Rng) -> Array:
    return _shade(*_look(SOLIDS[name], n, rng), _lamp(n, rng), rng)


def _mixed(n: int, rng: Rng, names: list[str]) -> tuple[Array, Array]:
    """Looks at random solids, so that the solid says nothing about the class."""
    cover = np.empty((n, canvas.SIZE, canvas.SIZE), dtype=np.float32)
    normal = np.empty((n, 3, canvas.SIZE, canvas.SIZE), dtype=np.float32)
    for name, part in zip(names, canvas.parts(n, len(names), rng), strict=True):
        if len(part):
            cover[part], normal[part] = _look(SOLIDS[name], len(part), rng)
    return cover, normal


MIXED = ["sphere", "cube", "torus", "capsule"]


def _azimuth(k: int, n: int, rng: Rng) -> Array:
    angle = (k + rng.uniform(-0.35, 0.35, n)) * np.pi / 4
    return _shade(*_mixed(n, rng, MIXED), _lamp(n, rng, angle, rng.uniform(0.2, 0.7, n)), rng)


def _elevation(k: int, n: int, rng: Rng) -> Array:
    return _shade(*_mixed(n, rng, MIXED), _lamp(n, rng, elevation=(k + rng.uniform(0.1, 0.9, n)) * np.pi / 10), rng)


MATERIALS = ["matte", "satin", "glossy", "metallic", "striped", "grainy", "translucent"]


def _material(name: str, n: int, rng: Rng) -> Array:
    cover, normal = _mixed(n, rng, MIXED)
    tint = canvas.colours(n, rng, (0.1, 0.9), (0.5, 1))
    if name == "metallic":
        reflection = 0.5 + 0.5 * np.sin(normal[:, 1] * canvas.uniform(rng, 6, 10, n) + normal[:, 0] * 2)
        tint = tint * (0.3 + reflection[..., None])
    elif name == "striped":
        u, _, _ = canvas.frame(n, rng, (0.2, 0.3), 0)
        tint = np.where((np.sin(u * 4) > 0)[..., None], tint, canvas.colours(n, rng))
    elif name == "grainy":
        tint = tint * (1 + 0.3 * canvas.power_noise(n, rng, 0.3)[..., None])
    elif name == "translucent":
        rim = np.clip(-normal[:, 2], 0, 1)
        cover = cover * (1 - 0.7 * rim)
    gloss = {"satin": 0.35, "glossy": 1.1, "metallic": 0.7, "translucent": 0.8}.get(name, 0.0)
    return _shade(cover, normal, _lamp(n, rng), rng, gloss, tint)


RELIEFS = ["bump", "dent", "ridge", "groove", "step", "ripples", "saddle", "rough"]


def _relief(name: str, n: int, rng: Rng) -> Array:
    """Heights lit from above (a dent is a bump lit from below)."""
    u, v, _ = canvas.frame(n, rng, (0.45, 0.8), 0.3)
    height = {
        "bump": lambda: np.exp(-(u**2 + v**2) * 2),
        "dent": lambda: -np.exp(-(u**2 + v**2) * 2),
        "ridge": lambda: np.exp(-(u**2) * 5),
        "groove": lambda: -np.exp(-(u**2) * 5),
        "step": lambda: np.tanh(u * 4) * 0.5,
        "ripples": lambda: np.cos(np.hypot(u, v) * 7) * 0.25,
        "saddle": lambda: u * v * 0.9,
        "rough": lambda: canvas.power_noise(n, rng, 1.4) * 0.16,
    }[name]()
    height = height * canvas.uniform(rng, 0.35, 0.6, n) + canvas.power_noise(n, rng, 1.5) * 0.02
    gy, gx = np.gradient(height, canvas.PIXEL, axis=(1, 2))
    normal = np.stack([gx, gy, -np.ones_like(gx)], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    lamp = _lamp(n, rng, rng.uniform(-2.2, -0.9, n), rng.uniform(0.4, 0.8, n))
    return _shade(np.ones_like(gx), normal, lamp, rng, 0.2)


def _count(k: int, n: int, rng: Rng) -> Array:
    """K balls on a ground, each shaded and casting a soft shadow."""
    x, y = canvas.grid()
    lamp = _lamp(n, rng, elevation=rng.uniform(0.4, 0.9, n))
    image: Array = np.broadcast_to(canvas.colours(n, rng, (0, 0.5), (0.4, 0.95)), (n, canvas.SIZE, canvas.SIZE, 3))
    spots = canvas.scatter_cells(n, rng, k, 3, 0.35) * 0.9
    for i in range(k):
        r = canvas.uniform(rng, 0.18, 0.29, n)
        u, v = (x - canvas.column(spots[:, i, 0])) / r, (y - canvas.column(spots[:, i, 1])) / r
        shadow = np.exp(-((u + lamp[:, 0]) ** 2 + (v + lamp[:, 1]) ** 2) * 1.1) * 0.55
        image = image * (1 - shadow[..., None])
        z = np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))
        lambert = np.clip(u * lamp[:, 0] + v * lamp[:, 1] - z * lamp[:, 2], 0, 1)
        image = canvas.over(
            image,
            canvas.cover((np.hypot(u, v) - 1) * r),
            canvas.colours(n, rng, (0, 0.9), (0.6, 1)) * (0.15 + 0.85 * lambert[..., None]),
        )
    return image


def _tilt(k: int, n: int, rng: Rng) -> Array:
    """A slab seen at growing tilt."""
    tilt, spin = (k + rng.uniform(0.1, 0.9, n)) * np.pi / 10, rng.uniform(0, 2 * np.pi, n)
    zero, one = np.zeros(n), np.ones(n)
    lean = np.array(
        [[one, zero, zero], [zero, np.cos(tilt), -np.sin(tilt)], [zero, np.sin(tilt), np.cos(tilt)]]
    ).transpose(2, 0, 1)
    turn = np.array(
        [[np.cos(spin), -np.sin(spin), zero], [np.sin(spin), np.cos(spin), zero], [zero, zero, one]]
    ).transpose(2, 0, 1)
    cover, normal = _look(
        lambda x, y, z: np.maximum(np.hypot(x, y) - 0.85, np.abs(z) - 0.12),
        n,
        rng,
        turn=(lean @ turn).astype(np.float32),
    )
    return _shade(cover, normal, _lamp(n, rng), rng)


TASKS = family(
    "shading",
    "natural",
    [
        ("solid", "plain", "Which solid is shown.", _solid, list(SOLIDS)),
        ("solid_textured", "clutter", "Which solid is shown among strokes.", _solid, list(SOLIDS)),
        ("azimuth", "noise", "From which side the light comes.", _azimuth, {f"{45 * k}_degrees": k for k in range(8)}),
        ("elevation", "blur", "How high the lamp stands.", _elevation, {f"{18 * k + 9}_degrees": k for k in range(5)}),
        ("material", "lighting", "What the solid is made of.", _material, MATERIALS),
        ("relief", "low_contrast", "Which relief the surface has.", _relief, RELIEFS),
        ("balls", "occlusion", "How many balls lie there.", _count, named("{}_balls", range(1, 7))),
        ("tilt", "grey", "How far the plate is tilted.", _tilt, named("tilt_{}", range(5))),
    ],
)
