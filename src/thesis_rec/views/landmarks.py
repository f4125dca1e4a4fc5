"""Landmarks of a dataset: what cheap, fixed views of its images reach on its labels.

Landmarking (Pfahringer, Bensusan and Giraud-Carrier, "Meta-Learning by Landmarking Various Learning Algorithms", ICML
2000) describes a task by how well simple learners do on it. Here the learner is always the same, a few-shot linear
probe, and the views differ: the layers of the image encoder from shallow to deep, the encoder on images whose colours
or flat regions were taken away, and features from formulas (colour histograms, gradients, spectra, pixels). Which views
separate the classes tells which cues carry them, and so which models will do well. No candidate model is run.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from thesis_rec.base.tables import unit
from thesis_rec.images.encoders.image_encoder import ImageEncoder
from thesis_rec.truth.linear_probe import probe_weights

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]

#: Layers of the encoder, evenly spread over its depth, whose mean activation is a view.
N_LAYERS = 6
#: Index among them of the layer that also looks at the altered images.
_EARLY = 1
ALTERATIONS = ("grey", "edges", "recoloured")
FORMULAS = (
    "colours", "greys", "gradients", "orientations", "spectrum", "pixels", "layout", "texture",
    "filters_1", "filters_2", "filters_places",
)  # fmt: skip
LANDMARKS: tuple[str, ...] = (
    "encoder",
    *(f"layer_{depth}" for depth in range(N_LAYERS)),
    *(f"{alteration}_{view}" for alteration in ALTERATIONS for view in ("encoder", "early")),
    *FORMULAS,
)
"""Names of the landmarks, in the order of their values."""

#: Images that are looked at, equally many of each class but at least :data:`PER_CLASS`: with 16 of each of two classes
#: a landmark differs by 0.07 from one choice of images to the next. Their time grows with the number, while on 12 real
#: datasets that nothing was fitted on, over two seeds, the answers' weighted tau is .701 with 160 and with 256 and .708
#: with 192, the loss of the first choice .031, .030 and .027, and coverage .868, .871 and .867.
IMAGES, PER_CLASS = 160, 16
#: Of datasets with more classes than this, that many are looked at, evenly spread.
MAX_CLASSES = 48
#: Probes whose mean accuracy a landmark is, and images of a class that each is fitted to.
DRAWS, SHOTS = 16, 8
_SIDE = 32
_RIDGE = 0.2


def landmark_values(
    encoder: ImageEncoder,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    tested: NDArray[np.bool_] | None = None,
) -> Floats:
    """Mean accuracy of few-shot linear probes on every view.

    Args:
        encoder: The image encoder.
        images: (N, H, W, 3) uint8.
        labels: (N,) classes; those without an image to fit to and another one to test on are left out.
        tested: (N,) images that are tested on, the others being fitted to; by default each draw divides them anew.

    Returns:
        (K,) accuracies in the order of :data:`LANDMARKS`, above chance: 0 is chance, 1 is perfect. NaN when fewer than
        two classes are left.
    """
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    rows = [row for row in rows if (len(row) >= 2 if tested is None else 0 < tested[row].sum() < len(row))]
    if len(rows) < 2:
        return np.full(len(LANDMARKS), np.nan, dtype=np.float32)
    kept = np.concatenate(rows)
    classes = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    rng = np.random.default_rng(0)
    sides = None if tested is None else tested[kept]
    places = [np.flatnonzero(classes == c) for c in range(len(rows))]
    draws = [
        [np.concatenate(s) for s in zip(*(_divided(p, sides, rng) for p in places), strict=True)] for _ in range(DRAWS)
    ]
    fitted, others = (np.stack(side) for side in zip(*draws, strict=True))  # (draws, n), (draws, m)
    chance = 1.0 / len(rows)
    pixels = images[kept].transpose(0, 3, 1, 2).astype(np.float32)  # (N, 3, H, W)

    def accuracy(view: Floats) -> float:
        # As many images of each class in every draw, class by class.
        weights, biases = probe_weights(view[fitted].astype(np.float64), classes[fitted[0]], len(rows), _RIDGE)
        hits = (view[others] @ weights + biases).argmax(-1) == classes[others]
        return (float(hits.mean()) - chance) / (1.0 - chance)

    # Hundreds of small systems: threads of theirs would wait for each other more than they compute. Beside these the
    # encoder is busy, which is nearly all of the time.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(1) as pool:
        formulas = pool.submit(_formulas, _pooled(pixels, _SIDE) / np.float32(255))
        found = {name: pool.submit(accuracy, view) for name, view in _encoded(encoder, pixels)}
        found |= {name: pool.submit(accuracy, view) for name, view in formulas.result().items()}
        return np.array([found[name].result() for name in LANDMARKS], dtype=np.float32)


def _divided(rows: Rows, tested: NDArray[np.bool_] | None, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """A class's images to fit to, at most :data:`SHOTS`, and to test on."""
    if tested is not None:
        return rng.permutation(rows[~tested[rows]])[:SHOTS], rows[tested[rows]]
    rows, fitted = rng.permutation(rows), min(SHOTS, len(rows) // 2)
    return rows[:fitted], rows[fitted:]


def _encoded(encoder: ImageEncoder, pixels: Floats) -> Iterator[tuple[str, Floats]]:
    """The encoder's views of (N, 3, H, W) images 0..255: names and features (N, F)."""
    final, layers = encoder.encode_depths(pixels, N_LAYERS)
    yield "encoder", final
    yield from ((f"layer_{depth}", layer) for depth, layer in enumerate(layers))
    for name, altered in _altered(pixels).items():
        final, layers = encoder.encode_depths(altered, N_LAYERS)
        yield f"{name}_encoder", final
        yield f"{name}_early", layers[_EARLY]


def _altered(pixels: Floats) -> Mapping[str, Floats]:
    """(N, 3, H, W) images 0..255 without colour, without flat regions, in other colours."""
    count, _, height, width = pixels.shape
    reach = max(1, min(height, width) // 16)
    around = _box(height, reach) @ pixels @ _box(width, reach).T
    draw = _uniform(4 * count)
    recoloured = np.take_along_axis(pixels, draw[: 3 * count].reshape(count, 3).argsort(1)[:, :, None, None], axis=1)
    negative = (draw[3 * count :] < 0.5)[:, None, None, None]
    return {
        "grey": np.broadcast_to(pixels.mean(axis=1, keepdims=True), pixels.shape),
        "edges": (pixels - around + np.float32(127.5)).clip(0, 255),
        "recoloured": np.where(negative, 255 - recoloured, recoloured),
    }


def _uniform(count: int) -> Floats:
    """Numbers 0..1 as torch draws them with seed 0: shipped landmarks were made with these."""
    bits = np.random.RandomState(0).randint(0, 2**32, count, np.uint32) & 0xFFFFFF
    return bits.astype(np.float32) / np.float32(2**24)


def _normal(count: int) -> Floats:
    """The first of torch's normal numbers with seed 0, Box and Muller's (1958) of two uniform ones, in blocks of 16."""
    radius, angle = _uniform(count).reshape(-1, 2, 8).swapaxes(0, 1)
    radius, angle = np.sqrt(-2 * np.log(1 - radius)), 2 * np.float32(np.pi) * angle
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()


def _box(side: int, reach: int) -> Floats:
    """(side, side) matrix of means over the pixels at most ``reach`` away, those at the border repeated beyond it."""
    near = np.clip(np.arange(side)[:, None] + np.arange(-reach, reach + 1), 0, side - 1)  # (side, 2 reach + 1)
    return np.eye(side, dtype=np.float32)[near].mean(axis=1)


def _pooled(x: Floats, side: int) -> Floats:
    """(..., H, W) to (..., side, side) means over areas as equal as whole pixels allow."""
    means = []
    for length in x.shape[-2:]:
        areas = [(i * length // side, -(-(i + 1) * length // side)) for i in range(side)]
        rows = np.array([[start <= place < end for place in range(length)] for start, end in areas], dtype=np.float32)
        means.append(rows / rows.sum(axis=1, keepdims=True))
    return means[0] @ x @ means[1].T


def _formulas(x: Floats) -> dict[str, Floats]:
    """Features that no training made, of (N, 3, 32, 32) images 0..1."""
    count, grey = len(x), x.mean(axis=1)  # (N, 32, 32)
    bins = (x * 4).astype(np.int64).clip(0, 3)
    across = grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
    down = grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]
    size = np.sqrt(across**2 + down**2)[:, None]  # (N, 1, 30, 30)
    pi = np.float32(np.pi)
    angle = (np.remainder(np.arctan2(down, across), pi) / pi * 8).astype(np.int64).clip(0, 7)
    # The shipped landmarks were made with an arctangent that rounds this diagonal to just below its border.
    angle -= (across == down) & (down > 0)
    # Histograms of oriented gradients (Dalal and Triggs, 2005), on a grid and over the whole image.
    oriented = (angle[:, None] == np.arange(8)[:, None, None]) * size  # (N, 8, 30, 30)
    whole = [oriented.mean((2, 3)), size.mean((2, 3)), size.std((2, 3), ddof=1)]
    return {
        "colours": _histogram((bins[:, 0] * 16 + bins[:, 1] * 4 + bins[:, 2]).reshape(count, -1), 64),
        "greys": _histogram((grey * 16).astype(np.int64).clip(0, 15).reshape(count, -1), 16),
        "gradients": unit(_pooled(oriented, 4).reshape(count, -1)),
        "orientations": unit(np.concatenate(whole, axis=1)),
        "spectrum": _spectrum(grey),
        "pixels": _pooled(x, 8).reshape(count, -1),
        "layout": _pooled(grey, 4).reshape(count, -1),
        "texture": _histogram(_binary_patterns(grey).reshape(count, -1), 12),
        **_random_filters(x),
    }


def _histogram(values: NDArray[np.int64], bins: int) -> Floats:
    """Square roots of the shares of (N, P) integers in each bin: (N, bins)."""
    rows = bins * np.arange(len(values))[:, None]
    counts = np.bincount((values + rows).ravel(), minlength=bins * len(values)).reshape(-1, bins)
    return np.sqrt(counts / values.shape[1], dtype=np.float32)


def _spectrum(grey: Floats) -> Floats:
    """(N, 16) log amplitude by spatial frequency, over all directions."""
    side = grey.shape[-1]
    amplitude = np.abs(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True)))
    along = np.fft.fftfreq(side)
    ring = (np.sqrt(along[:, None] ** 2 + along**2) * side).round().astype(np.int64).clip(0, 16)
    sums = amplitude.reshape(len(grey), -1) @ np.eye(17, dtype=np.float32)[ring.ravel()]
    return np.log(sums[:, 1:] + 1e-3).astype(np.float32)


def _binary_patterns(grey: Floats) -> NDArray[np.int64]:
    """Rotation-invariant uniform local binary patterns (Ojala et al., 2002): (N, 30, 30) codes below 12."""
    side = grey.shape[-1] - 2
    around = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
    centre = grey[:, 1:-1, 1:-1] + np.float32(0.01)
    bits = np.stack([grey[:, dy : dy + side, dx : dx + side] > centre for dy, dx in around])
    changes = (bits != np.roll(bits, 1, axis=0)).sum(axis=0) // 2
    return np.where(changes <= 1, bits.sum(axis=0), 7 + changes.clip(max=4))


def _random_filters(x: Floats) -> dict[str, Floats]:
    """Two layers of fixed random filters, pooled over the image and over nine places."""
    drawn = _normal(32 * 75 + 64 * 288)
    first, second = drawn[: 32 * 75].reshape(32, 3, 25), drawn[32 * 75 :].reshape(64, 288) / np.float32(17)
    first = (first - first.mean(axis=2, keepdims=True)).reshape(32, 75)
    found: dict[str, list[Floats]] = {"filters_1": [], "filters_2": [], "filters_places": []}
    for start in range(0, len(x), 32):  # what a convolution unfolds is large
        block = x[start : start + 32]
        one = _convolved(block - block.mean((2, 3), keepdims=True), first, 5)  # (B, 32, 32, 32)
        two = _convolved(one.reshape(len(one), 32, 16, 2, 16, 2).max(axis=(3, 5)), second, 3)  # (B, 64, 16, 16)
        found["filters_1"].append(np.concatenate([one.mean((2, 3)), one.max((2, 3))], axis=1))
        found["filters_2"].append(np.concatenate([two.mean((2, 3)), two.max((2, 3))], axis=1))
        found["filters_places"].append(_pooled(two, 3).reshape(len(two), -1))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _convolved(x: Floats, kernels: Floats, side: int) -> Floats:
    """(B, C, H, W) and K kernels (K, C side side) to the positive part of their convolution, (B, K, H, W)."""
    edge = side // 2
    padded = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    windows = sliding_window_view(padded, (side, side), axis=(2, 3)).transpose(0, 1, 4, 5, 2, 3)  # (B, C, s, s, H, W)
    unfolded = windows.reshape(len(x), kernels.shape[1], -1)  # (B, C s s, H W)
    return np.maximum(kernels @ unfolded, 0).reshape(len(x), len(kernels), *x.shape[2:])
