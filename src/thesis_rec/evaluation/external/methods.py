"""Rankings for a left-out dataset of a published table: simple baselines, and what is meant to beat them.

Every method gets the table, the column of the target, the columns it may train on and the rows it may train on, and
gives (M,) scores. It must not look at the target's values, nor at anything measured while training on the target.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.evaluation.baselines import fill_by_family, row_means, z_scores
from thesis_rec.evaluation.baselines.collaborative import factorise, relative_ranks
from thesis_rec.evaluation.external.tables import PublishedTable

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Task:
    """One target and what may be learned from.

    Attributes:
        table: The published table.
        target: Column of the dataset to rank for.
        columns: Columns that may be trained on.
        known: (M,) rows that may be trained on; the others are unknown models.
        hidden: (M, N) further cells that must not be looked at, all False by default.
        seed: Seed of random methods.
    """

    table: PublishedTable
    target: int
    columns: NDArray[np.intp]
    known: NDArray[np.bool_]
    hidden: NDArray[np.bool_] | None = None
    seed: int = 0

    def training(self) -> Floats:
        """(M, n) values that may be looked at, NaN elsewhere."""
        usable = np.broadcast_to(self.known[:, None], self.table.values.shape)
        if self.hidden is not None:
            usable = usable & ~self.hidden
        return np.where(usable, self.table.values, np.nan)[:, self.columns]


Method = Callable[[Task], Floats]


def random_order(task: Task) -> Floats:
    """A random order."""
    return np.random.default_rng([task.seed, task.target]).random(len(task.table.model_ids))


def parameter_count(task: Task) -> Floats:
    """Number of weights; unknown ones stay unranked."""
    return np.log(task.table.n_parameters)


def static_mean_accuracy(task: Task) -> Floats:
    """Mean distance from the datasets' means."""
    values = task.training()
    return _for_all(task, row_means(values - row_means(values.T)))


def static_mean_z(task: Task) -> Floats:
    """Mean z-score."""
    return _for_all(task, row_means(z_scores(task.training())))


def static_mean_rank(task: Task) -> Floats:
    """Mean relative rank."""
    return _for_all(task, row_means(relative_ranks(task.training())))


def nearest_dataset(task: Task) -> Floats:
    """Values on the nearest dataset by the published distances; a model that misses there is unranked."""
    distance = _distances(task)
    return _for_all(task, task.training()[:, int(np.argmin(distance))])


def factorisation(task: Task, rank: int = 3, ridge: float = 1.0) -> Floats:
    """Rank-3 factorisation of the z-scores; the new dataset takes the mean factor."""
    z = z_scores(task.training())
    rng = np.random.default_rng([task.seed, task.target])
    _, unseen = factorise(z, min(rank, z.shape[1] - 1), ridge, 20, rng=rng)
    return _for_all(task, unseen)


def metadata_ridge(task: Task, ridge: float = 10.0) -> Floats:
    """Ridge regression of the mean z-score on the models' metadata: also for models never tried."""
    target = row_means(z_scores(task.training()))
    features = model_features(task.table)
    rows = np.isfinite(target)
    centre = features[rows].mean(axis=0)
    x, y = features[rows] - centre, target[rows] - target[rows].mean()
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)
    predicted: Floats = (features - centre) @ weights
    return predicted


@dataclass(frozen=True)
class SmoothedRanks:
    """Relative ranks on other datasets, averaged over several views instead of choosing one.

    A view is a width (how fast a dataset's weight falls with its distance, in typical distances; infinite: static)
    and whether each model's mean is drawn towards that of models with similar metadata (a Gaussian process over
    models with a Gaussian kernel of the metadata and a part of each model's own). Every view's scores are
    standardised and the mean is taken.

    Attributes:
        widths: Widths in median distances between datasets.
        smooth: Which of plain and smoothed means enter.
        kernel_width: Of the metadata kernel, in medians of the squared distance.
        noise: Variance of a model's mean around the process, relative to it.
        own: Part of the process that is the model's own.
    """

    widths: Sequence[float] = (0.5, 1.0, np.inf)
    smooth: Sequence[bool] = (False, True)
    kernel_width: float = 0.3
    noise: float = 0.5
    own: float = 0.2

    def __call__(self, task: Task) -> Floats:
        """(M,) scores, unknown models included (through their metadata)."""
        from scipy.stats import rankdata

        values = _fill_additively(task.training())
        ranked = np.isfinite(values).all(axis=1)
        views = (rankdata(values[ranked], axis=0) - 0.5) / int(ranked.sum()) - 0.5
        kernel = metadata_kernel(task.table, self.kernel_width)
        total = np.zeros(len(values))
        for width in self.widths:
            weights = self._weights(task, width)
            mean = np.full(len(values), np.nan)
            mean[ranked] = views @ weights
            for smooth in self.smooth:
                total += _standardise(self._draw(kernel, mean) if smooth else _for_all(task, mean))
        return total

    def _weights(self, task: Task, width: float) -> Floats:
        count = len(task.columns)
        if task.table.distances is None or not np.isfinite(width):
            return np.full(count, 1.0 / count)
        distance = _distances(task)
        between = task.table.distances[np.ix_(task.columns, task.columns)]
        typical = float(np.median(between[np.triu_indices(count, 1)]))
        weight = np.exp(-(distance - distance.min()) / (width * typical))
        normalised: Floats = weight / weight.sum()
        return normalised

    def _draw(self, kernel: Floats, mean: Floats) -> Floats:
        seen = np.isfinite(mean)
        centre = mean[seen].mean()
        own = self.own * np.eye(len(mean))
        inner = (kernel + own)[np.ix_(seen, seen)] + self.noise * np.eye(int(seen.sum()))
        drawn: Floats = centre + (kernel + own)[:, seen] @ np.linalg.solve(inner, mean[seen] - centre)
        return drawn


def model_features(table: PublishedTable) -> Floats:
    """(M, F) metadata as numbers: standardised quantities and indicators of categories."""
    numbers, categories = [], []
    for name in table.metadata.columns:
        column = table.metadata[name]
        if name == "labels":
            continue  # what a model was trained on enters through distances where they are published
        if np.issubdtype(column.to_numpy().dtype, np.number):
            values = column.to_numpy(dtype=np.float64)
            if np.isfinite(values).any() and np.nanstd(values) > 0:
                # Sizes and numbers of classes span orders of magnitude.
                if np.nanmin(values) > 0 and np.nanmax(values) > 100 * np.nanmin(values):
                    values = np.log(values)
                values = np.where(np.isfinite(values), values, np.nanmedian(values))
                numbers.append((values - values.mean()) / values.std())
        else:
            text = column.fillna("").astype(str).to_numpy()
            found, counts = np.unique(text, return_counts=True)
            for value in found[(counts > 1) & (counts < len(text))]:
                indicator = (text == value).astype(np.float64)
                # A rare category must not stand as far apart as its standard deviation would put it.
                categories.append(0.5 * indicator / max(float(indicator.std()), 0.15))
    parts = [*numbers, *categories]
    return np.stack(parts, axis=1) if parts else np.zeros((len(table.model_ids), 1))


def metadata_kernel(table: PublishedTable, width: float) -> Floats:
    """(M, M) Gaussian kernel of the models' metadata; ``width`` in medians of the squared distance."""
    if width in table.kernels:
        return table.kernels[width]
    features = model_features(table)
    square = ((features[:, None] - features[None]) ** 2).sum(axis=-1)
    typical = float(np.median(square[square > 0])) if (square > 0).any() else 1.0
    table.kernels[width] = np.exp(-square / (width * typical))
    return table.kernels[width]


def _distances(task: Task) -> Floats:
    if task.table.distances is None:
        raise ValueError(f"{task.table.name} publishes no distances between datasets")
    return task.table.distances[task.target, task.columns]


def _fill_additively(values: Floats) -> Floats:
    """Missing cells as the dataset's mean plus the model's mean distance from such means."""
    level = row_means(values.T)
    own = row_means(values - level)
    return np.where(np.isfinite(values), values, level + own[:, None])


def _for_all(task: Task, score: Floats) -> Floats:
    """Scores of unknown models from their families; known ones that have none stay without."""
    filled = fill_by_family(np.where(task.known, score, np.nan)[:, None], task.table.families)[:, 0]
    return np.where(task.known, score, filled)


def _standardise(score: Floats) -> Floats:
    spread = float(np.nanstd(score))
    return (score - np.nanmean(score)) / (spread if spread > 0 else 1.0)


_PROTOCOL = "imported:published"


@dataclass(frozen=True)
class TrainedRanker:
    """A :class:`~thesis_rec.thesis.similarity_transformer.SimilarityTransformer` trained anew without each target.

    The published tables have neither weights nor images, so it sees of a model what its model card says, and of a
    dataset where it lies among the others: its coordinates by classical scaling of the distances (Torgerson 1952), or
    nothing where no distances are published. Everything else is the code that ranks the project's own zoo.

    Attributes:
        epochs: Passes over the training datasets.
        width: Of all representations.
        validation: Training datasets on which training is stopped.
    """

    epochs: int = 15
    width: int = 32
    validation: int = 2

    def __call__(self, task: Task) -> Floats:
        """(M,) scores."""
        from thesis_rec.thesis.similarity_training import assemble, train_ranker
        from thesis_rec.training.settings import FitSettings, RankerTraining

        table = task.table
        tokens = dataset_tokens(table)
        order = np.random.default_rng([task.seed, task.target]).permutation(task.columns)
        roles = {int(j): "validation" if place < self.validation else "train" for place, j in enumerate(order)}
        values = task.training() / table.unit
        rows, columns = np.nonzero(np.isfinite(values))
        performance = pd.DataFrame(
            {
                "model_id": np.asarray(table.model_ids, dtype=object)[rows],
                "dataset_id": np.asarray(table.dataset_ids, dtype=object)[task.columns[columns]],
                "protocol": _PROTOCOL,
                "value": values[rows, columns],
            }
        )
        splits = pd.DataFrame(
            [
                ("model", m, "", bool(k), "train" if k else "test")
                for m, k in zip(table.model_ids, task.known, strict=True)
            ]
            + [("dataset", table.dataset_ids[j], "", True, role) for j, role in roles.items()],
            columns=["kind", "id", "id2", "known", "role"],
        )
        models = model_table(table)
        material = assemble(models, {t.dataset_id: t for t in tokens}, performance, splits, protocol=_PROTOCOL)
        with tempfile.TemporaryDirectory() as folder:
            ranker, _ = train_ranker(
                material,
                {"width": self.width, "n_layers": 1, "n_heads": 4, "rank": 4, "dropout": 0.2},
                RankerTraining(models_per_step=128, tasks_per_epoch=48),
                FitSettings(epochs=self.epochs, batch_size=8, learning_rate=2e-3, accelerator="cpu", resume=False),
                Path(folder),
                seed=task.seed,
            )
        score: Floats = ranker.predict(models, [tokens[task.target]])[0].score
        return score


def model_table(table: PublishedTable) -> ModelTable:
    """The models by their metadata."""
    sizes = np.where(np.isfinite(table.n_parameters), table.n_parameters, 0.0)
    return ModelTable(table.model_ids, model_features(table).astype(np.float32), table.families, sizes)


def dataset_tokens(table: PublishedTable, components: int = 8) -> list[TaskTokens]:
    """One token per dataset: its coordinates by classical scaling, of length 1; alike for all without distances."""
    count = len(table.dataset_ids)
    if table.distances is None:
        coordinates = np.ones((count, 1))
    else:
        centre = np.eye(count) - 1.0 / count
        values, vectors = np.linalg.eigh(-0.5 * centre @ table.distances**2 @ centre)
        kept = np.argsort(values)[::-1][:components]
        coordinates = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0.0))
        # A constant keeps the direction of datasets in the middle from being noise.
        typical = np.linalg.norm(coordinates, axis=1).mean()
        coordinates = np.column_stack([coordinates, np.full(count, typical)])
    coordinates = coordinates / np.maximum(np.linalg.norm(coordinates, axis=1, keepdims=True), 1e-12)
    return [
        TaskTokens(name, row[None, None].astype(np.float32), [name], 1, table.name)
        for name, row in zip(table.dataset_ids, coordinates, strict=True)
    ]
