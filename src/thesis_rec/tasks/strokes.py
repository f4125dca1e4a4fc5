"""Hand-drawn digits, letters and doodles: skeletons, jittered, smoothed and drawn with a pen."""

from functools import cache, partial

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng

POINTS = 26

# Skeletons on a 0..10 board, x to the right, y down; "/" lifts the pen. The writer's hand is added by `_write`.
DIGITS = {
    "zero": "5,0 2,1 1,5 2,9 5,10 8,9 9,5 8,1 5,0",
    "one": "3,2 5,0 5,5 5,10",
    "two": "2,2 4,0 7,0 8,3 6,6 2,10 5,10 9,10",
    "three": "2,1 5,0 8,2 7,4 4,5 7,5 8,8 5,10 2,9",
    "four": "6,10 6,0 1,7 5,7 9,7",
    "five": "8,0 3,0 2,4 6,4 8,7 6,10 2,9",
    "six": "7,0 3,4 2,8 5,10 8,8 6,5 3,6",
    "seven": "1,0 5,0 9,0 6,5 4,10",
    "eight": "5,5 2,3 5,0 8,3 5,5 2,8 5,10 8,8 5,5",
    "nine": "8,2 5,0 2,3 5,5 8,3 8,6 6,10",
}
LETTERS = {
    "a": "8,3 5,2 2,5 4,9 8,6 / 8,2 8,8 9,9",
    "b": "2,0 2,5 2,10 6,9 7,6 5,4 2,6",
    "d": "8,0 8,5 8,10 / 8,5 5,4 2,7 5,10 8,8",
    "e": "2,6 8,5 5,2 2,5 3,9 8,9",
    "g": "8,1 4,0 2,3 5,5 8,2 8,7 5,10 2,9",
    "h": "2,0 2,5 2,10 / 2,6 5,4 8,6 8,10",
    "k": "2,0 2,5 2,10 / 7,3 2,7 / 4,5 8,10",
    "m": "1,10 1,4 / 1,5 3,3 5,5 5,10 / 5,5 7,3 9,5 9,10",
    "n": "2,10 2,3 / 2,5 5,3 8,5 8,10",
    "q": "8,1 4,0 2,3 5,5 8,2 / 8,0 8,10",
    "r": "3,10 3,3 / 3,6 5,3 8,3",
    "s": "8,1 4,0 2,2 5,5 8,8 5,10 2,9",
    "t": "5,0 5,8 8,9 / 2,3 8,3",
    "u": "2,2 2,7 5,9 8,7 8,2 / 8,6 8,9",
    "w": "1,2 3,9 5,4 7,9 9,2",
    "y": "2,1 5,5 / 8,1 5,6 3,10",
}
CAPITALS = {
    "A": "1,10 5,0 9,10 / 3,6 7,6",
    "B": "2,0 2,10 / 2,0 7,1 7,4 2,5 8,6 8,9 2,10",
    "C": "8,2 5,0 2,3 2,7 5,10 8,8",
    "E": "8,0 2,0 2,10 8,10 / 2,5 6,5",
    "F": "8,0 2,0 2,10 / 2,5 6,5",
    "G": "8,2 5,0 2,3 2,7 5,10 8,8 8,6 5,6",
    "H": "2,0 2,10 / 8,0 8,10 / 2,5 8,5",
    "K": "2,0 2,10 / 8,0 2,6 / 4,5 8,10",
    "M": "1,10 2,0 5,7 8,0 9,10",
    "R": "2,10 2,0 7,1 7,4 2,5 / 4,5 8,10",
    "S": "8,1 4,0 2,2 5,5 8,8 5,10 2,9",
    "X": "2,0 8,10 / 8,0 2,10",
}
DOODLES = {
    "house": "1,10 1,4 5,0 9,4 9,10 1,10 / 4,10 4,7 6,7 6,10",
    "tree": "5,10 5,6 / 5,6 1,6 5,0 9,6 5,6",
    "fish": "1,5 4,2 8,5 4,8 1,5 / 8,5 10,3 10,7 8,5",
    "face": "5,0 1,3 1,7 5,10 9,7 9,3 5,0 / 3,4 3,5 / 7,4 7,5 / 3,7 5,8 7,7",
    "boat": "1,7 3,10 7,10 9,7 1,7 / 5,7 5,0 8,5 5,5",
    "flower": "5,10 5,6 / 5,4 3,2 5,0 7,2 5,4 8,4 7,6 5,4 3,6 2,4 5,4",
    "bolt": "6,0 2,6 5,5 3,10 9,4 5,5 6,0",
    "mug": "2,2 2,9 7,9 7,2 2,2 / 7,4 9,4 9,7 7,7",
    "bird": "0,4 3,2 5,5 7,2 10,4",
    "key": "3,5 1,3 0,5 2,7 3,5 / 3,5 9,5 9,7 / 7,5 7,7",
    "cup_cake": "2,5 3,10 7,10 8,5 2,5 / 2,5 2,2 5,0 8,2 8,5",
    "car": "0,8 0,5 2,5 4,2 7,2 8,5 10,5 10,8 0,8 / 2,8 3,9 3,7 2,8 / 7,8 8,9 8,7 7,8",
}
STRAIGHT = {"house", "boat", "bolt", "mug", "tree"}
ALPHABETS = {"digits": DIGITS, "letters": LETTERS, "capitals": CAPITALS, "doodles": DOODLES}


@cache
def _skeleton(alphabet: str, name: str) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Strokes of a sign, in -1..1."""
    strokes = []
    for stroke in ALPHABETS[alphabet][name].split("/"):
        numbers = [tuple(float(c) / 5 - 1 for c in p.split(",")) for p in stroke.split()]
        strokes.append(tuple((p[0] * 0.75, p[1]) for p in numbers))
    return tuple(strokes)


def _smooth(points: Array, n_points: int) -> Array:
    """Centripetal-free Catmull-Rom curves through (n, K, 2) points, (n, n_points, 2)."""
    k = points.shape[1]
    if k == 1:
        return np.repeat(points, n_points, axis=1)
    padded = np.concatenate([2 * points[:, :1] - points[:, 1:2], points, 2 * points[:, -1:] - points[:, -2:-1]], axis=1)
    t = np.linspace(0, k - 1 - 1e-6, n_points)
    i, f = t.astype(int), (t % 1)[None, :, None]
    p0, p1, p2, p3 = (padded[:, i + j] for j in range(4))
    return 0.5 * (2 * p1 + (p2 - p0) * f + (2 * p0 - 5 * p1 + 4 * p2 - p3) * f**2 + (3 * p1 - p0 - 3 * p2 + p3) * f**3)


def write(
    alphabet: str,
    name: str,
    n: int,
    rng: Rng,
    hand: float = 0.13,
    pen: tuple[float, float] = (0.05, 0.12),
    scale: tuple[float, float] = (0.55, 0.85),
    shift: float = 0.2,
    turn: float = 0.25,
) -> Array:
    """Write a sign n times.

    Args:
        alphabet: Key of `ALPHABETS`.
        name: Sign.
        n: How many.
        rng: Randomness.
        hand: How far the writer misses the skeleton's points, in image units.
        pen: Range of half the stroke's width.
        scale: Range of the sign's radius.
        shift: Largest displacement.
        turn: Largest rotation.

    Returns:
        (n, 32, 32) coverage.
    """
    u, v, size = canvas.frame(n, rng, scale, shift, turn, 1.5)
    u = u + v * canvas.uniform(rng, -0.3, 0.3, n)
    best = np.full((n, canvas.SIZE, canvas.SIZE), 9.0, dtype=np.float32)
    # One bend for the whole sign and one miss per point: neighbours of a hand-written sign err together.
    bend = rng.normal(0, hand * 0.8, (n, 1, 2))
    for stroke in _skeleton(alphabet, name):
        points = np.array(stroke)[None] + rng.normal(0, hand, (n, len(stroke), 2)) * 0.75
        points = points + bend * np.sin(points[..., ::-1] * 2.2)
        curve = points if name in STRAIGHT else _smooth(points, max(6, int(POINTS * len(stroke) / 9)))
        best = np.minimum(best, canvas.polyline(u, v, curve))
    return canvas.cover(best * size - canvas.uniform(rng, *pen, n), canvas.uniform(rng, 1, 1.8, n))


def _pen(k: int, n: int, rng: Rng) -> Array:
    """Random digits; the class is the pen's width."""
    width = 0.025 * 1.55**k
    pen = width, width * 1.3
    return canvas.of_all_kinds(n, rng, list(DIGITS), lambda name, k: write("digits", name, k, rng, pen=pen), ())


TASKS = family(
    "strokes",
    "structured",
    [
        ("digits", "plain", "Which hand-drawn digit it is.", partial(write, "digits"), list(DIGITS)),
        (
            "digits_bold",
            "blur",
            "Which digit is written with a broad pen.",
            partial(write, "digits", pen=(0.12, 0.2)),
            list(DIGITS),
        ),
        ("digits_textured", "texture", "Which digit is written on a texture.", partial(write, "digits"), list(DIGITS)),
        ("letters", "grey", "Which small letter is written.", partial(write, "letters"), list(LETTERS)),
        (
            "letters_struck",
            "clutter",
            "Which small letter is written, among strokes.",
            partial(write, "letters", hand=0.16),
            list(LETTERS)[:10],
        ),
        ("capitals", "noise", "Which capital is written.", partial(write, "capitals"), list(CAPITALS)),
        (
            "doodles",
            "lighting",
            "Which doodle is drawn.",
            partial(write, "doodles", hand=0.1, scale=(0.6, 0.9)),
            list(DOODLES),
        ),
        (
            "doodles_hidden",
            "occlusion",
            "Which partly covered doodle is drawn.",
            partial(write, "doodles", hand=0.12, scale=(0.6, 0.9)),
            list(DOODLES),
        ),
        ("pen", "low_contrast", "How broad the pen is.", _pen, named("width_{}", range(5))),
    ],
)
