"""Cellular automata (Wolfram, A New Kind of Science, 2002): which rule made the pattern."""

from functools import partial

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng


def _elementary(rule: int, n: int, rng: Rng, single: bool = False) -> Array:
    """Space-time pictures of an elementary rule from random or single-cell starts, (n, 32, 32)."""
    table = np.array([rule >> k & 1 for k in range(8)], dtype=np.uint8)
    width, cells = 96, canvas.SIZE
    row = np.zeros((n, width), dtype=np.uint8)
    if single:
        row[np.arange(n), width // 2 + rng.integers(-6, 7, n)] = 1
    else:
        row = (rng.random((n, width)) < 0.5 * rng.uniform(0.8, 1.2, (n, 1))).astype(np.uint8)
    rows = []
    skip = 0 if single else 12
    for step in range(cells + skip):
        if step >= skip:
            rows.append(row)
        row = table[np.roll(row, 1, 1) * 4 + row * 2 + np.roll(row, -1, 1)]
    picture = np.stack(rows, axis=1)
    start = (width - cells) // 2
    return picture[:, :, start : start + cells].astype(np.float32)


def _rule_turned(rule: int, n: int, rng: Rng) -> Array:
    picture = _elementary(rule, n, rng)
    for k, part in enumerate(canvas.parts(n, 4, rng)):
        picture[part] = np.rot90(picture[part], k, axes=(1, 2))
    return picture


LIFE = {
    "life": ((3,), (2, 3)),
    "high_life": ((3, 6), (2, 3)),
    "day_and_night": ((3, 6, 7, 8), (3, 4, 6, 7, 8)),
    "maze": ((3,), (1, 2, 3, 4, 5)),
    "coral": ((3,), (4, 5, 6, 7, 8)),
    "anneal": ((4, 6, 7, 8), (3, 5, 6, 7, 8)),
    "seeds": ((2,), ()),
    "replicator": ((1, 3, 5, 7), (1, 3, 5, 7)),
    "walled": ((4, 5, 6, 7, 8), (2, 3, 4, 5)),
}


def _neighbours(state: Array) -> Array:
    total = sum(np.roll(state, (i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1))
    return np.asarray(total - state)


def _evolve(rule: str, n: int, rng: Rng, steps: int = 14, density: float = 0.4) -> Array:
    born, survive = (np.isin(np.arange(9), counts) for counts in LIFE[rule])
    state = (rng.random((n, canvas.SIZE, canvas.SIZE)) < density * rng.uniform(0.8, 1.2, (n, 1, 1))).astype(np.int8)
    for _ in range(steps):
        count = _neighbours(state)
        state = np.where(state == 1, survive[count], born[count]).astype(np.int8)
    return state.astype(np.float32)


def _cyclic(states: int, n: int, rng: Rng) -> Array:
    """The cyclic automaton: a state is eaten by its successor; few states whirl, many freeze."""
    state = rng.integers(0, states, (n, canvas.SIZE, canvas.SIZE))
    for _ in range(16):
        following = (state + 1) % states
        eaten = np.zeros(state.shape, dtype=bool)
        for shift, axis in ((1, 1), (-1, 1), (1, 2), (-1, 2)):
            eaten |= np.roll(state, shift, axis) == following
        state = np.where(eaten, following, state)
    return np.asarray(state / (states - 1), dtype=np.float32)


def _aggregate(growth: tuple[float, int, int], n: int, rng: Rng) -> Array:
    """Growth from the middle: a cell with some neighbours joins by chance; the class is how ragged it grows."""
    chance, fewest, most = growth
    state = np.zeros((n, canvas.SIZE, canvas.SIZE), dtype=np.int8)
    middle = rng.integers(12, 20, (2, n))
    for dx in (0, 1):
        for dy in (0, 1):
            state[np.arange(n), middle[0] + dy, middle[1] + dx] = 1
    target = rng.uniform(0.18, 0.4, (n, 1, 1)) * canvas.SIZE**2
    for _ in range(70):
        around = _neighbours(state)
        free = (around >= fewest) & (around <= most)
        grows = free & (rng.random(state.shape) < chance) & (state.sum((1, 2), keepdims=True) < target)
        state = (state.astype(bool) | grows).astype(np.int8)
    return state.astype(np.float32)


def _majority(votes: int, n: int, rng: Rng) -> Array:
    """Caves: how often the majority has voted."""
    state = (rng.random((n, canvas.SIZE, canvas.SIZE)) < 0.5).astype(np.int8)
    for _ in range(votes):
        count = _neighbours(state) + state
        state = (count >= 5).astype(np.int8)
    return state.astype(np.float32)


RULES = [18, 30, 45, 54, 60, 73, 90, 105, 110, 150]
SEEDED = [30, 45, 73, 90, 105, 110, 150, 57]
TASKS = family(
    "automata",
    "structured",
    [
        ("rule", "plain", "Which elementary rule made the picture.", _elementary, named("rule_{}", RULES)),
        (
            "rule_turned",
            "noise",
            "Which elementary rule made the turned picture.",
            _rule_turned,
            named("rule_{}", RULES),
        ),
        (
            "seeded",
            "blur",
            "Which elementary rule grew from one cell.",
            partial(_elementary, single=True),
            named("rule_{}", SEEDED),
        ),
        ("life_like", "invert", "Which life-like rule it is.", _evolve, list(LIFE)),
        (
            "cyclic",
            "low_contrast",
            "How many states the cyclic automaton has.",
            _cyclic,
            named("{}_states", [3, 4, 5, 7, 10, 14]),
        ),
        (
            "growth",
            "texture",
            "How ragged the cluster grows.",
            _aggregate,
            {"stringy": (0.06, 1, 3), "ragged": (0.15, 1, 8), "rough": (0.35, 1, 8), "compact": (0.8, 2, 8)},
        ),
        ("caves", "occlusion", "How often the majority has voted.", _majority, named("{}_votes", (0, 1, 2, 4, 9))),
    ],
)
