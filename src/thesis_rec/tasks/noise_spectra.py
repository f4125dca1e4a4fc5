"""Random fields: exponents, directions, bands, distributions."""

from collections.abc import Callable

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named, numbered
from thesis_rec.tasks.canvas import Array, Rng


def _exponent(value: float, n: int, rng: Rng) -> Array:
    return canvas.normalise(canvas.power_noise(n, rng, value + canvas.uniform(rng, -0.12, 0.12, n)))


def _direction(k: int, n: int, rng: Rng, steps: int = 8) -> Array:
    fx, fy = canvas.frequencies()
    angle = (k + rng.uniform(-0.3, 0.3, (n, 1, 1))) * np.pi / steps
    along, across = canvas.rotate(fx, fy, angle)
    long, short = canvas.uniform(rng, 4.5, 8, n), canvas.uniform(rng, 1.0, 2.0, n)
    return canvas.normalise(
        canvas.filtered_noise(n, rng, np.exp(-(along**2) / (2 * long**2) - across**2 / (2 * short**2)))
    )


def _band(k: int, n: int, rng: Rng) -> Array:
    fx, fy = canvas.frequencies()
    centre = 1.5 * (13 / 1.5) ** ((k + rng.uniform(0.1, 0.9, (n, 1, 1))) / 7)
    return canvas.normalise(
        canvas.filtered_noise(n, rng, np.exp(-((np.hypot(fx, fy) - centre) ** 2) / (2 * (0.25 * centre) ** 2)))
    )


MARGINALS: dict[str, Callable[[Array], Array]] = {
    "gaussian": lambda f: f,
    "two_level": lambda f: np.tanh(f * 6),
    "ridged": lambda f: -np.abs(f),
    "billowed": np.abs,
    "peaky": lambda f: np.exp(1.4 * f),
    "pitted": lambda f: -np.exp(1.4 * f),
    "terraced": lambda f: np.round(f * 1.3),
    "contoured": lambda f: np.cos(f * 7),
}


def _marginal(name: str, n: int, rng: Rng) -> Array:
    return canvas.normalise(MARGINALS[name](canvas.power_noise(n, rng, canvas.uniform(rng, 1.2, 2.0, n))))


def _anisotropy(k: int, n: int, rng: Rng) -> Array:
    fx, fy = canvas.frequencies()
    along, across = canvas.rotate(fx, fy, canvas.uniform(rng, 0, np.pi, n))
    ratio = 1.45 ** (k + canvas.uniform(rng, -0.3, 0.3, n))
    radius = np.hypot(along * ratio, across / ratio) + 0.5
    return canvas.normalise(canvas.filtered_noise(n, rng, radius ** -canvas.uniform(rng, 1.2, 1.8, n)))


def _channels(k: int, n: int, rng: Rng) -> Array:
    """Each of the three channels is coarse or fine; the class says which."""
    planes = []
    for bit in range(3):
        slope = canvas.uniform(rng, 1.5, 2.0, n) if k >> bit & 1 else canvas.uniform(rng, 0.5, 0.9, n)
        planes.append(canvas.normalise(canvas.power_noise(n, rng, slope)))
    return np.stack(planes, axis=-1)


def _mixture(k: int, n: int, rng: Rng) -> Array:
    """Fine grain covers a share of the picture."""
    share = (k + rng.uniform(0.1, 0.9, n)) / 6
    region = canvas.smooth_noise(n, rng, 1.8)
    cut = np.array([np.quantile(r, s) for r, s in zip(region, share, strict=True)])
    inside = canvas.smoothstep((canvas.column(cut) - region) * 4 + 0.5)
    return canvas.normalise(
        inside * canvas.power_noise(n, rng, 0.2) + (1 - inside) * canvas.power_noise(n, rng, 2.2) * 0.6
    )


def _clouds(name: str, n: int, rng: Rng) -> Array:
    """Skies: amount and kind of cloud, in sky colours."""
    x, y = canvas.grid()
    cover, exponent, stretch = {
        "clear": (-1.9, 1.6, 1.0),
        "few": (-0.9, 1.7, 1.0),
        "broken": (0.0, 1.6, 1.0),
        "overcast": (1.6, 1.9, 1.0),
        "streaks": (-0.3, 1.5, 3.0),
        "ripples": (0.2, 0.9, 1.0),
        "towers": (-0.2, 2.1, 0.8),
    }[name]
    fx, fy = canvas.frequencies()
    fx, fy = canvas.rotate(fx, fy, canvas.uniform(rng, -0.4, 0.4, n))
    gain = (np.hypot(fx / stretch, fy * stretch) + 0.6) ** -np.float32(exponent)
    if name == "ripples":
        gain = np.exp(-((np.hypot(fx, fy) - 5) ** 2) / 4)
    field = canvas.filtered_noise(n, rng, gain) + cover + canvas.uniform(rng, -0.2, 0.2, n)
    density = canvas.smoothstep(field * 0.6 + 0.35)[..., None]
    blue = canvas.hsv(
        canvas.uniform(rng, 0.54, 0.64, n),
        canvas.uniform(rng, 0.3, 0.8, n) * (0.8 - 0.25 * y),
        canvas.uniform(rng, 0.55, 1, n) + 0 * x,
    )
    white = canvas.colours(n, rng, (0, 0.1), (0.65, 1.0)) * (1 - 0.15 * canvas.smoothstep(field - 1)[..., None])
    return blue * (1 - density) + white * density


CLOUDS = ["clear", "few", "broken", "overcast", "streaks", "ripples", "towers"]
TASKS = family(
    "noise_spectra",
    "natural",
    [
        (
            "exponent",
            "lighting",
            "How steep the spectrum is.",
            _exponent,
            named("slope_{}", (0, 0.5, 1.0, 1.5, 2.0, 2.6)),
        ),
        ("direction", "plain", "Which way the grain runs.", _direction, {f"{k * 22.5:g}_degrees": k for k in range(8)}),
        ("band", "low_contrast", "Which scale the pattern has.", _band, named("band_{}", range(7))),
        ("marginal", "grey", "How brightness is distributed.", _marginal, list(MARGINALS)),
        ("anisotropy", "noise", "How strong the grain's direction is.", _anisotropy, named("strength_{}", range(5))),
        (
            "channels",
            "occlusion",
            "Which colour channels are coarse.",
            _channels,
            numbered(["none", "red", "green", "red_green", "blue", "red_blue", "green_blue", "all"]),
        ),
        ("mixture", "clutter", "How much of the picture is fine grained.", _mixture, named("share_{}", range(6))),
        ("clouds", "blur", "Which kind of clouded sky it is.", _clouds, CLOUDS),
    ],
)
