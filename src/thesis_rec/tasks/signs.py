"""Traffic-sign-like plates with pictograms, on backgrounds, tilted and dirty."""

from functools import partial

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named, numbered
from thesis_rec.tasks.canvas import Array, Rng
from thesis_rec.tasks.glyphs import draw_texts, fonts_of, stamp
from thesis_rec.tasks.grounds import any_ground
from thesis_rec.tasks.shapes import FIGURES
from thesis_rec.tasks.strokes import ALPHABETS, _skeleton

RED, BLUE, YELLOW, GREEN, WHITE, BLACK, ORANGE, BROWN = (
    (0.99, 0.85, 0.8),
    (0.6, 0.85, 0.7),
    (0.14, 0.9, 0.95),
    (0.38, 0.8, 0.5),
    (0.0, 0.0, 0.95),
    (0.0, 0.0, 0.08),
    (0.07, 0.9, 0.95),
    (0.06, 0.6, 0.4),
)
Plate = tuple[str, tuple[float, float, float], tuple[float, float, float], float]
PLATES: dict[str, Plate] = {
    "red_ring": ("disc", WHITE, RED, 0.2),
    "blue_disc": ("disc", BLUE, WHITE, 0.06),
    "warning": ("triangle", WHITE, RED, 0.17),
    "yield": ("flipped", WHITE, RED, 0.2),
    "diamond": ("diamond", YELLOW, WHITE, 0.12),
    "stop": ("octagon", RED, WHITE, 0.06),
    "blue_square": ("square", BLUE, WHITE, 0.05),
    "green_square": ("square", GREEN, WHITE, 0.06),
    "end_disc": ("disc", WHITE, BLACK, 0.05),
    "roadworks": ("diamond", ORANGE, BLACK, 0.07),
    "brown_square": ("square", BROWN, WHITE, 0.06),
    "yellow_triangle": ("triangle", YELLOW, BLACK, 0.12),
}


def _ink(colour: tuple[float, float, float], n: int, rng: Rng) -> Array:
    """A paint, faded and lit differently on every sign."""
    hue, saturation, value = colour
    return canvas.hsv(
        hue + canvas.uniform(rng, -0.025, 0.025, n),
        saturation * canvas.uniform(rng, 0.7, 1, n),
        value * canvas.uniform(rng, 0.55, 1.05, n) + canvas.uniform(rng, 0, 0.06, n),
    )


def _plate(plate: str, n: int, rng: Rng, turn: float = 0.15) -> tuple[Array, Array, Array]:
    """A picture with an empty plate, and the plate's own coordinates."""
    shape, face, rim, width = PLATES[plate]
    u, v, size = canvas.frame(n, rng, (0.65, 0.92), 0.15, turn, 1.3)
    u = u + v * canvas.uniform(rng, -0.15, 0.15, n)
    distance = {
        "disc": lambda: canvas.disc(u, v, 0.95),
        "triangle": lambda: canvas.polygon(u, v - 0.2, 3, 1.15),
        "flipped": lambda: canvas.polygon(u, -v - 0.2, 3, 1.15),
        "diamond": lambda: (np.abs(u) + np.abs(v) - 1.02) * 0.707,
        "octagon": lambda: canvas.polygon(*canvas.rotate(u, v, np.pi / 8), 8),
        "square": lambda: canvas.box(u, v, 0.82, 0.82),
    }[shape]()
    light = canvas.uniform(rng, 0.55, 1.1, n)[..., None]
    image = any_ground(n, rng) * light
    image = canvas.over(image, canvas.cover(distance * size), _ink(rim, n, rng) * light)
    image = canvas.over(image, canvas.cover((distance + width) * size), _ink(face, n, rng) * light)
    return image, u, v


def _on_plate(plate: str, mark: Array, image: Array, rng: Rng) -> Array:
    dark = PLATES[plate][1] in (BLUE, RED, GREEN, BROWN)
    return canvas.over(image, mark, _ink(WHITE if dark else BLACK, len(image), rng))


def _text(plate: str, text: str, n: int, rng: Rng) -> Array:
    image, u, v = _plate(plate, n, rng)
    names = [f for f in fonts_of(text) if "Sans" in f and "Mono" not in f]
    stamps = np.stack([stamp(text, names[i]) for i in rng.integers(0, len(names), n)])
    zoom = 0.75 if len(text) == 1 else 0.7
    offset = 0.25 if "triangle" in PLATES[plate][0] else 0.0
    mark = canvas.sample(canvas.blur(stamps, 0.4), u / zoom, (v - offset) / zoom)
    return _on_plate(plate, np.clip(mark * 1.2, 0, 1), image, rng)


def _any_plate(plate: str, n: int, rng: Rng) -> Array:
    """The plate is the class, the mark on it random."""
    image, u, v = _plate(plate, n, rng)
    texts = list("123456789!?PHX↑→")
    stamps = np.stack([stamp(texts[i], "DejaVuSans-Bold") for i in rng.integers(0, len(texts), n)])
    return _on_plate(plate, canvas.sample(stamps, u / 0.6, (v - 0.1) / 0.6), image, rng)


def _doodle(plate: str, name: str, n: int, rng: Rng) -> Array:
    image, u, v = _plate(plate, n, rng)
    offset, zoom = (0.25, 0.45) if "triangle" in PLATES[plate][0] else (0.0, 0.6)
    d = np.full(u.shape, 9.0, dtype=np.float32)
    for stroke in _skeleton(next(a for a in ALPHABETS if name in ALPHABETS[a]), name):
        d = np.minimum(d, canvas.polyline(u / zoom, (v - offset) / zoom, np.array(stroke)[None]))
    return _on_plate(plate, canvas.cover(d * zoom - canvas.uniform(rng, 0.06, 0.1, n)), image, rng)


def _arrow(k: int, n: int, rng: Rng) -> Array:
    image, u, v = _plate("blue_disc", n, rng)
    angle = k * np.pi / 4
    p, q = canvas.rotate(u / 0.62, v / 0.62, angle)
    return _on_plate("blue_disc", canvas.cover(FIGURES["arrow"](p, q) * 0.5), image, rng)


def _house_number(text: str, n: int, rng: Rng) -> Array:
    """Numbers painted straight on a wall, neighbours cut off at the sides."""
    image = any_ground(n, rng)
    ink = canvas.colours(n, rng, (0, 0.8), (0, 1))
    shift = canvas.uniform(rng, -0.12, 0.12, n)
    for dx in (-1.1, 0.0, 1.1):
        texts = [text] * n if dx == 0 else [str(c) for c in rng.integers(0, 10, n)]
        mark = draw_texts(texts, rng, scale=(0.8, 1.0), turn=0.08, shift=0.0, shear=0.1)
        x, y = canvas.grid()
        image = canvas.over(image, canvas.sample(mark, x - dx - shift + 0 * y, y + 0 * x - shift), ink)
    return image


SPEEDS = ["20", "30", "40", "50", "60", "70", "80", "90", "10", "5"]
WARNINGS = {
    "danger": "!", "question": "?", "ahead": "↑", "lightning": "↯", "poison": "☠", "ice": "❄", "radiation": "☢",
    "wheelchair": "♿",
}  # fmt: skip
PICTURES = ["house", "tree", "fish", "car", "bolt", "mug", "key", "flower"]
COMBINATIONS = {
    f"{plate}_{mark}": (plate, text)
    for plate in ("red_ring", "blue_square", "diamond", "warning")
    for mark, text in {"p": "P", "h": "H", "u": "↑", "3": "3"}.items()
}
DIGITS = [str(k) for k in range(10)]
TASKS = family(
    "signs",
    "structured",
    [
        ("plate", "plain", "Which kind of plate it is.", _any_plate, list(PLATES)),
        ("plate_grey", "grey", "Which kind of plate it is, without colour.", _any_plate, list(PLATES)),
        ("speed", "blur", "Which speed the red ring allows.", partial(_text, "red_ring"), named("speed_{}", SPEEDS)),
        ("warning", "lighting", "What the triangle warns of.", partial(_text, "warning"), WARNINGS),
        (
            "direction",
            "occlusion",
            "Which way the blue disc sends.",
            _arrow,
            numbered(["right", "down_right", "down", "down_left", "left", "up_left", "up", "up_right"]),
        ),
        ("picture", "noise", "Which picture the square shows.", partial(_doodle, "blue_square"), PICTURES),
        (
            "combination",
            "clutter",
            "Which plate with which mark it is.",
            lambda c, n, rng: _text(c[0], c[1], n, rng),
            COMBINATIONS,
        ),
        (
            "house_number",
            "low_contrast",
            "Which digit stands in the middle of the wall's number.",
            _house_number,
            named("digit_{}", DIGITS),
        ),
    ],
)
