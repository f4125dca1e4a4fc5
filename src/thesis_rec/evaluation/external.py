"""Published tables as a benchmark: methods on what was left out, choices under budgets and with a few real runs.

The tables aren't part of the project: TransferGraph (Li et al. 2024), Model Spider (Zhang et al. 2023) and the tables
used by SFDA (Shao et al. 2022) and EMMS (Meng et al. 2023) are read from a folder that the user names. They have
neither weights nor images: of a model it is known what its card says, and of a dataset where it lies among the others,
if distances are published. What answers requests, the baselines and the thesis's network are asked as on the project's
own zoo.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from pydantic import Field

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.settings import Settings
from thesis_rec.base.tables import Floats, ModelTable, TaskTokens, unit, z_scores
from thesis_rec.evaluation.baselines import baseline, fill_by_family, row_means
from thesis_rec.evaluation.figures import compare, figures_per_dataset, intervals, summarise, summarise_groups
from thesis_rec.evaluation.probing_simulation import ProbingSettings, trials
from thesis_rec.evaluation.quadrant_evaluation import RECOMMENDER, network_scores, posterior_scores
from thesis_rec.evaluation.study import Study, cell_matrix
from thesis_rec.knowledge.quadrants import Split

#: The baseline that published systems fail to beat.
PRIOR = "static_mean_rank"

#: Coordinates of a dataset by classical scaling.
_COORDINATES = 8

#: ``transfergraph_targets``: on which datasets predictors were published; ``failed``: datasets whose runs failed;
#: ``natural``: datasets of natural images, as opposed to specialised or structured ones.
_DATASETS = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class PublishedTable(Study):
    """A study of published performance: models by their metadata, datasets by where they lie among the others.

    Attributes:
        name: Which table.
        targets: Datasets that are evaluated, each in turn left out; the others only serve for training.
        distances: (N, N) distances between datasets, None where none are published.
        published: (M, N) published transferability scores and predictions by method.
        sub_zoos: Parts of the zoo that are evaluated apart.
    """

    name: str = ""
    targets: list[str] = field(default_factory=list)
    distances: Floats | None = None
    published: dict[str, Floats] = field(default_factory=dict)
    sub_zoos: dict[str, PublishedTable] = field(default_factory=dict)


def published_table(
    name: str,
    values: pd.DataFrame,
    metadata: pd.DataFrame,
    families: Iterable[str],
    distances: Floats | None = None,
    **more: Any,
) -> PublishedTable:
    """A table of which nothing is left out.

    Args:
        name: Which table.
        values: (M, N) accuracies, fractions, models by datasets; NaN where none was published.
        metadata: What is known of the M models, in place of weights and of responses to the reference bank; their
            ``number_of_parameters`` where that is known.
        families: M families.
        distances: (N, N) distances between datasets, if they are published.
        **more: Further attributes; all datasets are targets where none are named.
    """
    models, datasets = [str(model) for model in values.index], [str(dataset) for dataset in values.columns]
    features, everyone = model_features(metadata), np.ones(len(models), dtype=bool)
    sizes = metadata.reindex(columns=["number_of_parameters"]).to_numpy(dtype=np.float64)[:, 0]
    return PublishedTable(
        ModelTable(models, features, list(families), sizes, reference=features),
        dataset_tokens(name, datasets, distances),
        values.to_numpy(dtype=np.float64),
        Split(everyone, np.full(len(datasets), "train"), np.full(values.shape, "")),
        datasets,
        ["natural" if dataset.lower() in _DATASETS["natural"] else "specialised" for dataset in datasets],
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
    return [
        TaskTokens(dataset, row[None, None].astype(np.float32), [dataset], 1, name)
        for dataset, row in zip(datasets, unit(coordinates), strict=True)
    ]


def model_features(metadata: pd.DataFrame) -> Floats:
    """(M, F) float32 metadata as numbers: standardised quantities and indicators of categories."""
    # What a model was trained on enters through distances where they are published.
    known = metadata.drop(columns="labels", errors="ignore")
    numbers = known.select_dtypes("number").astype(float)
    numbers = numbers.loc[:, numbers.std(ddof=0) > 0]
    # Sizes and numbers of classes span orders of magnitude.
    numbers = numbers.apply(lambda size: np.log(size) if 0 < 100 * size.min() < size.max() else size)
    numbers = numbers.fillna(numbers.median())
    words = known.select_dtypes(exclude="number").fillna("").astype(str)
    kinds = pd.get_dummies(words, dtype=float) if len(words.columns) else words
    kinds = kinds.loc[:, kinds.sum().between(1, len(kinds), inclusive="neither")]
    # A rare category must not stand as far apart as its standard deviation would put it.
    kinds = 0.5 * kinds / kinds.std(ddof=0).clip(lower=0.15)
    found = pd.concat([(numbers - numbers.mean()) / numbers.std(ddof=0), kinds], axis=1)
    return found.to_numpy(np.float32) if found.shape[1] else np.zeros((len(metadata), 1), np.float32)


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ConfigurationError(
            f"{path} isn't there. Put the published tables into one folder and name it: "
            "THESIS_REC_BENCHMARKS=<folder> kedro run --pipelines=external_benchmark"
        )
    return pd.read_csv(path)


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """Mean values, models by datasets in alphabetical order."""
    return table.pivot_table(index="model_id", columns="dataset_id", values="value")


def _transfergraph(folder: Path) -> PublishedTable:
    root = folder / "transfergraph"
    accuracy = _read(root / "finetune_accuracy.csv")
    values = _wide(accuracy[~accuracy["dataset_id"].isin(_DATASETS["failed"])])
    models, datasets = values.index.tolist(), values.columns.tolist()
    metadata = _read(root / "models.csv").drop_duplicates("model_id").set_index("model_id").reindex(models)
    pairs = _read(root / "dataset_distance.csv").pivot_table(index="dataset_a", columns="dataset_b", values="distance")
    scores = _read(root / "transferability_scores.csv")
    predictions = _read(root / "published_predictions_wide.csv")
    published = {
        name: cell_matrix(scores[scores["metric"] == metric], "value", models, datasets)
        for name, metric in (("logme", "log_me"), ("h_score", "reg_h_score"))
    } | {
        f"published/{name}": cell_matrix(predictions, name, models, datasets)
        for name in predictions.columns.drop(["model_id", "dataset_id"])
    }
    kind = metadata["model_type"].fillna("").astype(str)
    return published_table(
        "transfergraph",
        values,
        metadata,
        [family or model for family, model in zip(kind, models, strict=True)],
        pairs.reindex(index=datasets, columns=datasets).to_numpy(dtype=np.float64),
        targets=[name for name in _DATASETS["transfergraph_targets"] if name in datasets],
        published=published,
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


#: Readers of the benchmarks' tables in a folder with ``transfergraph/``, ``site_classic/`` and ``model_spider/``.
READERS: dict[str, Callable[[Path], PublishedTable]] = {
    "transfergraph": _transfergraph,
    "site": _site,
    "model_spider": _model_spider,
}


class BenchmarkSettings(Settings):
    """How a published table is evaluated; ``conf/base/parameters/external_benchmark.yml`` explains every field."""

    draws: int = Field(default=20, ge=1)
    bootstrap: int = Field(default=2000, ge=10)
    folds: int = Field(default=5, ge=2)
    seeds: int = Field(default=3, ge=1)
    hidden_cells: float = Field(default=0.2, gt=0, lt=1)
    probes: tuple[int, ...] = (3, 5, 10)


#: (M, N) scores of all models on all datasets of a table, learned from what it allows.
Method = Callable[[PublishedTable], Floats]


def without(
    table: PublishedTable,
    unknown: Collection[str] = (),
    known: NDArray[np.bool_] | None = None,
    hidden: NDArray[np.bool_] | None = None,
) -> PublishedTable:
    """A table of which some things are left out.

    Args:
        table: The published table.
        unknown: Datasets that are unknown; the others are trained on.
        known: (M,) models that may be learned from; all by default.
        hidden: (M, N) further cells that must not be looked at; none by default.
    """
    split = Split(
        table.known if known is None else known,
        np.array(["test" if name in unknown else "train" for name in table.dataset_ids]),
        table.split.withheld if hidden is None else np.where(hidden, "test", ""),
    )
    return replace(table, split=split)


def posterior(table: PublishedTable) -> Floats:
    """What answers requests, learned from the table alone."""
    return posterior_scores(table, table.knowledge()).score


def nearest_dataset(table: PublishedTable) -> Floats:
    """Values on the nearest training dataset by published distances; a known model that misses there is unranked."""
    assert table.distances is not None
    training = table.training()
    score = training.values[:, table.distances[:, table.columns("train")].argmin(axis=1)]
    return np.where(training.known[:, None], score, fill_by_family(score, table.models.families))


def metadata_ridge(table: PublishedTable) -> Floats:
    """Ridge regression of the mean z-score on the models' metadata: also for models never tried."""
    from sklearn.linear_model import Ridge

    target, features = row_means(z_scores(table.training().values)), table.models.embedding.astype(np.float64)
    rows = np.isfinite(target)
    score = Ridge(10.0).fit(features[rows], target[rows]).predict(features)
    return np.repeat(score[:, None], len(table.dataset_ids), axis=1)


def own_baseline(name: str) -> Method:
    """One of the project's baselines."""
    return lambda table: baseline(name)(table.training())(table.tasks)


def simple_methods(table: PublishedTable) -> dict[str, Method]:
    """What answers requests, and the baselines that the table has the data for."""
    names = ["random", "static_mean_accuracy", "static_mean_z", "static_mean_rank", "matrix_factorisation"]
    if np.isfinite(table.models.n_parameters).any():
        names.append("parameter_count")
    found = {RECOMMENDER: posterior, **{name: own_baseline(name) for name in names}, "metadata_ridge": metadata_ridge}
    return found if table.distances is None else {**found, "nearest_dataset": nearest_dataset}


def network(table: PublishedTable, epochs: int = 15, width: int = 32) -> Floats:
    """The thesis's network, trained anew for the table; training is stopped on two of the training datasets.

    Args:
        table: The published table.
        epochs: Passes over the training datasets.
        width: Of all representations.
    """
    from thesis_rec.thesis.similarity_training import train_ranker
    from thesis_rec.training.settings import RankerPlan

    tasks, values = table.lists("train")
    order = np.random.default_rng([table.seed, int(table.known.sum())]).permutation(len(tasks))
    training, held = (([tasks[j] for j in part], values[part]) for part in (order[2:], order[:2]))
    plan = {
        "network": {"width": width, "n_layers": 1, "n_heads": 4, "rank": 4, "dropout": 0.2},
        "training": {"models_per_step": 128, "tasks_per_epoch": 48},
        "fit": {"epochs": epochs, "batch_size": 8, "learning_rate": 2e-3, "accelerator": "cpu", "resume": False},
    }
    known = table.models.select(np.flatnonzero(table.known))
    with tempfile.TemporaryDirectory() as folder:
        ranker, _ = train_ranker(known, training, held, RankerPlan.model_validate(plan), Path(folder), table.seed)
    return network_scores(table, ranker).score


def leave_one_out(
    table: PublishedTable, found: Mapping[str, Method], *, families_too: bool = False
) -> dict[str, Floats]:
    """(M, N) scores of each method on the targets, each target's column being left out; NaN on other datasets.

    Args:
        table: The published table.
        found: Methods.
        families_too: Whether each model is scored while its whole family is unknown.
    """
    scores = {name: np.full(table.values.shape, np.nan) for name in found}
    families = np.asarray(table.models.families)
    everyone = np.ones(len(families), dtype=bool)
    # Which models are scored, and which are known meanwhile.
    parts = [(families == one, families != one) for one in np.unique(families)] if families_too else [(everyone,) * 2]
    for target in table.targets:
        j = table.dataset_ids.index(target)
        for rows, known in parts:
            part = without(table, [target], known)
            for name, method in found.items():
                scores[name][rows, j] = method(part)[rows, j]
    return scores


def quadrants(table: PublishedTable, found: Mapping[str, Method], settings: BenchmarkSettings) -> dict[str, Any]:
    """The four quadrants with model folds instead of unknown families: quadrant -> method -> weighted tau.

    For each seed and fold a part of the models is unknown. Each target in turn is the unknown dataset (Q3, Q4). With
    all datasets known, Q1 is measured on hidden cells of known models and Q2 on the unknown models.
    """
    targets = np.isin(table.dataset_ids, table.targets)
    parts = []
    for seed in range(settings.seeds):
        rng, seeded = np.random.default_rng(seed), replace(table, seed=seed)
        fold_of = rng.permutation(len(table.models)) % settings.folds
        hidden = rng.random(table.values.shape) < settings.hidden_cells
        for fold in range(settings.folds):
            known = fold_of != fold
            rests = [(without(seeded, (), known, hidden & known[:, None]), ("Q1", "Q2"))]
            rests += [(without(seeded, [target], known), ("Q3", "Q4")) for target in table.targets]
            for rest, shown in rests:
                masks = rest.split.quadrants()
                scores = {name: method(rest) for name, method in found.items()}
                chosen = {name: masks[name] & targets for name in shown}
                parts.append(figures_per_dataset(rest, scores, chosen, settings.draws))
    keys = ["quadrant", "method", "dataset_id"]
    means = pd.concat(parts).groupby(keys, sort=False)["weighted_tau"].mean().reset_index()
    rows = intervals(means, ("quadrant", "method"), ["weighted_tau"], draws=settings.bootstrap)
    return {q: {name: entry["weighted_tau"] for name, entry in rows[q].items()} for q in sorted(rows)}


def probes(table: PublishedTable, settings: BenchmarkSettings) -> dict[str, Any]:
    """A few real runs on each dataset, unknown until then: active probing against trying one's own top.

    Returns:
        Policy -> number of runs -> ``regret``, and ``without``: that of the first choice without any.
    """
    unscored = pd.DataFrame(columns=["method", "model_id", "dataset_id", "value", "seconds"])
    # The truth has no repeats: a try gives just that, and is believed as the mean of four measurements is.
    how, budgets, parts = ProbingSettings(repeats=1, draws=4), [0, *settings.probes], []
    for target in table.dataset_ids:
        rest = without(table, [target])
        parts.append(trials(rest, rest.knowledge(), unscored, how, budgets))
    found = intervals(pd.concat(parts), ("policy", "budget"), ["regret@1"], draws=settings.bootstrap)
    regrets = {p: {number: entry["regret@1"] for number, entry in found[p].items()} for p in ("active", "own_top")}
    # Without any try all policies choose alike.
    without_any = [of_policy.pop("0") for of_policy in regrets.values()]
    return {"without": without_any[0], "policies": regrets}


def judge(table: PublishedTable, scores: Mapping[str, Floats], settings: BenchmarkSettings) -> dict[str, Any]:
    """Figures of each method, means over targets with intervals, and differences to :data:`PRIOR`.

    Returns:
        ``methods`` (method -> figure -> ``mean, low, high, n``), ``paired`` (method -> figure -> difference), and
        ``groups`` (natural and other targets apart).
    """
    targets = {"targets": np.isfinite(table.values) & np.isin(table.dataset_ids, table.targets)}
    figures = figures_per_dataset(table, scores, targets, settings.draws)
    groups = summarise_groups(table, figures, bootstrap=settings.bootstrap)
    return {
        "methods": summarise(table, figures, bootstrap=settings.bootstrap)["targets"],
        "paired": {
            name: compare(table, figures, name, [PRIOR], settings.bootstrap)["targets"][PRIOR]
            for name in scores
            if name != PRIOR and PRIOR in scores
        },
        "groups": {name: found["targets"] for name, found in groups.items()},
    }


def run_benchmark(table: PublishedTable, settings: BenchmarkSettings, networks: Mapping[str, Method]) -> dict[str, Any]:
    """Everything that one table allows, as one document.

    Args:
        table: The published table.
        settings: How it is evaluated.
        networks: Further methods, such as a trained ranker; too slow for the quadrants' many fits.
    """
    simple = simple_methods(table)
    scores = leave_one_out(table, {**simple, **networks})
    # Published predictions and transferability scores are compared with, on the cells that they exist for.
    scores |= table.published
    result: dict[str, Any] = {
        "benchmark": table.name,
        "models": len(table.models),
        "datasets": len(table.dataset_ids),
        "targets": table.targets,
        "baseline": PRIOR,
        **judge(table, scores, settings),
        "quadrants": quadrants(table, simple, settings),
        "probes": probes(table, settings),
    }
    for name, part in table.sub_zoos.items():
        within = judge(part, leave_one_out(part, simple_methods(part)), settings)["methods"]
        result.setdefault("sub_zoos", {})[name] = within
    if table.name == "model_spider":
        tried = {name: simple[name] for name in ("metadata_ridge", PRIOR, RECOMMENDER)}
        unknown = judge(table, leave_one_out(table, tried, families_too=True), settings)["methods"]
        result["source_left_out"] = {name: entry["weighted_tau"] for name, entry in unknown.items()}
    return result
