"""Reading the published tables into one form.

The tables aren't part of the project: TransferGraph (Li et al. 2024), Model Spider (Zhang et al. 2023) and the tables
used by SFDA (Shao et al. 2022) and EMMS (Meng et al. 2023) are read from a folder that the user names.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.tables import ModelTable, TaskTokens

Floats = NDArray[np.floating]

#: Whose published predictors are compared with, and on which datasets.
TRANSFERGRAPH_TARGETS = (
    "stanfordcars", "svhn", "caltech101", "pets", "cifar100", "flowers", "smallnorb_label_elevation", "dtd",
)  # fmt: skip

#: Runs of these datasets failed: their median accuracy is chance.
FAILED_DATASETS = ("food101",)

#: Datasets that share images, of which one must not be trained on when the other is the target.
SHARED_IMAGES = {
    "smallnorb_label_elevation": ("smallnorb_label_azimuth",),
    "smallnorb_label_azimuth": ("smallnorb_label_elevation",),
}

#: Coordinates of a dataset by classical scaling.
_COORDINATES = 8

#: Natural images, as opposed to specialised or structured ones.
NATURAL = {
    "aircraft", "caltech101", "cars", "cifar10", "cifar100", "flowers", "food101", "imagenet", "pet", "pets",
    "stanfordcars", "stl10", "sun", "sun397", "voc2007", "cub2011", "nabirds", "dogs", "vlcs", "pacs", "food",
}  # fmt: skip


@dataclass(frozen=True)
class PublishedTable:
    """Performance of M models on N datasets, with what else is known of either.

    Attributes:
        name: Which table.
        model_ids: M models.
        dataset_ids: N datasets.
        values: (M, N) accuracies, fractions; NaN where none was published.
        targets: Datasets that are evaluated, each in turn left out; the others only serve for training.
        metadata: What is known of the models, indexed by model.
        families: M families.
        n_parameters: (M,) NaN where unknown.
        distances: (N, N) distances between datasets, None where none are published.
        scores: (M, N) published transferability scores by method.
        predictions: (M, N) published predictions by method.
        seconds: (M, N) of training one model, for budgets; None where not published.
        sub_zoos: Rows of parts of the zoo that are evaluated apart.
    """

    name: str
    model_ids: list[str]
    dataset_ids: list[str]
    values: Floats
    targets: list[str]
    metadata: pd.DataFrame
    families: list[str]
    n_parameters: Floats
    distances: Floats | None = None
    scores: dict[str, Floats] = field(default_factory=dict)
    predictions: dict[str, Floats] = field(default_factory=dict)
    seconds: Floats | None = None
    sub_zoos: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    def select(self, rows: NDArray[np.bool_]) -> PublishedTable:
        """The models of a mask."""
        index = np.flatnonzero(rows)
        return replace(
            self,
            model_ids=[self.model_ids[i] for i in index],
            values=self.values[index],
            metadata=self.metadata.iloc[index],
            families=[self.families[i] for i in index],
            n_parameters=self.n_parameters[index],
            scores={name: matrix[index] for name, matrix in self.scores.items()},
            predictions={name: matrix[index] for name, matrix in self.predictions.items()},
            seconds=None if self.seconds is None else self.seconds[index],
            sub_zoos={},
        )

    @cached_property
    def models(self) -> ModelTable:
        """The models by their metadata, in place of weights and of responses to the reference bank."""
        features = model_features(self.metadata)
        return ModelTable(self.model_ids, features, self.families, self.n_parameters, reference=features)

    @cached_property
    def tokens(self) -> list[TaskTokens]:
        """One token per dataset: its coordinates by classical scaling of the distances (Torgerson 1952), of length 1.

        They are alike for all datasets where no distances are published.
        """
        count = len(self.dataset_ids)
        coordinates = np.ones((count, 1))
        if self.distances is not None:
            centre = np.eye(count) - 1.0 / count
            values, vectors = np.linalg.eigh(-0.5 * centre @ self.distances**2 @ centre)
            kept = np.argsort(values)[::-1][:_COORDINATES]
            coordinates = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0.0))
            # A constant keeps the direction of datasets in the middle from being noise.
            typical = np.linalg.norm(coordinates, axis=1).mean()
            coordinates = np.column_stack([coordinates, np.full(count, typical)])
        coordinates = coordinates / np.maximum(np.linalg.norm(coordinates, axis=1, keepdims=True), 1e-12)
        return [
            TaskTokens(name, row[None, None].astype(np.float32), [name], 1, self.name)
            for name, row in zip(self.dataset_ids, coordinates, strict=True)
        ]


def model_features(metadata: pd.DataFrame) -> Floats:
    """(M, F) float32 metadata as numbers: standardised quantities and indicators of categories."""
    numbers, categories = [], []
    # What a model was trained on enters through distances where they are published.
    for _, column in metadata.drop(columns="labels", errors="ignore").items():
        if pd.api.types.is_numeric_dtype(column):
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
    parts = [*numbers, *categories, *([] if numbers or categories else [np.zeros(len(metadata))])]
    return np.stack(parts, axis=1).astype(np.float32)


def load_published_table(folder: Path, benchmark: str) -> PublishedTable:
    """Read one benchmark's tables.

    Args:
        folder: Folder that holds ``transfergraph/``, ``site_classic/`` and ``model_spider/``.
        benchmark: ``transfergraph``, ``site`` or ``model_spider``.

    Raises:
        ConfigurationError: If the benchmark is unknown or a file isn't there.
    """
    readers = {"transfergraph": _transfergraph, "site": _site, "model_spider": _model_spider}
    if benchmark not in readers:
        raise ConfigurationError(f"unknown benchmark {benchmark!r}; choose one of {', '.join(readers)}")
    return readers[benchmark](folder)


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ConfigurationError(
            f"{path} isn't there. Put the published tables into one folder and name it: "
            "THESIS_REC_BENCHMARKS=<folder> kedro run --pipelines=external_benchmark"
        )
    return pd.read_csv(path)


def _matrix(table: pd.DataFrame, models: list[str], datasets: list[str], column: str = "value") -> Floats:
    wide = table.pivot_table(index="model_id", columns="dataset_id", values=column, aggfunc="mean")
    return wide.reindex(index=models, columns=datasets).to_numpy(dtype=np.float64)


def _transfergraph(folder: Path) -> PublishedTable:
    root = folder / "transfergraph"
    accuracy = _read(root / "finetune_accuracy.csv")
    accuracy = accuracy[~accuracy["dataset_id"].isin(FAILED_DATASETS)]
    models, datasets = sorted(accuracy["model_id"].unique()), sorted(accuracy["dataset_id"].unique())
    metadata = _read(root / "models.csv").drop_duplicates("model_id").set_index("model_id").reindex(models)
    pairs = _read(root / "dataset_distance.csv")
    wide = pairs.pivot_table(index="dataset_a", columns="dataset_b", values="distance")
    scores = _read(root / "transferability_scores.csv")
    published = _read(root / "published_predictions_wide.csv")
    runtime = _read(root / "finetune_runtime.csv")
    kind = metadata["model_type"].fillna("").astype(str)
    return PublishedTable(
        "transfergraph",
        models,
        datasets,
        _matrix(accuracy, models, datasets),
        [name for name in TRANSFERGRAPH_TARGETS if name in datasets],
        metadata,
        [family or model for family, model in zip(kind, models, strict=True)],
        metadata["number_of_parameters"].to_numpy(dtype=np.float64),
        wide.reindex(index=datasets, columns=datasets).to_numpy(dtype=np.float64),
        {
            name: _matrix(scores[scores["metric"] == metric], models, datasets)
            for name, metric in (("logme", "log_me"), ("h_score", "reg_h_score"))
        },
        {
            str(name): _matrix(published, models, datasets, str(name))
            for name in published.columns.drop(["model_id", "dataset_id"])
        },
        _matrix(runtime, models, datasets, "train_runtime_s"),
    )


def _site(folder: Path) -> PublishedTable:
    accuracy = _read(folder / "site_classic" / "finetune_accuracy.csv")
    # The same network is in two zoos under different training, so the zoo is a part of its name.
    accuracy = accuracy.assign(model_id=accuracy["zoo"] + "/" + accuracy["model_id"])
    models, datasets = sorted(accuracy["model_id"].unique()), sorted(accuracy["dataset_id"].unique())
    zoo = np.array([model.split("/")[0] for model in models])
    metadata = pd.DataFrame({"zoo": zoo, "name": [model.split("/")[1] for model in models]}, index=models)
    return PublishedTable(
        "site",
        models,
        datasets,
        _matrix(accuracy, models, datasets) / 100,
        datasets,
        metadata,
        zoo.tolist(),
        np.full(len(models), np.nan),
        sub_zoos={str(name): zoo == name for name in np.unique(zoo)},
    )


def _model_spider(folder: Path) -> PublishedTable:
    accuracy = _read(folder / "model_spider" / "multi_source_accuracy.csv")
    models, datasets = sorted(accuracy["model_id"].unique()), sorted(accuracy["dataset_id"].unique())
    metadata = accuracy.drop_duplicates("model_id").set_index("model_id")[["arch", "source_dataset", "in_42_zoo"]]
    metadata = metadata.reindex(models)
    values = _matrix(accuracy, models, datasets) / 100
    # A model that was trained on the target has nothing to transfer.
    same = metadata["source_dataset"].astype(str).to_numpy()[:, None] == np.array(datasets)[None, :]
    values = np.where(same, np.nan, values)
    inside = metadata["in_42_zoo"].to_numpy() == 1
    return PublishedTable(
        "model_spider",
        models,
        datasets,
        values,
        datasets,
        metadata,
        metadata["source_dataset"].astype(str).tolist(),
        np.full(len(models), np.nan),
        sub_zoos={"zoo_42": inside},
    )
