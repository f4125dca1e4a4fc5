"""Real pixels: the handwritten digits that scikit-learn ships (Alpaydin and Kaynak, UCI 1998), 8 x 8, enlarged."""

from functools import lru_cache

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family
from thesis_rec.tasks.canvas import Array, Rng

PARTS = {"pretrain": 0, "train": 1, "test": 2}


@lru_cache(maxsize=1)
def _pixels() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images / 16).astype(np.float32), data.target


@lru_cache(maxsize=64)
def _pool(digit: int, split: str) -> Array:
    """The split's third of a digit's writings, (about 60, 8, 8); thirds are disjoint."""
    images, labels = _pixels()
    return images[labels == digit][PARTS[split] :: 3]


def _pick(digit: int, n: int, rng: Rng, split: str) -> Array:
    """N writings: the split's own, each once before any twice."""
    pool = _pool(digit, split)
    order = np.concatenate([rng.permutation(len(pool)) for _ in range(-(-n // len(pool)))])[:n]
    return pool[order]


def _enlarge(
    small: Array, rng: Rng, scale: tuple[float, float] = (0.8, 1.0), shift: float = 0.12, turn: float = 0.12
) -> Array:
    """Enlarge 8 x 8 writings to 32 x 32 with a little displacement, so that repeats differ."""
    from scipy.ndimage import zoom

    n = len(small)
    large = np.clip(
        zoom(np.pad(small, ((0, 0), (1, 1), (1, 1))), (1, 3.2, 3.2), order=3, grid_mode=True, mode="grid-constant"),
        0,
        1,
    )
    u, v, _ = canvas.frame(n, rng, scale, shift, turn, 1.1)
    return np.clip(canvas.sample(large, u, v) * 1.15, 0, 1)


def _digit(k: int, n: int, rng: Rng, split: str = "train") -> Array:
    return _enlarge(_pick(k, n, rng, split), rng)


def _wide(k: int, n: int, rng: Rng, split: str = "train") -> Array:
    return _enlarge(_pick(k, n, rng, split), rng, (0.45, 0.75), 0.35, 0.4)


GROUPS = {"small_even": (0, 2, 4), "small_odd": (1, 3), "large_even": (6, 8), "large_odd": (5, 7, 9)}


def _group(members: tuple[int, ...], n: int, rng: Rng, split: str = "train") -> Array:
    """Random digits of a group."""
    which = rng.choice(members, n)
    picks = np.empty((n, 8, 8), dtype=np.float32)
    for digit in members:
        where = np.flatnonzero(which == digit)
        if len(where):
            picks[where] = _pick(digit, len(where), rng, split)
    return _enlarge(picks, rng)


NAMES = {f"digit_{k}": k for k in range(10)}
TASKS = family(
    "digits",
    "structured",
    [
        ("", "grey", "Which real handwritten digit it is.", _digit, NAMES),
        ("textured", "texture", "Which real digit lies on a texture.", _digit, NAMES),
        ("small", "plain", "Which small, turned real digit it is.", _wide, NAMES),
        ("noisy", "noise", "Which real digit lies under noise.", _digit, NAMES),
        ("occluded", "occlusion", "Which partly covered real digit it is.", _digit, NAMES),
        ("groups", "lighting", "Of which group the real digit is.", _group, GROUPS),
    ],
    by_split=True,
)
