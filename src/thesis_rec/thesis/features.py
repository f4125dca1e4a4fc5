"""From models and tokens to the numbers that a ranker reads, fitted on known models and training tasks only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import ModelTable, TaskTokens

Floats = NDArray[np.float32]

#: Whitened features are cut off here: what lies farther out is an outlier that a network can't have learned about.
CLIP = 4.0


@dataclass(frozen=True)
class FeatureSettings:
    """Which features a ranker reads.

    Attributes:
        embedding: Describe models by their ``weights`` (the autoencoder's code), by their ``responses`` on the
            reference bank, or by ``both``.
        model_components: Principal components kept of each description.
        factors: Latent factors of each known model's measured performance; 0 for none.
        pooling: ``class_means`` (one token per class), ``all`` (one per image) or ``statistics`` (one per class with
            its spread and margin, and tokens that describe the dataset as a whole).
        max_tokens: Tokens of classes or images beyond this number are left out, evenly.
        landmarks: Whether the prior is corrected by datasets' landmarks and models' reference probes.
    """

    embedding: Literal["weights", "responses", "both"] = "both"
    model_components: int = 32
    factors: int = 8
    pooling: Literal["class_means", "all", "statistics"] = "statistics"
    max_tokens: int = 64
    landmarks: bool = True


@dataclass(frozen=True)
class Whitening:
    """Principal components scaled to unit variance.

    Attributes:
        mean: (E,) mean of the fitted rows.
        projection: (E, K) components divided by their standard deviation.
    """

    mean: Floats
    projection: Floats

    @classmethod
    def fit(cls, rows: NDArray[np.floating], components: int) -> Whitening:
        """Fit to (N, E) finite rows; at most N - 1 components, and none without variance."""
        rows = np.asarray(rows, dtype=np.float64)
        # Columns of very different scale (accuracies, widths) are first made comparable.
        scale = np.maximum(rows.std(0), 1e-3 * max(float(rows.std()), 1e-12))
        mean = rows.mean(0)
        _, singular, basis = np.linalg.svd((rows - mean) / scale, full_matrices=False)
        kept = min(components, max(len(rows) - 1, 1), int((singular > 1e-6 * max(singular[0], 1e-12)).sum()))
        deviation = singular[:kept] / np.sqrt(len(rows))
        projection = np.zeros((rows.shape[1], components))
        projection[:, :kept] = (basis[:kept] / deviation[:, None]).T / scale[:, None]
        return cls(mean.astype(np.float32), projection.astype(np.float32))

    def __call__(self, rows: NDArray[np.floating]) -> Floats:
        """(N, E) to (N, K), clipped; rows that aren't finite become zeros, the mean."""
        known = np.isfinite(rows).all(1, keepdims=True)
        filled = np.where(known, rows, self.mean).astype(np.float32)
        return np.clip((filled - self.mean) @ self.projection, -CLIP, CLIP)


@dataclass(frozen=True)
class ModelFeatures:
    """Features of models: whitened descriptions, size, and, of known models alone, factors of their performance.

    The last ``n_private`` columns are private: latent factors and a flag, all zero for a model that was never measured.

    Attributes:
        settings: What is included.
        weights: Whitening of the autoencoder's codes.
        responses: Whitening of the responses; None when there are none.
        size: Mean and standard deviation of log10 of the number of parameters.
        factors: (F,) latent factors by model id.
    """

    settings: FeatureSettings
    weights: Whitening
    responses: Whitening | None
    size: tuple[float, float]
    factors: Mapping[str, Floats] = field(default_factory=dict)

    @classmethod
    def fit(cls, known: ModelTable, settings: FeatureSettings, factors: Floats | None = None) -> ModelFeatures:
        """Fit to the known models.

        Args:
            known: Models that may be trained on.
            settings: What to include.
            factors: (M, F) latent factors of these models' performance.
        """
        responses = None
        if settings.embedding != "weights" and known.responses is not None:
            rows = known.responses[np.isfinite(known.responses).all(1)]
            responses = Whitening.fit(rows, settings.model_components) if len(rows) > 2 else None
        size = np.log10(np.maximum(known.n_parameters.astype(np.float64), 1.0))
        table = {} if factors is None else dict(zip(known.model_ids, factors.astype(np.float32), strict=True))
        return cls(
            settings,
            Whitening.fit(known.embedding, settings.model_components),
            responses,
            (float(size.mean()), float(size.std()) or 1.0),
            table,
        )

    @property
    def n_factors(self) -> int:
        """Number of latent factors F."""
        return len(next(iter(self.factors.values()), ()))

    @property
    def n_private(self) -> int:
        """Number of private columns."""
        return self.n_factors + 1

    def __call__(self, models: ModelTable) -> Floats:
        """(M, E) features, the private columns last."""
        parts: list[Floats] = []
        if self.settings.embedding != "responses" or self.responses is None:
            parts.append(self.weights(models.embedding))
        if self.responses is not None:
            measured = models.responses
            if measured is None or measured.shape[1] != len(self.responses.mean):
                measured = np.full((len(models), len(self.responses.mean)), np.nan, dtype=np.float32)
            has = np.asarray(np.isfinite(measured).all(axis=1), dtype=np.float32)[:, None]
            parts += [self.responses(measured), has]
        size = np.log10(np.maximum(models.n_parameters.astype(np.float64), 1.0))
        parts.append(np.clip((size - self.size[0]) / self.size[1], -CLIP, CLIP)[:, None].astype(np.float32))
        private = np.zeros((len(models), self.n_private), dtype=np.float32)
        for row, model_id in enumerate(models.model_ids):
            if model_id in self.factors:
                private[row, :-1] = self.factors[model_id]
                private[row, -1] = 1.0
        return np.concatenate([*parts, private], axis=1)

    def state(self) -> dict[str, Any]:
        """Plain values and arrays, for a checkpoint."""
        return {
            "settings": asdict(self.settings),
            "weights": (self.weights.mean, self.weights.projection),
            "responses": None if self.responses is None else (self.responses.mean, self.responses.projection),
            "size": list(self.size),
            "factor_ids": list(self.factors),
            "factors": np.stack(list(self.factors.values())) if self.factors else np.zeros((0, 0), np.float32),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ModelFeatures:
        """Undo :meth:`state`."""
        responses = None if state["responses"] is None else Whitening(*state["responses"])
        factors = dict(zip(state["factor_ids"], state["factors"], strict=True))
        mean, deviation = state["size"]
        return cls(
            FeatureSettings(**state["settings"]), Whitening(*state["weights"]), responses, (mean, deviation), factors
        )


N_CLASS_STATISTICS = 4
N_TASK_STATISTICS = 12


def class_statistics(features: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Class means and what one class's tokens tell about how hard it is.

    Args:
        features: (B, C, D) L2-normalised tokens.

    Returns:
        Means (C, D), and (C, 4): spread within the class, distance to the nearest other class mean, accuracy of the
        nearest class mean left one out, and the mean margin of that decision.
    """
    batches, classes, _ = features.shape
    means = features.mean(0)
    spread = np.sqrt(np.square(features - means).sum(-1).mean(0))
    nearest = np.zeros(classes)
    if classes > 1:
        nearest = np.where(np.eye(classes, dtype=bool), np.inf, _distances(means, means)).min(1)
    accuracy, margin = np.ones(classes), np.zeros(classes)
    if batches > 1 and classes > 1:
        to_all = _distances(features, means)  # (B, C, C)
        # A token must not vote for itself: its own class's mean is taken without it, which lengthens the distance.
        own = np.diagonal(to_all, axis1=1, axis2=2) * batches / (batches - 1)  # (B, C)
        others = np.where(np.eye(classes, dtype=bool), np.inf, to_all).min(-1)
        margin = (others - own).mean(0)
        accuracy = (own < others).mean(0)
    return means.astype(np.float32), np.stack([spread, nearest, accuracy, margin], 1).astype(np.float32)


def _distances(rows: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.floating]:
    """Euclidean distances (..., N) of rows (..., D) to others (N, D), without an array of all differences."""
    squared = np.square(rows).sum(-1)[..., None] + np.square(others).sum(-1) - 2.0 * rows @ others.T
    distances: NDArray[np.floating] = np.sqrt(np.maximum(squared, 0.0))
    return distances


def task_statistics(tokens: TaskTokens) -> Floats:
    """(12,) descriptors of a whole dataset: size, difficulty to the encoder, geometry of its classes."""
    features = np.asarray(tokens.features, dtype=np.float32)
    batches, classes, _ = features.shape
    means, per_class = class_statistics(features)
    centre = means.mean(0)
    between = float(np.square(means - centre).sum(1).mean())
    within = float(np.square(features - means).sum(-1).mean())
    singular = np.linalg.svd(means - centre, compute_uv=False)
    share = np.square(singular) / max(float(np.square(singular).sum()), 1e-12)
    rank = float(np.exp(-(share * np.log(share + 1e-12)).sum()))
    flat = (features - centre).reshape(batches * classes, -1)
    total = np.linalg.svd(flat, compute_uv=False) if len(flat) <= 512 else np.linalg.svd(flat[:512], compute_uv=False)
    energy = np.square(total) / max(float(np.square(total).sum()), 1e-12)
    return np.array(
        [
            np.log2(max(classes, 1)),
            np.log10(max(tokens.n_images, 1)),
            np.log(between / max(within, 1e-9) + 1e-6),
            np.sqrt(between),
            np.sqrt(within),
            per_class[:, 2].mean(),
            per_class[:, 2].std(),
            per_class[:, 3].mean(),
            per_class[:, 1].mean(),
            np.log(rank),
            np.log(float(np.exp(-(energy * np.log(energy + 1e-12)).sum()))),
            np.linalg.norm(centre),
        ],
        dtype=np.float32,
    )


@dataclass(frozen=True)
class TokenFeatures:
    """Tokens of a dataset as a ranker reads them: features, statistics and the token's kind, standardised.

    A token is ``[features (D) | statistics (S) | kind (3)]``; kinds are class or image, dataset mean, dataset spread.

    Attributes:
        settings: Pooling and number of tokens.
        mean: (3, D + S) means by kind over training tasks.
        scale: (3, D + S) standard deviations by kind.
        encoder_id: The image encoder whose tokens these are.
    """

    settings: FeatureSettings
    mean: Floats
    scale: Floats
    encoder_id: str = ""

    @classmethod
    def fit(cls, tasks: Sequence[TaskTokens], settings: FeatureSettings) -> TokenFeatures:
        """Fit the standardisation to the tokens of training tasks."""
        dim = tasks[0].features.shape[2] + N_TASK_STATISTICS
        parts = [_raw_tokens(task, settings) for task in tasks]
        rows = np.concatenate([values for values, _ in parts])
        kinds = np.concatenate([kind for _, kind in parts])
        mean, scale = np.zeros((3, dim), np.float32), np.ones((3, dim), np.float32)
        for kind in range(3):
            if (kinds == kind).any():
                of_kind = rows[kinds == kind]
                mean[kind] = of_kind.mean(0)
                scale[kind] = np.maximum(of_kind.std(0), 1e-4)
        return cls(settings, mean, scale, tasks[0].encoder_id)

    @property
    def width(self) -> int:
        """Width of a token as the ranker reads it."""
        return self.mean.shape[1] + 3

    def __call__(self, task: TaskTokens) -> Floats:
        """(T, D + S + 3) tokens of one dataset."""
        values, kinds = _raw_tokens(task, self.settings)
        standardised = np.clip((values - self.mean[kinds]) / self.scale[kinds], -CLIP, CLIP)
        return np.concatenate([standardised, np.eye(3, dtype=np.float32)[kinds]], axis=1)

    def state(self) -> dict[str, Any]:
        """Plain values and arrays, for a checkpoint."""
        return {
            "settings": asdict(self.settings),
            "mean": self.mean,
            "scale": self.scale,
            "encoder_id": self.encoder_id,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TokenFeatures:
        """Undo :meth:`state`."""
        return cls(FeatureSettings(**state["settings"]), state["mean"], state["scale"], state["encoder_id"])


def _raw_tokens(task: TaskTokens, settings: FeatureSettings) -> tuple[Floats, NDArray[np.int64]]:
    """Tokens (T, D + S) before standardisation, and their kinds (T,)."""
    features = np.asarray(task.features, dtype=np.float32)
    batches, classes, dim = features.shape
    width = dim + N_TASK_STATISTICS
    if settings.pooling == "all":
        per_class = _thin(features.reshape(batches * classes, dim), settings.max_tokens)
    else:
        per_class = _thin(features.mean(0), settings.max_tokens)
    values = np.zeros((len(per_class), width), dtype=np.float32)
    values[:, :dim] = per_class
    kinds = np.zeros(len(values), dtype=np.int64)
    if settings.pooling != "statistics":
        return values, kinds
    means, statistics = class_statistics(features)
    # Where a class lies within its dataset is what separates it; where the dataset lies is told once.
    values[:, :dim] = _thin(means - means.mean(0), settings.max_tokens)
    values[:, dim : dim + N_CLASS_STATISTICS] = _thin(statistics, settings.max_tokens)
    whole = np.zeros((2, width), dtype=np.float32)
    described = task_statistics(task)
    whole[0] = np.concatenate([means.mean(0), described])
    whole[1] = np.concatenate([np.sqrt(np.square(features - means).mean((0, 1))), described])
    return np.concatenate([values, whole]), np.concatenate([kinds, [1, 2]])


def _thin(rows: Floats, count: int) -> Floats:
    """At most ``count`` rows, evenly spread."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(int)]


def performance_factors(standardised: NDArray[np.floating], measured: NDArray[np.bool_], count: int) -> Floats:
    """Latent factors of models: leading right singular vectors of the table of standardised performance.

    Missing cells are filled by the factorisation itself, iterated (Troyanskaya et al., 2001, SVDimpute).

    Args:
        standardised: (N, M) performance, each task with mean 0 and standard deviation 1.
        measured: (N, M) which cells count.
        count: Number of factors F, at most the rank of the table.

    Returns:
        (M, F) with unit variance each.
    """
    count = min(count, *standardised.shape)
    if count == 0:
        return np.zeros((standardised.shape[1], 0), np.float32)
    table = np.where(measured, standardised, 0.0)
    for _ in range(1 if measured.all() else 5):
        left, singular, right = np.linalg.svd(table, full_matrices=False)
        filled = (left[:, :count] * singular[:count]) @ right[:count]
        table = np.where(measured, standardised, filled)
    factors = right[:count].T
    # The sign of a singular vector is arbitrary; a fixed one keeps runs comparable.
    factors = factors * np.where(factors.sum(0) < 0, -1.0, 1.0)
    return np.asarray(factors / np.maximum(factors.std(0), 1e-9), dtype=np.float32)
