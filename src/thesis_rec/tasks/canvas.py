"""Vectorised drawing at 32 pixels: signed distances, coverage, noise fields, warps.

Everything works on batches. Coordinates run from -1 to 1 with y pointing down; one pixel is `PIXEL` = 1/16 wide.
A figure is a signed distance field (negative inside); `cover` turns it into anti-aliased coverage, so no
supersampling is needed.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Rng = np.random.Generator
Kind = TypeVar("Kind")

SIZE = 32
PIXEL = 2.0 / SIZE


def grid(size: int = SIZE) -> tuple[Array, Array]:
    """Return x and y of the pixel centres, both (1, size, size) float32."""
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    return np.broadcast_to(axis[None, None, :], (1, size, size)), np.broadcast_to(axis[None, :, None], (1, size, size))


def uniform(rng: Rng, low: float, high: float, n: int) -> Array:
    """Draw n numbers, shaped (n, 1, 1) to broadcast over pixels."""
    return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)


def column(values: Array) -> Array:
    """Shape (n,) numbers as (n, 1, 1) float32."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


def rotate(x: Array, y: Array, angle: Array | float) -> tuple[Array, Array]:
    """Rotate coordinates by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return c * x + s * y, -s * x + c * y


def frame(
    n: int,
    rng: Rng,
    scale: tuple[float, float] = (0.5, 0.85),
    shift: float = 0.25,
    turn: float = np.pi,
    aspect: float = 1.0,
) -> tuple[Array, Array, Array]:
    """Coordinates of n randomly placed figures of unit radius.

    Args:
        n: How many.
        rng: Randomness.
        scale: Range of the figure's radius in image units.
        shift: Largest displacement along x and y.
        turn: Largest rotation either way, in radians.
        aspect: Largest stretch of one axis against the other.

    Returns:
        u and v, (n, 32, 32), and the radius (n, 1, 1); distances in (u, v) times the radius are image distances.
    """
    x, y = grid()
    size = uniform(rng, *scale, n)
    u, v = x - uniform(rng, -shift, shift, n), y - uniform(rng, -shift, shift, n)
    u, v = rotate(u, v, uniform(rng, -turn, turn, n))
    stretch = np.exp(uniform(rng, -1, 1, n) * np.log(aspect) / 2)
    return u / size * stretch, v / size / stretch, size


def cover(distance: Array, soft: Array | float = 1.0) -> Array:
    """Coverage 0..1 from a signed distance in image units; `soft` is the edge's width in pixels."""
    return np.clip(0.5 - distance / (PIXEL * soft), 0, 1)


def smoothstep(t: Array) -> Array:
    """Return 3t² - 2t³ for t clipped to 0..1."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def box(x: Array, y: Array, half_width: Array | float, half_height: Array | float) -> Array:
    """Signed distance of a rectangle."""
    dx, dy = np.abs(x) - half_width, np.abs(y) - half_height
    return np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0)


def disc(x: Array, y: Array, radius: Array | float) -> Array:
    """Signed distance of a disc."""
    return np.hypot(x, y) - radius


def polygon(x: Array, y: Array, sides: int, radius: Array | float = 1.0) -> Array:
    """Signed distance bound of a regular polygon with the given circumradius."""
    half = np.pi / sides
    angle = np.arctan2(x, y)
    folded = np.mod(angle + half, 2 * half) - half
    return np.hypot(x, y) * np.cos(folded) - radius * np.cos(half)


def star(x: Array, y: Array, points: int, inner: Array | float = 0.45, radius: Array | float = 1.0) -> Array:
    """Signed distance bound of a star with `points` tips; `inner` is the inner radius over the outer."""
    half = np.pi / points
    angle = np.abs(np.mod(np.arctan2(x, -y) + half, 2 * half) - half)
    rho = np.hypot(x, y)
    px, py = rho * np.cos(angle), rho * np.sin(angle)
    # One edge runs from the tip (radius, 0) to the notch.
    qx, qy = radius * inner * np.cos(half), radius * inner * np.sin(half)
    ex, ey = qx - radius, qy
    return (-(px - radius) * -ey + py * -ex) / np.hypot(ex, ey)


def segment(x: Array, y: Array, ax: Array, ay: Array, bx: Array, by: Array) -> Array:
    """Distance to the segment from a to b."""
    dx, dy = bx - ax, by - ay
    t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
    return np.hypot(x - ax - t * dx, y - ay - t * dy)


def polyline(x: Array, y: Array, points: Array) -> Array:
    """Distance to polylines.

    Args:
        x: (1 or n, H, W) coordinates.
        y: As x.
        points: (n, K, 2); NaN lifts the pen.

    Returns:
        (n, H, W) distances.
    """
    points = points.astype(np.float32)
    shape = np.broadcast_shapes(x.shape, (len(points), *x.shape[1:]))
    best = np.full(shape, 9.0, dtype=np.float32)
    for k in range(points.shape[1] - 1):
        a, b = points[:, k, :, None, None], points[:, k + 1, :, None, None]
        if np.isnan(a).all() or np.isnan(b).all():
            continue
        dx, dy = b[:, 0] - a[:, 0], b[:, 1] - a[:, 1]
        rx, ry = x - a[:, 0], y - a[:, 1]
        t = np.clip((rx * dx + ry * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
        rx, ry = rx - t * dx, ry - t * dy
        best = np.fmin(best, rx * rx + ry * ry)
    return np.sqrt(best)


def union(n: int, draws: int, one: Callable[[int], Array]) -> Array:
    """Smallest distance over several figures drawn one after the other."""
    best = np.full((n, SIZE, SIZE), 9.0, dtype=np.float32)
    for k in range(draws):
        best = np.minimum(best, one(k))
    return best


def discs(x: Array, y: Array, spots: Array, radius: Callable[[], Array | float]) -> Array:
    """Smallest distance over discs around (n, K, 2) spots, each with a radius of its own."""
    n, count, _ = spots.shape
    return union(n, count, lambda k: disc(x - column(spots[:, k, 0]), y - column(spots[:, k, 1]), radius()))


def parts(n: int, kinds: int, rng: Rng) -> list[NDArray[np.int64]]:
    """Share n images out evenly among `kinds`, in random order; the indices of each kind."""
    labels = rng.permutation(kinds)[np.arange(n) % kinds]
    rng.shuffle(labels)
    return [np.flatnonzero(labels == k) for k in range(kinds)]


def of_all_kinds(
    n: int, rng: Rng, kinds: Sequence[Kind], draw: Callable[[Kind, int], Array], channels: tuple[int, ...] = (3,)
) -> Array:
    """Images of all kinds in equal parts and random order, (n, 32, 32, *channels); ``draw`` makes some of one kind."""
    image = np.empty((n, SIZE, SIZE, *channels), dtype=np.float32)
    for kind, part in zip(kinds, parts(n, len(kinds), rng), strict=True):
        if len(part):
            image[part] = draw(kind, len(part))
    return image


def normalise(field: Array) -> Array:
    """Stretch every image to 0..1 by its own extremes."""
    low, high = field.min(axis=(1, 2), keepdims=True), field.max(axis=(1, 2), keepdims=True)
    return (field - low) / np.maximum(high - low, 1e-6)


def standardise(field: Array) -> Array:
    """Give every image mean 0 and standard deviation 1."""
    centred = field - field.mean(axis=(1, 2), keepdims=True)
    return centred / np.maximum(centred.std(axis=(1, 2), keepdims=True), 1e-6)


def frequencies(size: int = SIZE) -> tuple[Array, Array]:
    """Return fx (1, 1, size//2+1) and fy (1, size, 1) in cycles per image, float32."""
    fx = np.fft.rfftfreq(size, 1 / size).astype(np.float32)[None, None, :]
    fy = np.fft.fftfreq(size, 1 / size).astype(np.float32)[None, :, None]
    return fx, fy


def filtered_noise(n: int, rng: Rng, gain: Array, size: int = SIZE) -> Array:
    """Gaussian noise with a given amplitude spectrum.

    Args:
        n: How many.
        rng: Randomness.
        gain: Broadcastable to (n, size, size//2+1), amplitude per frequency (see `frequencies`).
        size: Width and height.

    Returns:
        (n, size, size) float32, standardised per image.
    """
    from scipy import fft

    white = rng.standard_normal((n, size, size), dtype=np.float32)
    field = fft.irfft2(fft.rfft2(white) * gain.astype(np.float32), s=(size, size))
    return standardise(field.astype(np.float32))


def smooth_noise(n: int, rng: Rng, cycles: Array | float = 2.5, size: int = SIZE) -> Array:
    """Smooth random fields whose features repeat about `cycles` times per image; standardised."""
    fx, fy = frequencies(size)
    return filtered_noise(n, rng, np.exp(-(fx**2 + fy**2) / (2 * np.asarray(cycles, dtype=np.float32) ** 2)), size)


def power_noise(n: int, rng: Rng, exponent: Array | float, size: int = SIZE) -> Array:
    """Noise with amplitude spectrum 1/f^exponent; standardised."""
    fx, fy = frequencies(size)
    radius = np.hypot(fx, fy)
    radius[:, 0, 0] = 1e9
    return filtered_noise(n, rng, np.float32(1.0) * radius ** -np.asarray(exponent, dtype=np.float32), size)


def blur(images: Array, sigma: float) -> Array:
    """Gaussian blur over the two image axes of (n, H, W[, 3])."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images, (0, sigma, sigma, 0)[: images.ndim], mode="nearest")


def sample(images: Array, u: Array, v: Array) -> Array:
    """Look images up bilinearly.

    Args:
        images: (n, H, W).
        u: (n, h, w) horizontal position, -1..1 over the image's width; outside is 0.
        v: As u, vertical.

    Returns:
        (n, h, w).
    """
    n, height, width = images.shape
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2)))
    stride = width + 3
    px = np.clip((u + 1) / 2 * width + 0.5, 0, width + 1)
    py = np.clip((v + 1) / 2 * height + 0.5, 0, height + 1)
    ix, iy = px.astype(np.int64), py.astype(np.int64)
    fx, fy = px - ix, py - iy
    flat = padded.reshape(-1)
    start = (np.arange(n) * stride * (height + 3))[:, None, None] + iy * stride + ix
    top = flat[start] * (1 - fx) + flat[start + 1] * fx
    bottom = flat[start + stride] * (1 - fx) + flat[start + stride + 1] * fx
    return top * (1 - fy) + bottom * fy


def hsv(hue: Array | float, saturation: Array | float, value: Array | float) -> Array:
    """Convert to RGB; the result has one axis of 3 more than the broadcast inputs. Hue is in turns."""
    hue, saturation, value = np.broadcast_arrays(*(np.asarray(a, dtype=np.float32) for a in (hue, saturation, value)))
    offset = np.array([5, 3, 1], dtype=np.float32)
    k = np.mod(offset + hue[..., None] * 6, 6)
    wave = np.clip(np.minimum(k, 4 - k), 0, 1)
    return value[..., None] * (1 - saturation[..., None] * wave)


def scatter_cells(n: int, rng: Rng, count: int, side: int = 4, jitter: float = 0.5) -> Array:
    """Positions of `count` objects in different cells of a side x side board.

    Returns:
        (n, count, 2) x and y; with jitter below 1 objects of radius (1 - jitter) / side never overlap.
    """
    cells = rng.permuted(np.tile(np.arange(side * side), (n, 1)), axis=1)[:, :count]
    middle = np.stack([cells % side, cells // side], axis=-1) + 0.5
    middle = middle + rng.uniform(-0.5, 0.5, middle.shape) * jitter
    return (middle / side * 2 - 1).astype(np.float32)


def colours(
    n: int,
    rng: Rng,
    saturation: tuple[float, float] = (0.0, 1.0),
    value: tuple[float, float] = (0.1, 1.0),
    hue: tuple[float, float] | Array = (0.0, 1.0),
) -> Array:
    """Draw n random colours within limits, (n, 1, 1, 3); hues in turns may be given, (n, 1, 1)."""
    turns = uniform(rng, *hue, n) if isinstance(hue, tuple) else hue
    return hsv(turns, uniform(rng, *saturation, n), uniform(rng, *value, n))


def contrasting(n: int, rng: Rng, gap: float = 0.35) -> tuple[Array, Array]:
    """Draw a foreground and a background colour whose brightness differs by at least `gap`; both (n, 1, 1, 3)."""
    dark = rng.uniform(0.0, 0.9 - gap, n)
    light = np.minimum(dark + gap + rng.uniform(0, 1, n) * (1 - dark - gap), 1.0)
    swap = rng.random(n) < 0.5
    levels = np.where(swap, dark, light), np.where(swap, light, dark)
    pair = []
    for level in levels:
        tint = colours(n, rng, (0.0, 0.8), (1.0, 1.0))
        luma = (tint * np.array([0.3, 0.59, 0.11], dtype=np.float32)).sum(-1, keepdims=True)
        # Scaling keeps the hue; what would leave the gamut is filled up with white.
        scaled = tint * (column(level)[..., None] / luma)
        over = np.clip(scaled, 0, 1)
        pair.append(
            over + (np.clip(column(level)[..., None] - (over * [0.3, 0.59, 0.11]).sum(-1, keepdims=True), 0, 1))
        )
    return np.clip(pair[0], 0, 1).astype(np.float32), np.clip(pair[1], 0, 1).astype(np.float32)


def over(image: Array, mask: Array, colour: Array) -> Array:
    """Paint a colour (n, 1, 1, 3 or full image) over an RGB image where the mask (n, H, W) covers it."""
    return image + mask[..., None] * (colour - image)
