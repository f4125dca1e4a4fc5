"""Nuisance styles: what disturbs the view of a task's content."""

import numpy as np
from numpy.typing import NDArray

from thesis_rec.tasks import canvas
from thesis_rec.tasks.canvas import Array, Rng

STYLES = (
    "plain",
    "grey",
    "low_contrast",
    "texture",
    "clutter",
    "blur",
    "occlusion",
    "lighting",
    "noise",
    "invert",
)


def paint(intensity: Array, style: str, rng: Rng) -> Array:
    """Colour intensity maps.

    Args:
        intensity: (n, 32, 32) in 0..1; 1 is the figure, 0 the ground.
        style: Key of `STYLES`; decides the palette and the ground.
        rng: Randomness.

    Returns:
        (n, 32, 32, 3) RGB in 0..1.
    """
    n = len(intensity)
    figure, ground = canvas.contrasting(n, rng, 0.4)
    if style == "grey":
        figure, ground = (c.mean(axis=-1, keepdims=True).repeat(3, axis=-1) for c in (figure, ground))
    elif style == "low_contrast":
        figure = ground + (figure - ground) * canvas.uniform(rng, 0.22, 0.45, n)[..., None]
    elif style == "invert":
        # Pure, often clashing colours: brightness alone doesn't tell figure from ground.
        hue = canvas.uniform(rng, 0, 1, n)
        figure = canvas.hsv(hue, 1.0, canvas.uniform(rng, 0.6, 1, n))
        ground = canvas.hsv(hue + canvas.uniform(rng, 0.3, 0.7, n), 1.0, canvas.uniform(rng, 0.6, 1, n))
    base: Array = np.broadcast_to(ground, (*intensity.shape, 3))
    if style == "texture":
        base = textured(n, rng, ground)
    elif style == "clutter":
        base = with_clutter(base, rng, figure, 7)
    return canvas.over(base, intensity, figure)


def textured(n: int, rng: Rng, ground: Array) -> Array:
    """Textured grounds around a colour, (n, 32, 32, 3)."""
    coarse = canvas.power_noise(n, rng, canvas.uniform(rng, 0.7, 1.6, n))
    tint = rng.normal(0, 0.09, (n, 1, 1, 3)) + rng.uniform(0.04, 0.16, (n, 1, 1, 1))
    return np.clip(ground + coarse[..., None] * tint, 0, 1)


def with_clutter(image: Array, rng: Rng, colour: Array, pieces: int) -> Array:
    """Scatter short strokes and specks, some in the figure's colour."""
    n = len(image)
    x, y = canvas.grid()
    for k in range(pieces):
        cx, cy = canvas.uniform(rng, -1, 1, n), canvas.uniform(rng, -1, 1, n)
        angle, length = canvas.uniform(rng, 0, np.pi, n), canvas.uniform(rng, 0.0, 0.35, n)
        dx, dy = np.cos(angle) * length, np.sin(angle) * length
        mask = canvas.cover(
            canvas.segment(x, y, cx - dx, cy - dy, cx + dx, cy + dy) - canvas.uniform(rng, 0.02, 0.06, n)
        )
        ink = colour if k % 2 else canvas.colours(n, rng)
        image = canvas.over(image, mask, ink)
    return image


def finish(image: Array, style: str, rng: Rng) -> Array:
    """Disturb finished RGB images the style's way, and all of them with a little sensor noise.

    Args:
        image: (n, 32, 32, 3) in 0..1.
        style: Key of `STYLES`.
        rng: Randomness.

    Returns:
        As image; values may leave 0..1.

    Raises:
        ValueError: Unknown style.
    """
    n = len(image)
    x, y = canvas.grid()
    if style not in STYLES:
        raise ValueError(f"style {style!r} is not one of {', '.join(STYLES)}")
    if style == "grey":
        image = (image @ np.array([0.3, 0.59, 0.11], dtype=np.float32))[..., None].repeat(3, axis=-1)
    elif style == "low_contrast":
        mean = image.mean(axis=(1, 2), keepdims=True)
        image = mean + (image - mean) * rng.uniform(0.45, 0.7, (n, 1, 1, 1))
    elif style == "clutter":
        image = with_clutter(image, rng, canvas.colours(n, rng), 2)
    elif style == "blur":
        cut = n // 2
        image = np.concatenate([canvas.blur(image[:cut], 1.1), canvas.blur(image[cut:], 1.7)])
    elif style == "occlusion":
        for _ in range(2):
            mask = canvas.cover(
                canvas.box(
                    *canvas.rotate(
                        x - canvas.uniform(rng, -0.8, 0.8, n),
                        y - canvas.uniform(rng, -0.8, 0.8, n),
                        canvas.uniform(rng, 0, np.pi, n),
                    ),
                    canvas.uniform(rng, 0.12, 0.3, n),
                    canvas.uniform(rng, 0.3, 0.7, n),
                )
            )
            image = canvas.over(image, mask, canvas.colours(n, rng))
    elif style == "lighting":
        angle = canvas.uniform(rng, 0, 2 * np.pi, n)
        ramp = np.cos(angle) * x + np.sin(angle) * y
        spot = np.exp(-(canvas.disc(x - canvas.uniform(rng, -1, 1, n), y - canvas.uniform(rng, -1, 1, n), 0) ** 2) * 2)
        light = 0.75 + ramp * canvas.uniform(rng, 0.3, 0.6, n) + spot * canvas.uniform(rng, 0, 0.4, n)
        image = image * np.clip(light, 0.08, None)[..., None]
    elif style == "noise":
        image = image + rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(0.07, 0.18, (n, 1, 1, 1))
        dead = rng.random(image.shape[:3]) < 0.015
        image = np.where(dead[..., None], rng.integers(0, 2, (*image.shape[:3], 1)), image)
    elif style == "invert":
        flip = rng.random((n, 1, 1, 1)) < 0.5
        image = np.where(flip, 1 - image, image)
        order = rng.permuted(np.tile(np.arange(3), (n, 1)), axis=1)
        image = np.take_along_axis(image, order[:, None, None, :], axis=3)
    return image + rng.standard_normal(image.shape, dtype=np.float32) * 0.02


def to_uint8(image: Array) -> NDArray[np.uint8]:
    """Round 0..1 to 0..255, clipping."""
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
