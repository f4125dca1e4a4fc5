"""Crystals seen from above: lattices, species, faults, moire, diffraction."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named, numbered
from thesis_rec.tasks.canvas import Array, Rng

Basis = tuple[tuple[float, float], tuple[float, float], tuple[tuple[float, float], ...]]
H = float(np.sqrt(3) / 2)
LATTICES: dict[str, Basis] = {
    "square": ((1, 0), (0, 1), ((0, 0),)),
    "hexagonal": ((1, 0), (0.5, H), ((0, 0),)),
    "rectangular": ((0.8, 0), (0, 1.35), ((0, 0),)),
    "oblique": ((1, 0), (0.3, 1.0), ((0, 0),)),
    "honeycomb": ((1.35, 0), (0.675, 1.35 * H), ((0, 0), (0.675, 0.675 / 3 * 2 * H))),
    "kagome": ((1.6, 0), (0.8, 1.6 * H), ((0, 0), (0.8, 0), (0.4, 0.8 * H))),
    "centred": ((1.5, 0), (0, 1.1), ((0, 0), (0.75, 0.55))),
    "lieb": ((1.45, 0), (0, 1.45), ((0, 0), (0.725, 0), (0, 0.725))),
}


def _atoms(name: str, n: int, rng: Rng, jitter: float = 0.02, reach: int = 7) -> Array:
    """Atom positions of a lattice in units of its spacing, (n, K, 2)."""
    a, b, basis = LATTICES[name]
    steps = np.arange(-reach, reach + 1)
    i, j = np.meshgrid(steps, steps)
    cells = i.reshape(-1, 1) * np.array(a) + j.reshape(-1, 1) * np.array(b)
    spots = np.concatenate([cells + np.array(offset) for offset in basis])
    spots = spots[np.abs(spots).max(1) < 5.2]
    return spots[None] + rng.normal(0, jitter, (n, len(spots), 2))


def _render(
    spots: Array,
    n: int,
    rng: Rng,
    weight: Array | None = None,
    pitch: tuple[float, float] = (0.27, 0.38),
    width: float = 0.26,
) -> Array:
    """Sum Gaussian atoms, turned, scaled and shifted at random; atoms are splatted onto the pixel grid."""
    angle, scale = rng.uniform(0, np.pi, (n, 1)), rng.uniform(*pitch, (n, 1))
    x, y = canvas.rotate(spots[..., 0], spots[..., 1], angle)
    x = x * scale + rng.uniform(-0.5, 0.5, (n, 1)) * scale
    y = y * scale + rng.uniform(-0.5, 0.5, (n, 1)) * scale
    weight = np.ones(x.shape) if weight is None else np.broadcast_to(weight, x.shape)
    fine = canvas.SIZE * 3
    px, py = np.floor((x + 1.2) / 2.4 * fine).astype(int), np.floor((y + 1.2) / 2.4 * fine).astype(int)
    inside = (px >= 0) & (px < fine) & (py >= 0) & (py < fine)
    flat = (np.arange(n)[:, None] * fine + py) * fine + px
    field = (
        np.bincount(flat[inside], weights=weight[inside], minlength=n * fine * fine)
        .reshape(n, fine, fine)
        .astype(np.float32)
    )
    from scipy import fft

    fx, fy = canvas.frequencies(fine)
    sigma = scale.reshape(n, 1, 1) * width / 2.4
    field = fft.irfft2(
        fft.rfft2(field) * np.exp(-2 * (np.pi * sigma) ** 2 * (fx**2 + fy**2)).astype(np.float32), s=(fine, fine)
    )
    edge = fine // 12
    inner = field[:, edge : fine - edge, edge : fine - edge]
    u, v = canvas.grid()
    small = canvas.sample(
        inner, np.broadcast_to(u, (n, canvas.SIZE, canvas.SIZE)), np.broadcast_to(v, (n, canvas.SIZE, canvas.SIZE))
    )
    return canvas.normalise(small)


def _kind(name: str, n: int, rng: Rng) -> Array:
    return _render(_atoms(name, n, rng), n, rng)


def _species(k: int, n: int, rng: Rng) -> Array:
    """Orders of two kinds of atoms on a square lattice."""
    spots = _atoms("square", n, rng)
    i, j = np.round(spots[..., 0]).astype(int), np.round(spots[..., 1]).astype(int)
    heavy = [
        np.ones_like(i),
        (i + j) % 2,
        i % 2,
        (i % 2) * (j % 2),
        (i // 2 + j // 2) % 2,
        rng.integers(0, 2, i.shape),
    ][k]
    return _render(spots, n, rng, 0.4 + 0.6 * heavy)


FLAWS = ["perfect", "vacancies", "interstitials", "disorder", "boundary", "stacking", "shear"]


def _flaw(kind: str, n: int, rng: Rng) -> Array:
    spots = _atoms("hexagonal", n, rng)
    weight = np.ones(spots.shape[:2])
    if kind == "vacancies":
        weight = (rng.random(weight.shape) > 0.13).astype(float)
    elif kind == "interstitials":
        extra = spots + np.array([0.5, 0.289])
        weight = np.concatenate([weight, rng.random(weight.shape) < 0.1], axis=1)
        spots = np.concatenate([spots, extra], axis=1)
    elif kind == "disorder":
        spots = spots + rng.normal(0, 0.13, spots.shape)
    elif kind == "boundary":
        turned = np.stack(canvas.rotate(spots[..., 0], spots[..., 1], rng.uniform(0.25, 0.8, (n, 1))), -1)
        line = rng.uniform(-0.6, 0.6, (n, 1))
        weight = np.concatenate([spots[..., 0] < line, turned[..., 0] >= line], axis=1).astype(float)
        spots = np.concatenate([spots, turned], axis=1)
    elif kind == "stacking":
        spots = spots + np.where((spots[..., 1] > rng.uniform(-0.6, 0.6, (n, 1)))[..., None], np.array([0.5, 0.0]), 0)
    elif kind == "shear":
        spots = spots + np.stack([0.12 * spots[..., 1] ** 2, np.zeros(weight.shape)], -1)
    return _render(spots, n, rng, weight)


def _moire(degrees: int, n: int, rng: Rng) -> Array:
    """Two hexagonal lattices, turned against each other."""
    x, y = canvas.grid()
    angle = canvas.uniform(rng, 0, np.pi, n)
    twist = np.deg2rad(degrees + rng.uniform(-1, 1, (n, 1, 1)))
    pitch = canvas.uniform(rng, 15, 20, n)
    total = np.zeros((n, canvas.SIZE, canvas.SIZE), dtype=np.float32)
    for turn in (angle, angle + twist):
        layer = np.zeros_like(total)
        for i in range(3):
            along, _ = canvas.rotate(x, y, turn + i * np.pi / 3)
            layer = layer + np.cos(along * pitch + canvas.uniform(rng, 0, 6.3, n))
        total = total + np.tanh(layer)
    return canvas.normalise(total)


def _diffraction(name: str, n: int, rng: Rng) -> Array:
    """Power spectra of lattices."""
    from scipy import fft

    picture = _render(_atoms(name, n, rng, 0.03), n, rng, pitch=(0.16, 0.2), width=0.2)
    window = np.hanning(canvas.SIZE)
    power = np.abs(
        fft.fftshift(
            fft.fft2((picture - picture.mean((1, 2), keepdims=True)) * window[:, None] * window[None]), axes=(1, 2)
        )
    )
    return canvas.normalise(np.log1p(power * 3))


def _direction(k: int, n: int, rng: Rng) -> Array:
    """A square lattice, stretched along one of six directions."""
    x, y = canvas.grid()
    u, v = canvas.rotate(x, y, (k + rng.uniform(-0.25, 0.25, (n, 1, 1))) * np.pi / 6)
    pitch, ratio = canvas.uniform(rng, 10, 13, n), canvas.uniform(rng, 1.35, 1.6, n)
    dots = np.cos(u * pitch / ratio + canvas.uniform(rng, 0, 6, n)) + np.cos(
        v * pitch * ratio + canvas.uniform(rng, 0, 6, n)
    )
    return canvas.smoothstep(dots * 0.7)


KINDS = list(LATTICES)
TASKS = family(
    "lattices",
    "structured",
    [
        ("kind", "plain", "Which lattice it is.", _kind, KINDS),
        ("kind_noisy", "noise", "Which lattice lies under the noise.", _kind, KINDS),
        (
            "species",
            "blur",
            "How two kinds of atoms are ordered.",
            _species,
            numbered(["one_kind", "checkered", "striped", "sparse", "blocks", "random"]),
        ),
        ("flaw", "lighting", "Which fault the crystal has.", _flaw, FLAWS),
        ("moire", "low_contrast", "How far two layers are twisted.", _moire, named("twist_{}", (0, 4, 8, 14, 22))),
        (
            "diffraction",
            "grey",
            "Which lattice scatters like this.",
            _diffraction,
            ["square", "hexagonal", "rectangular", "oblique", "honeycomb", "kagome"],
        ),
        (
            "direction",
            "occlusion",
            "Which way the lattice is stretched.",
            _direction,
            {f"{k * 30}_degrees": k for k in range(6)},
        ),
    ],
)
