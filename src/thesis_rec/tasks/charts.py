"""Charts: which kind, which trend, which share, which bar is highest."""

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng


def _bars(heights: Array, horizontal: bool = False, gap: Array | float = 0.3) -> Array:
    """Bars of (n, K) heights in 0..1."""
    x, y = canvas.grid()
    k = heights.shape[1]
    if horizontal:
        x, y = y, -x
    slot = (x * 0.92 + 0.92) / 1.84 * k
    i = np.clip(np.floor(slot).astype(int), 0, k - 1)
    top = heights[np.arange(len(heights))[:, None, None], np.broadcast_to(i, (len(heights), *i.shape[1:]))]
    beside = (np.abs(np.mod(slot, 1) - 0.5) - (0.5 - gap / 2)) * 1.84 / k
    return canvas.cover(np.maximum(np.maximum(beside, 0.9 - 1.75 * top - y), y - 0.9))


def _line(values: Array, rng: Rng, pen: tuple[float, float] = (0.03, 0.07)) -> Array:
    """Polylines through (n, K) values in 0..1."""
    n, k = values.shape
    x, y = canvas.grid()
    across = np.broadcast_to(np.linspace(-0.9, 0.9, k), (n, k))
    return canvas.cover(
        canvas.polyline(x, y, np.stack([across, 0.85 - 1.7 * values], -1)) - canvas.uniform(rng, *pen, n)
    )


def _axes(mask: Array, rng: Rng) -> Array:
    x, y = canvas.grid()
    n = len(mask)
    axis = np.minimum(np.abs(x + 0.94) + 0 * y, np.abs(y - 0.94) + 0 * x) - 0.03
    return np.maximum(mask, canvas.cover(axis) * (rng.random((n, 1, 1)) < 0.7))


def _pie(shares: Array, n: int, rng: Rng, hole: float = 0.0) -> Array:
    """Pies of (n, K) shares; returns the tone of each sector, 0 outside."""
    u, v, size = canvas.frame(n, rng, (0.75, 0.95), 0.1)
    turn = np.mod(np.arctan2(v, u) / (2 * np.pi), 1)
    edges = np.cumsum(shares, axis=1)[:, :-1]
    sector = (turn[:, None] > edges[:, :, None, None]).sum(1)
    tones = np.linspace(0.3, 1, shares.shape[1])[sector]
    return tones * canvas.cover(np.maximum(np.hypot(u, v) - 1, hole - np.hypot(u, v)) * size)


def _walk(n: int, rng: Rng, k: int = 12) -> Array:
    steps = np.cumsum(rng.normal(0, 1, (n, k)), axis=1)
    steps -= steps.min(1, keepdims=True)
    return steps / np.maximum(steps.max(1, keepdims=True), 1e-6)


KINDS = [
    "bars",
    "lying_bars",
    "line",
    "area",
    "pie",
    "ring",
    "scatter",
    "histogram",
    "steps",
    "heat_map",
    "box_plot",
    "stacked",
]


def _kind(kind: str, n: int, rng: Rng) -> Array:
    return canvas.of_all_kinds(n, rng, (4, 5, 6, 7), lambda bars, count: _one_kind(kind, bars, count, rng), ())


def _one_kind(kind: str, bars: int, n: int, rng: Rng) -> Array:
    x, y = canvas.grid()
    heights = rng.uniform(0.15, 1, (n, bars))
    if kind in ("bars", "lying_bars"):
        return _axes(_bars(heights, kind != "bars"), rng)
    if kind == "line":
        return _axes(_line(_walk(n, rng), rng), rng)
    if kind in ("area", "steps", "histogram"):
        k = {"area": 32, "steps": 9, "histogram": 14}[kind]
        values = {
            "area": lambda: _walk(n, rng, 32) * 0.8 + 0.1,
            "steps": lambda: _walk(n, rng, 9) * 0.8 + 0.1,
            "histogram": lambda: (
                np.exp(-(((np.arange(k) - rng.uniform(4, 9, (n, 1))) / rng.uniform(1.5, 3.5, (n, 1))) ** 2))
                * rng.uniform(0.8, 1, (n, k))
            ),
        }[kind]()
        return _axes(_bars(values, gap=0.0) if kind != "steps" else _line(np.repeat(values, 2, 1)[:, :-1], rng), rng)
    if kind in ("pie", "ring"):
        return _pie(rng.dirichlet(np.full(4, 3), n), n, rng, 0.5 if kind == "ring" else 0.0)
    if kind == "scatter":
        spots = rng.uniform(-0.85, 0.85, (n, 16, 2))
        return _axes(
            canvas.cover(canvas.discs(x, y, spots, lambda: 0.07)),
            rng,
        )
    if kind == "heat_map":
        return np.kron(rng.random((n, 5, 5)), np.ones((1, 7, 7)))[:, 1:33, 1:33]
    if kind == "box_plot":
        mask = np.zeros((n, canvas.SIZE, canvas.SIZE), dtype=np.float32)
        for i in range(3):
            cx, cy, h = (i - 1) * 0.6, canvas.uniform(rng, -0.3, 0.3, n), canvas.uniform(rng, 0.15, 0.35, n)
            d = np.minimum(np.abs(canvas.box(x - cx, y - cy, 0.18, h)), canvas.box(x - cx, y - cy, 0.0, h * 2) - 0.0)
            mask = np.maximum(mask, canvas.cover(np.minimum(d, canvas.box(x - cx, y - cy, 0.18, 0.0)) - 0.03))
        return mask
    lower = rng.uniform(0.1, 0.5, heights.shape)
    return _axes(np.maximum(_bars(lower) * 0.55, np.clip(_bars(lower + heights * 0.45) - _bars(lower), 0, 1)), rng)


TRENDS = ["rise", "fall", "peak", "valley", "flat", "wave", "jump_up", "jump_down", "exponential", "saturation"]


def _trend(kind: str, n: int, rng: Rng) -> Array:
    t = np.linspace(0, 1, 14)[None]
    m = rng.uniform(0.35, 0.65, (n, 1))
    curve = {
        "rise": lambda: t + 0 * m,
        "fall": lambda: 1 - t + 0 * m,
        "peak": lambda: np.exp(-((t - m) ** 2) * 18),
        "valley": lambda: 1 - np.exp(-((t - m) ** 2) * 18),
        "flat": lambda: m + 0 * t,
        "wave": lambda: 0.5 + 0.5 * np.sin(t * rng.uniform(12, 16, (n, 1)) + m * 9),
        "jump_up": lambda: (t > m) * 1.0,
        "jump_down": lambda: (t < m) * 1.0,
        "exponential": lambda: t**4 + 0 * m,
        "saturation": lambda: 1 - (1 - t) ** 4 + 0 * m,
    }[kind]()
    low, gain = rng.uniform(0.05, 0.25, (n, 1)), rng.uniform(0.55, 0.75, (n, 1))
    return _axes(_line(low + gain * curve + rng.normal(0, 0.05, (n, 14)), rng), rng)


def _share(k: int, n: int, rng: Rng) -> Array:
    share = (k + rng.uniform(0.15, 0.85, n)) / 8
    return _pie(np.stack([share, 1 - share], 1), n, rng)


def _highest(k: int, n: int, rng: Rng) -> Array:
    heights = rng.uniform(0.15, 0.75, (n, 6))
    heights[:, k] = rng.uniform(0.85, 1.0, n)
    return _axes(_bars(heights), rng)


def _correlation(rho: float, n: int, rng: Rng) -> Array:
    a, b = rng.standard_normal((2, n, 20))
    spots = np.stack([a, -(rho * a + np.sqrt(1 - rho**2) * b)], -1) * 0.36
    x, y = canvas.grid()
    return _axes(
        canvas.cover(
            canvas.discs(
                x,
                y,
                spots,
                lambda: canvas.uniform(rng, 0.05, 0.08, n),
            )
        ),
        rng,
    )


def _number(k: int, n: int, rng: Rng) -> Array:
    return _axes(_bars(rng.uniform(0.2, 1, (n, k)), gap=canvas.uniform(rng, 0.2, 0.5, n)), rng)


SHAPES = ["uniform", "bell", "left_skew", "right_skew", "two_peaks", "u_shape", "steps_up", "spike"]


def _distribution(kind: str, n: int, rng: Rng) -> Array:
    t = (np.arange(12)[None] + 0.5) / 12
    m, s = rng.uniform(0.42, 0.58, (n, 1)), rng.uniform(0.1, 0.16, (n, 1))
    curve = {
        "uniform": lambda: np.ones_like(t) * 0.7 + 0 * m,
        "bell": lambda: np.exp(-((t - m) ** 2) / 2 / s**2),
        "left_skew": lambda: t**3 * np.exp(-((1 - t) * 3)) * 1.2 + 0 * m,
        "right_skew": lambda: np.exp(-t * 4.5) + 0 * m,
        "two_peaks": lambda: np.exp(-((t - 0.22) ** 2) / 0.012) + np.exp(-((t - 0.3 - m) ** 2) / 0.012),
        "u_shape": lambda: (2 * t - 1) ** 2 + 0 * m,
        "steps_up": lambda: t + 0 * m,
        "spike": lambda: np.where(np.abs(t - m) < 0.05, 1, 0.2) + 0 * m,
    }[kind]()
    heights = curve / curve.max(1, keepdims=True) * rng.uniform(0.75, 0.95, (n, 1)) + rng.normal(0, 0.06, (n, 12))
    return _axes(_bars(np.clip(heights, 0.03, 1), gap=0.15), rng)


TASKS = family(
    "charts",
    "structured",
    [
        ("kind", "lighting", "Which kind of chart it is.", _kind, KINDS),
        ("trend", "grey", "Which trend the line shows.", _trend, TRENDS),
        ("share", "plain", "Which share the pie's first sector has.", _share, named("{}_eighths", range(8))),
        ("highest", "noise", "Which bar is the highest.", _highest, named("bar_{}", range(6))),
        (
            "correlation",
            "blur",
            "How the points correlate.",
            _correlation,
            {"strongly_negative": -0.97, "negative": -0.75, "none": 0.0, "positive": 0.75, "strongly_positive": 0.97},
        ),
        ("number", "clutter", "How many bars the chart has.", _number, named("{}_bars", range(2, 10))),
        ("distribution", "low_contrast", "Which shape the histogram has.", _distribution, SHAPES),
        ("trend_textured", "texture", "Which trend the line on a texture shows.", _trend, TRENDS),
    ],
)
