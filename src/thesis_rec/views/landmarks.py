"""Landmarks of a dataset: what cheap, fixed views of its images reach on its labels.

Landmarking (Pfahringer, Bensusan and Giraud-Carrier, "Meta-Learning by Landmarking Various Learning Algorithms", ICML
2000) describes a task by how well simple learners do on it. Here the learner is always the same, a few-shot linear
probe, and the views differ: the layers of the image encoder from shallow to deep, the encoder on images whose colours
or flat regions were taken away, and features from formulas (colour histograms, gradients, spectra, pixels). Which views
separate the classes tells which cues carry them, and so which models will do well. No candidate model is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from thesis_rec.base.tables import MeasuredTask
from thesis_rec.truth.linear_probe import ClassRows, ProbeSettings, plan_probes, probe_accuracies

if TYPE_CHECKING:
    from thesis_rec.images.encoders.torch_encoder import TorchEncoder

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
#: a landmark differs by 0.07 from one choice of images to the next.
IMAGES, PER_CLASS = 256, 16
#: Of datasets with more classes than this, that many are looked at, evenly spread.
MAX_CLASSES = 48
#: Probes whose mean accuracy a landmark is, and images of a class that each is fitted to.
DRAWS, SHOTS = 16, 8
_SIDE = 32
_PROBE = ProbeSettings(shots=SHOTS, max_share=1.0, draws=1, ridge=0.2, seed=0)


def landmark_values(
    encoder: TorchEncoder,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    tested: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
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
    ends = np.cumsum([len(row) for row in rows])
    places = [np.arange(end - len(row), end) for row, end in zip(rows, ends.tolist(), strict=True)]
    rng = np.random.default_rng(0)
    sides = None if tested is None else tested[kept]
    draws = {f"draw {n}": [_divided(place, sides, rng) for place in places] for n in range(DRAWS)}
    tasks = [MeasuredTask(draw, tuple((draw, c) for c in range(len(places)))) for draw in draws]
    plan = plan_probes(tasks, draws, _PROBE)
    chance = 1.0 / len(rows)
    found = {}
    for name, view in _views(encoder, images[kept]):
        accuracy = float(probe_accuracies(view, plan, _PROBE, plan.chunks(view.shape[1], "cpu")).mean())
        found[name] = (accuracy - chance) / (1.0 - chance)
    return np.array([found[name] for name in LANDMARKS], dtype=np.float32)


def _divided(rows: NDArray[np.intp], tested: NDArray[np.bool_] | None, rng: np.random.Generator) -> ClassRows:
    """A class's images to fit to, at most :data:`SHOTS`, and to test on."""
    if tested is not None:
        return ClassRows(rng.permutation(rows[~tested[rows]])[:SHOTS], rows[tested[rows]])
    rows, fitted = rng.permutation(rows), min(SHOTS, len(rows) // 2)
    return ClassRows(rows[:fitted], rows[fitted:])


def _views(encoder: TorchEncoder, images: NDArray[np.uint8]) -> Iterator[tuple[str, Tensor]]:
    """Every view's name and features (N, F)."""
    with torch.inference_mode():
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()  # (N, 3, H, W)
        final, layers = encoder.encode_depths(pixels, N_LAYERS)
        yield "encoder", final
        yield from ((f"layer_{depth}", layer) for depth, layer in enumerate(layers))
        for name, altered in _altered(pixels).items():
            final, layers = encoder.encode_depths(altered, N_LAYERS)
            yield f"{name}_encoder", final
            yield f"{name}_early", layers[_EARLY]
        small = functional.interpolate(pixels, (_SIDE, _SIDE), mode="area") / 255.0
        yield from _formulas(small).items()


def _altered(pixels: Tensor) -> Mapping[str, Tensor]:
    """(N, 3, H, W) images 0..255 without colour, without flat regions, in other colours."""
    count, _, height, width = pixels.shape
    draw = torch.Generator().manual_seed(0)
    reach = max(1, min(height, width) // 16)
    padded = functional.pad(pixels, (reach,) * 4, mode="replicate")
    edges = (pixels - functional.avg_pool2d(padded, 2 * reach + 1, 1) + 127.5).clamp(0, 255)
    channels = torch.rand(count, 3, generator=draw).argsort(1)
    negative = torch.rand(count, 1, 1, 1, generator=draw) < 0.5
    recoloured = pixels[torch.arange(count)[:, None], channels]
    recoloured = torch.where(negative, 255 - recoloured, recoloured)
    grey = pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return {"grey": grey, "edges": edges, "recoloured": recoloured}


def _formulas(x: Tensor) -> dict[str, Tensor]:
    """Features that no training made, of (N, 3, 32, 32) images 0..1."""
    grey = x.mean(1, keepdim=True)
    bins = (x * 4).long().clamp(0, 3)
    across = grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]
    down = grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1]
    size = (across.square() + down.square()).sqrt()
    angle = (torch.atan2(down, across).remainder(torch.pi) / torch.pi * 8).long().clamp(0, 7)
    # Histograms of oriented gradients (Dalal and Triggs, 2005), on a grid and over the whole image.
    oriented = functional.one_hot(angle[:, 0], 8).permute(0, 3, 1, 2).float() * size  # (N, 8, 30, 30)
    whole = torch.cat([oriented.mean((2, 3)), size.mean((2, 3)), size.std((2, 3))], 1)
    return {
        "colours": _histogram((bins[:, 0] * 16 + bins[:, 1] * 4 + bins[:, 2]).flatten(1), 64),
        "greys": _histogram((grey * 16).long().clamp(0, 15).flatten(1), 16),
        "gradients": functional.normalize(functional.adaptive_avg_pool2d(oriented, 4).flatten(1), dim=1),
        "orientations": functional.normalize(whole, dim=1),
        "spectrum": _spectrum(grey[:, 0]),
        "pixels": functional.adaptive_avg_pool2d(x, 8).flatten(1),
        "layout": functional.adaptive_avg_pool2d(grey, 4).flatten(1),
        "texture": _histogram(_binary_patterns(grey[:, 0]).flatten(1), 12),
        **_random_filters(x),
    }


def _histogram(values: Tensor, bins: int) -> Tensor:
    """Square roots of the shares of (N, P) integers in each bin: (N, bins)."""
    counts = torch.zeros(len(values), bins)
    return counts.scatter_add_(1, values, torch.ones(values.shape)).div(values.shape[1]).sqrt()


def _spectrum(grey: Tensor) -> Tensor:
    """(N, 16) log amplitude by spatial frequency, over all directions."""
    amplitude = torch.fft.fft2(grey - grey.mean((1, 2), keepdim=True)).abs()
    along = torch.fft.fftfreq(grey.shape[-1])
    ring = ((along[:, None].square() + along[None].square()).sqrt() * grey.shape[-1]).round().long().clamp(0, 16)
    sums = torch.zeros(len(grey), 17).index_add_(1, ring.flatten(), amplitude.flatten(1))
    return (sums[:, 1:] + 1e-3).log()


def _binary_patterns(grey: Tensor) -> Tensor:
    """Rotation-invariant uniform local binary patterns (Ojala et al., 2002): (N, 30, 30) codes below 12."""
    side = grey.shape[-1] - 2
    around = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
    centre = grey[:, 1:-1, 1:-1] + 0.01
    bits = torch.stack([(grey[:, dy : dy + side, dx : dx + side] > centre).long() for dy, dx in around])
    changes = (bits != bits.roll(1, 0)).sum(0) // 2
    return torch.where(changes <= 1, bits.sum(0), 7 + changes.clamp(max=4))


def _random_filters(x: Tensor) -> dict[str, Tensor]:
    """Two layers of fixed random filters, pooled over the image and over nine places."""
    draw = torch.Generator().manual_seed(0)
    first = torch.randn(32, 3, 5, 5, generator=draw)
    first = first - first.mean((2, 3), keepdim=True)
    second = torch.randn(64, 32, 3, 3, generator=draw) / 17
    one = functional.conv2d(x - x.mean((2, 3), keepdim=True), first, padding=2).relu()
    two = functional.conv2d(functional.max_pool2d(one, 2), second, padding=1).relu()
    return {
        "filters_1": torch.cat([one.mean((2, 3)), one.amax((2, 3))], 1),
        "filters_2": torch.cat([two.mean((2, 3)), two.amax((2, 3))], 1),
        "filters_places": functional.adaptive_avg_pool2d(two, 3).flatten(1),
    }
