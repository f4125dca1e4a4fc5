"""Reading the published tables into one form.

The tables aren't part of the project: TransferGraph (Li et al. 2024), Model Spider (Zhang et al. 2023) and the tables
used by SFDA (Shao et al. 2022) and EMMS (Meng et al. 2023) are read from a folder that the user names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.evaluation.study import Study
from thesis_rec.knowledge.quadrants import Split

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
class PublishedTable(Study):
    """A study of published performance: models by their metadata, datasets by where they lie among the others.

    Attributes:
        name: Which table.
        targets: Datasets that are evaluated, each in turn left out; the others only serve for training.
        distances: (N, N) distances between datasets, None where none are published.
        published: (M, N) published transferability scores and predictions by method.
        seconds: (M, N) of training one model, for budgets; None where not published.
        sub_zoos: Parts of the zoo that are evaluated apart.
    """

    name: str = ""
    targets: list[str] = field(default_factory=list)
    distances: Floats | None = None
    published: dict[str, Floats] = field(default_factory=dict)
    seconds: Floats | None = None
    sub_zoos: dict[str, PublishedTable] = field(default_factory=dict)


def published_table(
    name: str,
    values: pd.DataFrame,
    metadata: pd.DataFrame,
    families: Iterable[str],
    n_parameters: Floats | None = None,
    distances: Floats | None = None,
    **more: Any,
) -> PublishedTable:
    """A table of which nothing is left out.

    Args:
        name: Which table.
        values: (M, N) accuracies, fractions, models by datasets; NaN where none was published.
        metadata: What is known of the M models, in place of weights and of responses to the reference bank.
        families: M families.
        n_parameters: (M,) NaN where unknown; None where none is known.
        distances: (N, N) distances between datasets, if they are published.
        **more: Further attributes; all datasets are targets where none are named.
    """
    models, datasets = [str(model) for model in values.index], [str(dataset) for dataset in values.columns]
    features = model_features(metadata)
    sizes = np.full(len(models), np.nan) if n_parameters is None else n_parameters
    return PublishedTable(
        ModelTable(models, features, list(families), sizes, reference=features),
        dataset_tokens(name, datasets, distances),
        values.to_numpy(dtype=np.float64),
        Split(dict.fromkeys(models, True), dict.fromkeys(datasets, "train"), {}),
        datasets,
        ["natural" if dataset.lower() in NATURAL else "specialised" for dataset in datasets],
        name=name,
        distances=distances,
        **{"targets": datasets, **more},
    )


def dataset_tokens(name: str, datasets: Sequence[str], distances: Floats | None) -> list[TaskTokens]:
    """One token per dataset: its coordinates by classical scaling of the distances (Torgerson 1952), of length 1.

    They are alike for all datasets where no distances are published.
    """
    count = len(datasets)
    coordinates = np.ones((count, 1))
    if distances is not None:
        centre = np.eye(count) - 1.0 / count
        values, vectors = np.linalg.eigh(-0.5 * centre @ distances**2 @ centre)
        kept = np.argsort(values)[::-1][:_COORDINATES]
        coordinates = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0.0))
        # A constant keeps the direction of datasets in the middle from being noise.
        typical = np.linalg.norm(coordinates, axis=1).mean()
        coordinates = np.column_stack([coordinates, np.full(count, typical)])
    coordinates = coordinates / np.maximum(np.linalg.norm(coordinates, axis=1, keepdims=True), 1e-12)
    return [
        TaskTokens(dataset, row[None, None].astype(np.float32), [dataset], 1, name)
        for dataset, row in zip(datasets, coordinates, strict=True)
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


def _wide(table: pd.DataFrame, column: str = "value", like: pd.DataFrame | None = None) -> pd.DataFrame:
    """Models by datasets, in alphabetical order or in that of another table."""
    wide = table.pivot_table(index="model_id", columns="dataset_id", values=column, aggfunc="mean")
    return wide if like is None else wide.reindex_like(like)


def _transfergraph(folder: Path) -> PublishedTable:
    root = folder / "transfergraph"
    accuracy = _read(root / "finetune_accuracy.csv")
    values = _wide(accuracy[~accuracy["dataset_id"].isin(FAILED_DATASETS)])
    models, datasets = values.index, values.columns
    metadata = _read(root / "models.csv").drop_duplicates("model_id").set_index("model_id").reindex(models)
    pairs = _read(root / "dataset_distance.csv").pivot_table(index="dataset_a", columns="dataset_b", values="distance")
    scores = _read(root / "transferability_scores.csv")
    predictions = _read(root / "published_predictions_wide.csv")
    tables = {
        name: _wide(scores[scores["metric"] == metric], like=values)
        for name, metric in (("logme", "log_me"), ("h_score", "reg_h_score"))
    } | {
        f"published/{name}": _wide(predictions, name, values)
        for name in predictions.columns.drop(["model_id", "dataset_id"])
    }
    kind = metadata["model_type"].fillna("").astype(str)
    return published_table(
        "transfergraph",
        values,
        metadata,
        [family or model for family, model in zip(kind, models, strict=True)],
        metadata["number_of_parameters"].to_numpy(dtype=np.float64),
        pairs.reindex(index=datasets, columns=datasets).to_numpy(dtype=np.float64),
        targets=[name for name in TRANSFERGRAPH_TARGETS if name in datasets],
        published={name: table.to_numpy(dtype=np.float64) for name, table in tables.items()},
        seconds=_wide(_read(root / "finetune_runtime.csv"), "train_runtime_s", values).to_numpy(dtype=np.float64),
    )


def _site(folder: Path) -> PublishedTable:
    accuracy = _read(folder / "site_classic" / "finetune_accuracy.csv")
    # The same network is in two zoos under different training, so the zoo is a part of its name.
    values = _wide(accuracy.assign(model_id=accuracy["zoo"] + "/" + accuracy["model_id"])) / 100
    names = values.index.to_series().str.split("/", n=1, expand=True)
    metadata = names.set_axis(["zoo", "name"], axis=1)
    zoo = metadata["zoo"]
    parts = {
        name: published_table("site", values[zoo == name], metadata[zoo == name], zoo[zoo == name])
        for name in sorted(zoo.unique())
    }
    return published_table("site", values, metadata, zoo, sub_zoos=parts)


def _model_spider(folder: Path) -> PublishedTable:
    accuracy = _read(folder / "model_spider" / "multi_source_accuracy.csv")
    values = _wide(accuracy) / 100
    metadata = accuracy.drop_duplicates("model_id").set_index("model_id").reindex(values.index)
    metadata = metadata[["arch", "source_dataset", "in_42_zoo"]]
    source = metadata["source_dataset"].astype(str)
    # A model that was trained on the target has nothing to transfer.
    values = values.mask(source.to_numpy()[:, None] == values.columns.to_numpy())
    inside = metadata["in_42_zoo"] == 1
    part = published_table("model_spider", values[inside], metadata[inside], source[inside])
    return published_table("model_spider", values, metadata, source, sub_zoos={"zoo_42": part})
