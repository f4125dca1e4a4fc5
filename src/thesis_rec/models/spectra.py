"""What the weights of a checkpoint show against what random weights of the same shapes would show.

Every weight matrix gives a few plain numbers: the spread of its values times the square root of its fan-in, their
kurtosis, its spectrum (entropy, participation ratio, largest value, energy of the top eighth and of the lower half),
how much the norms of its rows and columns vary and how far these are aligned, and for kernels of convolutions where
their energy lies. From each the number that a Gaussian matrix *of the same shape* gives is subtracted, so that 0 means
"as random" for a matrix of any size, and networks of different architectures can be compared. Norm layers and biases
give the size and spread of their values, the first layer colour and frequency content as well.

Tensors have roles instead of positions, told by their names and shapes alone: the first layer, the head, the body by
thirds of its depth, norm layers' weights, shifts and running statistics, other biases. The numbers are the same when
hidden units change places or signs. No file name is read, nothing besides the tensors, and no network is built.

Matrices whose smaller side exceeds 512 have their leading 128 singular values computed by seeded subspace iteration
(Halko, Martinsson & Tropp 2011), and the rest of the energy is taken as spread evenly, in the random matrix too. Of
more than 2048 outputs or inputs a seeded sample is compared with a random matrix of the sample's shape.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.models.checkpoint_reader import TensorInfo, layer_rank

Floats = NDArray[np.float32]
Numbers = dict[str, float]

#: Numbers of a weight matrix (m, n).
MATRIX = (
    "scale", "kurtosis", "entropy", "participation", "largest", "top_eighth", "lower_half", "row_norms",
    "column_norms", "row_alignment", "column_alignment",
)  # fmt: skip
#: Numbers of a convolution's kernels, besides.
SPATIAL = ("mean_tap", "smoothness", "centre")
#: Numbers of a first layer that sees three colours, besides.
COLOUR = ("grey", "colour_entropy", "middle_frequencies", "high_frequencies", "horizontal", "filter_entropy")
#: Numbers of norm layers' and other vectors.
VECTOR = ("size", "spread", "kurtosis", "small")
#: Kinds of vectors.
VECTOR_ROLES = ("norm_weight", "norm_shift", "bias", "running_mean", "running_variance")
_THIRDS = ("first", "middle", "last")
#: By role of tensors the numbers that describe a model, and where: over which part of its depth, or ("") of one tensor.
ROLES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "stem": (MATRIX + SPATIAL + COLOUR, ("",)),
    "body": (MATRIX + SPATIAL, (*_THIRDS, "mean", "median", "least", "greatest")),
    "head": (MATRIX, ("",)),
    **dict.fromkeys(VECTOR_ROLES, (VECTOR, (*_THIRDS, "mean"))),
}


def _named(role: str, place: str, number: str) -> str:
    return ".".join(filter(None, (role, place, number)))


#: Names of the numbers, in the order of :func:`describe`: role, place and number.
NAMES: tuple[str, ...] = (
    *(_named(role, place, name) for role, (names, places) in ROLES.items() for place in places for name in names),
    "size.parameters", "size.tensors", "size.classes",
)  # fmt: skip

# Exact spectra up to this smaller side; beyond, this many leading values.
_EXACT = 512
_LEADING = 128
# Outputs or inputs beyond this many are a sample.
_SIDE = 2048
# Tables of positions and tokens aren't layers.
_TABLES = re.compile(r"pos|token|relative|logit")
_TINY = 1e-6
# Of random matrices that weights are compared with, of samples, and of the subspace iteration.
_SEED = 0


def tensor_numbers(tensor: TensorInfo, values: Floats) -> Numbers:
    """The numbers of one tensor.

    Args:
        tensor: Its name and shape.
        values: (size,) its values.

    Returns:
        The numbers of :data:`MATRIX`, and of :data:`SPATIAL` and :data:`COLOUR` where they apply, or of
        :data:`VECTOR`; a number that isn't defined (a matrix of zeros has no spectrum) is missing.
    """
    shape = matrix_shape(tensor.shape)
    if shape is None:
        return _vector_numbers(values)
    scale = float(np.sqrt(np.mean(np.square(values), dtype=np.float64)))
    fan_in = values.size // shape[0]
    found = {"scale": float(np.log(scale * np.sqrt(fan_in) + _TINY))}
    if scale > 0:
        weights = _sampled(values.reshape(shape))
        expected = _expected(weights.shape)
        measured = _matrix_numbers(weights / np.sqrt(np.mean(np.square(weights))))
        found |= {name: value - expected[name] for name, value in measured.items()}
    return found


def matrix_shape(shape: Sequence[int]) -> tuple[int, ...] | None:
    """The shape without leading ones, or None for what is a vector: less than two rows or columns."""
    kept = tuple(shape)
    while len(kept) > 2 and kept[0] == 1:
        kept = kept[1:]
    if len(kept) < 2 or kept[0] < 2 or np.prod(kept[1:]) < 2:
        return None
    return kept


def _sampled(weights: Floats) -> Floats:
    """At most 2048 outputs and 2048 inputs of a weight tensor (m, c, ...), drawn at random."""
    rng = np.random.default_rng([_SEED, *weights.shape])
    for axis in (0, 1):
        if weights.shape[axis] > _SIDE:
            weights = np.take(weights, rng.choice(weights.shape[axis], _SIDE, replace=False), axis)
    return weights


@lru_cache(maxsize=4096)
def _expected(shape: tuple[int, ...]) -> Numbers:
    """Mean numbers of Gaussian matrices of a shape; of one matrix where it is large and the numbers hardly vary."""
    size = int(np.prod(shape))
    rng = np.random.default_rng([_SEED, *shape])
    count = min(32, 1 + 65536 // size)
    draws = [_matrix_numbers(rng.standard_normal(shape, dtype=np.float32)) for _ in range(count)]
    return {name: float(np.mean([draw[name] for draw in draws])) for name in draws[0]}


def _matrix_numbers(weights: Floats) -> Numbers:
    """Numbers of a weight tensor (m, ...) of unit mean square, not yet compared."""
    matrix = weights.reshape(weights.shape[0], -1)
    m, n = matrix.shape
    squares = np.square(matrix)
    rows, columns = squares.sum(1), squares.sum(0)
    found = {"kurtosis": float(np.log(np.mean(np.square(squares)) + _TINY))}
    found |= _spectrum_numbers(matrix if m <= n else matrix.T)
    for name, norms, size in (("row", rows, n), ("column", columns, m)):
        length = np.sqrt(norms)
        found[f"{name}_norms"] = float(np.log(length.std() / length.mean() + 1e-2 / np.sqrt(size)))
        unit = matrix / np.maximum(length, _TINY)[:, None] if name == "row" else matrix / np.maximum(length, _TINY)
        # Mean squared cosine of two rows (columns), from whichever Gram matrix is smaller.
        total, count = float(np.square(_gram(unit if m <= n else unit.T), dtype=np.float64).sum()), len(length)
        found[f"{name}_alignment"] = float(np.log(max((total - count) / (count * (count - 1)), 0.0) * size + 0.05))
    if weights.ndim == 4 and weights.shape[-1] > 1 and weights.shape[-2] > 1:
        found |= _spatial_numbers(weights)
        if weights.shape[1] == 3:
            found |= _colour_numbers(weights)
    return found


def _gram(matrix: Floats) -> Floats:
    return matrix @ matrix.T


def _spectrum_numbers(matrix: Floats) -> Numbers:
    """Of (r, n) with r <= n: its squared singular values as shares of their sum, largest last."""
    gram = _gram(matrix)
    r = len(gram)
    trace = float(np.trace(gram))
    if r <= _EXACT:
        shares = np.maximum(np.linalg.eigvalsh(gram), 0) / trace
    else:
        basis = np.random.default_rng([_SEED, r]).standard_normal((r, _LEADING + 16), dtype=np.float32)
        for _ in range(3):
            basis = np.linalg.qr(gram @ basis)[0]
        leading = np.maximum(np.linalg.eigvalsh(basis.T @ gram @ basis)[-_LEADING:], 0) / trace
        rest = np.full(r - _LEADING, max(1 - float(leading.sum()), 0.0) / (r - _LEADING))
        shares = np.concatenate([rest, leading])
    shares = shares.astype(np.float64)
    return {
        "entropy": float(-(shares * np.log(shares + 1e-30)).sum()),
        "participation": float(-np.log(np.square(gram / trace, dtype=np.float64).sum())),
        "largest": float(np.log(shares[-1])),
        "top_eighth": float(np.log(shares[-max(1, r // 8) :].sum())),
        "lower_half": float(np.log(shares[: r // 2].sum() + 1e-4)),
    }


def _spatial_numbers(weights: Floats) -> Numbers:
    """Where the energy of kernels (m, c, h, w) lies: in their mean, between neighbours, in the centre."""
    height, width = weights.shape[-2:]
    kernels = weights.reshape(-1, height, width)
    energy = float(np.square(kernels).sum())
    # 2 for independent neighbours, as the mean square is 1.
    steps = sum(float(np.square(np.diff(kernels, axis=axis)).mean()) for axis in (1, 2))
    centre = kernels[:, (height - 1) // 2 : height // 2 + 1, (width - 1) // 2 : width // 2 + 1]
    return {
        "mean_tap": float(np.log(np.square(kernels.sum((1, 2))).sum() / energy + 1e-3)),
        "smoothness": float(np.log(steps + 1e-3)),
        "centre": float(np.log(np.square(centre).mean() + 1e-3)),
    }


def _colour_numbers(weights: Floats) -> Numbers:
    """Colour and frequency content of filters (m, 3, h, w)."""
    count, _, height, width = weights.shape
    energy = float(np.square(weights).sum())
    colours = np.linalg.eigvalsh(_gram(weights.transpose(1, 0, 2, 3).reshape(3, -1)))
    shares = np.maximum(colours, 0) / colours.sum()
    # The highest frequency of each direction, as a share of the pixels' own: 0.5 is a checkerboard.
    vertical, horizontal = np.abs(np.fft.fftfreq(height))[:, None], np.abs(np.fft.fftfreq(width))[None]
    frequency = np.maximum(vertical, horizontal)
    power = np.square(np.abs(np.fft.fft2(weights))).sum(1)  # (m, h, w)
    total = power.sum(0) / power.sum()
    of_filter = (power / np.maximum(power.sum((1, 2), keepdims=True), 1e-12)).reshape(count, -1)
    middle = (frequency > 0) & (frequency < 1 / 3)
    return {
        "grey": float(np.log(np.square(weights.sum(1)).sum() / energy + 1e-3)),
        "colour_entropy": float(-(shares * np.log(shares + 1e-12)).sum()),
        "middle_frequencies": float(np.log(total[middle].sum() + 1e-3)) if middle.any() else 0.0,
        "high_frequencies": float(np.log(total[frequency >= 1 / 3].sum() + 1e-3)),
        "horizontal": float(np.log(total[0, 1:].sum() + 1e-3) - np.log(total[1:, 0].sum() + 1e-3)),
        "filter_entropy": float(-(of_filter * np.log(of_filter + 1e-12)).sum(1).mean()),
    }


def _vector_numbers(values: Floats) -> Numbers:
    """Size and spread of (size,) values, all of their magnitudes, so that signs of units don't count."""
    size = np.abs(values).astype(np.float64)
    mean, square = float(size.mean()), float(np.square(size).mean())
    return {
        "size": float(np.log(np.sqrt(square) + 1e-4)),
        "spread": float(size.std() / (mean + _TINY)),
        "kurtosis": float(np.log(np.power(size, 4).mean() / (3 * square**2) + _TINY)) if square > 0 else 0.0,
        "small": float((size < 0.1 * mean).mean()),
    }


def describe(tensors: Sequence[TensorInfo], numbers: Sequence[Numbers]) -> Floats:
    """One description of a model out of the numbers of its tensors.

    Args:
        tensors: Its T tensors, from the first layer to the last.
        numbers: What :func:`tensor_numbers` gave for each.

    Returns:
        (P,) float32 in the order of :data:`NAMES`; NaN where a model has no such tensor.
    """
    of = dict(zip([tensor.name for tensor in tensors], numbers, strict=True))
    matrices = [tensor for tensor in tensors if matrix_shape(tensor.shape) and not _TABLES.search(tensor.name)]
    stem = ([tensor for tensor in matrices if "grey" in of[tensor.name]] or matrices)[:1]
    head = [tensor for tensor in matrices if layer_rank(tensor.name) == 3 and tensor not in stem][-1:]
    members = {"stem": stem, "head": head, "body": [tensor for tensor in matrices if tensor not in stem + head]}
    norms = {t.name.rpartition(".")[0] for t in tensors if t.name.endswith(".weight") and len(t.shape) == 1}
    for tensor in tensors:
        if len(tensor.shape) == 1 and (role := _vector_role(tensor.name, norms)):
            members.setdefault(role, []).append(tensor)
    found: Numbers = {}
    for role, layers in members.items():
        found |= _places(role, [of[layer.name] for layer in layers])
    learned = sum(tensor.size for tensor in tensors if "running_" not in tensor.name)
    found |= {"size.parameters": float(np.log(learned)), "size.tensors": float(np.log(len(tensors)))}
    if head:
        found["size.classes"] = float(np.log(head[0].shape[0]))
    return np.array([found.get(name, np.nan) for name in NAMES], dtype=np.float32)


def _vector_role(name: str, norms: set[str]) -> str:
    owner, _, last = name.rpartition(".")
    if last.endswith("bias"):
        return "norm_shift" if last == "bias" and owner in norms else "bias"
    return {"running_mean": last, "running_var": "running_variance", "weight": "norm_weight"}.get(last, "")


def _places(role: str, members: Sequence[Numbers]) -> Numbers:
    """Means of thirds of the depth, and what goes over all of it."""
    overall: dict[str, Callable[[list[float]], Any]] = {
        "mean": np.mean, "median": np.median, "least": np.min, "greatest": np.max,
    }  # fmt: skip
    found: Numbers = {}
    names, places = ROLES[role]
    for name in names:
        # A number belongs to the third in which its layer lies, whether or not the layers between have it.
        known = [(3 * i // len(members), member[name]) for i, member in enumerate(members) if name in member]
        values = [value for _, value in known]
        for place in places:
            chosen = [v for third, v in known if _THIRDS[third] == place] if place in _THIRDS else values
            if chosen:
                found[_named(role, place, name)] = float(overall.get(place, np.mean)(chosen))
    return found


#: Groups of numbers, by what their names begin with.
GROUPS: dict[str, tuple[str, ...]] = {
    "first layer": ("stem.",),
    "body": ("body.",),
    "norms and biases": tuple(f"{role}." for role in VECTOR_ROLES),
    "head and size": ("head.", "size."),
}
#: Those by which models are compared: norms and biases tell families apart rather than good models from bad ones.
COMPARED = ("first layer", "body", "head and size")


def comparison_scales(groups: Sequence[str] = COMPARED) -> NDArray[np.float64]:
    """(P,) what standardised numbers are divided by to compare models, so that groups count alike however large.

    The scale of a number that isn't compared is infinite.
    """
    scales = np.full(len(NAMES), np.inf)
    for group in groups:
        columns = [i for i, name in enumerate(NAMES) if name.startswith(GROUPS[group])]
        scales[columns] = np.sqrt(len(columns))
    return scales
