"""Is the starter zoo a real ranking problem? Counts, variance, noise, and what simple methods reach.

    python benchmarks/starter_zoo.py
    python benchmarks/starter_zoo.py --root another/zoo
    python benchmarks/starter_zoo.py --write docs/starter-zoo.md      # also puts the figures into the data card
    python benchmarks/starter_zoo.py --real FOLDER --models 24   # also spreads on real images (NPZ), minutes on a CPU

``--real`` is by default the folder ``data/images`` in the folder that THESIS_REC_SHARED names.

All figures come from the committed tables. Baselines are judged on the mean over repeats of every base task, each
static prior being computed from the other tasks only. The last line is JSON.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
from result import PROJECT

#: Value of the manifest's ``pretraining`` column of models that were never trained.
UNTRAINED = "random"


def read_tables(root: Path) -> dict[str, pd.DataFrame]:
    """The zoo's manifests and tables; those that don't exist are left out."""
    tables = {}
    for name in ("model_manifest", "dataset_manifest"):
        tables[name] = pd.read_csv(root / f"{name}.csv", dtype=str, keep_default_na=False)
    for name in ("performance_records", "transferability_scores"):
        if (root / f"{name}.parquet").is_file():
            tables[name] = pd.read_parquet(root / f"{name}.parquet")
    return tables


def count(tables: dict[str, pd.DataFrame]) -> dict[str, object]:
    """How large the zoo is."""
    models, datasets, records = tables["model_manifest"], tables["dataset_manifest"], tables["performance_records"]
    measured = datasets[datasets["dataset_id"].isin(records["dataset_id"].unique())]
    base = measured[measured["parent"] == ""]
    cells = records.drop_duplicates(["model_id", "dataset_id", "protocol"])["protocol"].value_counts()
    found = {
        "models": models["model_id"].nunique(),
        "architecture_families": models["family"].nunique(),
        "pretraining_sources": models["pretraining"].nunique(),
        "base_tasks": len(base),
        "task_families": base["domain"].nunique(),
        "sub_tasks": len(measured) - len(base),
        "measured_tasks": len(measured),
        "cells": {str(protocol): int(number) for protocol, number in cells.items()},
    }
    if "n_parameters" in models:
        sizes = models["n_parameters"].astype(float)
        found["parameters"] = {"mean": int(sizes.mean()), "least": int(sizes.min()), "most": int(sizes.max())}
    return found


def base_tasks(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Measured datasets that aren't sub-tasks."""
    datasets = tables["dataset_manifest"]
    measured = set(tables["performance_records"]["dataset_id"].unique())
    return [name for name in datasets.loc[datasets["parent"] == "", "dataset_id"] if name in measured]


def generations(tables: dict[str, pd.DataFrame]) -> dict[int, list[str]]:
    """Measured base tasks of each generation."""
    from thesis_rec.starter.sides import ADDED_TASK_FAMILIES

    families = tables["dataset_manifest"].set_index("dataset_id")["domain"]
    found: dict[int, list[str]] = {}
    for name in base_tasks(tables):
        found.setdefault(2 if families[name] in ADDED_TASK_FAMILIES else 1, []).append(name)
    return found


def trained_models(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Models other than the random controls."""
    models = tables["model_manifest"]
    return models.loc[models["pretraining"] != UNTRAINED, "model_id"].tolist()


def truth_matrix(tables: dict[str, pd.DataFrame], protocol: str = "linear_probe") -> pd.DataFrame:
    """Mean over repeats, models x base tasks."""
    records = tables["performance_records"]
    chosen = records[(records["protocol"] == protocol) & (records["seed"] >= 0)]
    chosen = chosen[chosen["dataset_id"].isin(base_tasks(tables))]
    return chosen.pivot_table(index="model_id", columns="dataset_id", values="value", aggfunc="mean")


def static_priors(truth: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Each model's mean accuracy, z-score and rank over the other tasks, models x tasks."""
    parts = {
        "mean_accuracy": truth,
        "mean_z_score": (truth - truth.mean()) / truth.std(ddof=0).replace(0.0, np.nan),
        "mean_rank": truth.rank(),
    }
    priors = {}
    for name, part in parts.items():
        filled = part.fillna(0.0)
        number = part.notna()
        others = number.sum(axis=1).to_numpy()[:, None] - number
        priors[name] = (filled.sum(axis=1).to_numpy()[:, None] - filled) / others.replace(0, np.nan)
    return priors


def score_tables(tables: dict[str, pd.DataFrame], truth: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """Scores of every method, models x tasks."""
    rng = np.random.default_rng(seed)
    methods = {"random": pd.DataFrame(rng.random(truth.shape), truth.index, truth.columns)}
    models = tables["model_manifest"].set_index("model_id")
    if "n_parameters" in models:
        sizes = models["n_parameters"].astype(float).reindex(truth.index)
        methods["parameter_count"] = pd.DataFrame(dict.fromkeys(truth.columns, sizes))
    methods |= static_priors(truth)
    scores = tables.get("transferability_scores")
    if scores is not None:
        for method in sorted(scores["method"].unique()):
            part = scores[scores["method"] == method]
            table = part.pivot_table(index="model_id", columns="dataset_id", values="value", aggfunc="mean")
            methods[method] = table.reindex(index=truth.index, columns=truth.columns)
    return methods


def judge(truth: pd.DataFrame, methods: dict[str, pd.DataFrame]) -> dict[str, dict[str, float]]:
    """Mean weighted tau and regret@1 over tasks; a model without a score is ranked last."""
    from thesis_rec.evaluation.metrics import metric_table, regret, weighted_tau

    found = {}
    for name, scores in methods.items():
        rows = []
        for task in truth.columns:
            value = truth[task].to_numpy()
            score = scores[task].to_numpy(dtype=float)
            if np.isfinite(score).any():
                score = np.where(np.isfinite(score), score, np.nanmin(score) - 1.0)
                if len(np.unique(score)) == len(score):
                    rows.append((weighted_tau(value, score), regret(value, score, 1)))
                else:
                    figures = metric_table(value, score)  # breaks ties at random, many times
                    rows.append((figures["weighted_tau"], figures["regret@1"]))
        if rows:
            tau, loss = np.nanmean(np.asarray(rows), axis=0)
            found[name] = {"weighted_tau": round(float(tau), 4), "regret@1": round(float(loss), 4), "tasks": len(rows)}
    return found


def best_model_share(truth: pd.DataFrame) -> dict[str, object]:
    """On what share of the tasks the most frequent best model is best; ties count for each model."""
    best = truth.eq(truth.max(), axis=1)
    wins = best.sum(axis=1)
    return {
        "model": str(wins.idxmax()),
        "share": round(float(wins.max() / truth.shape[1]), 4),
        "winners": int((wins > 0).sum()),
    }


def cost(tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Mean seconds of each transferability score, for one model on one task."""
    scores = tables.get("transferability_scores")
    return {} if scores is None else scores.groupby("method")["seconds"].mean().round(6).to_dict()


def spread_on_real_images(
    root: Path, folder: Path, tables: dict[str, pd.DataFrame], number: int, device: str = "cpu"
) -> dict[str, float]:
    """Best minus lower-quartile linear-probe accuracy of some trained models on every NPZ dataset of a folder."""
    from thesis_rec.base.tables import MeasuredTask
    from thesis_rec.images.dataset_source import ImageLimits
    from thesis_rec.images.loading import load_task_images
    from thesis_rec.images.manifest import DatasetRow
    from thesis_rec.models.loaders import load_backbone
    from thesis_rec.models.model_manifest import read_manifest
    from thesis_rec.truth.cells import ImageBank, measure_model
    from thesis_rec.truth.settings import TruthSettings

    limits = ImageLimits(n_per_class=40)
    images = {}
    for path in sorted(folder.glob("*.npz")):
        row = DatasetRow(dataset_id=path.stem, loader="npz", source=path.name)
        images[path.stem] = load_task_images(row, folder, limits, 32)
    tasks = [
        MeasuredTask(name, tuple((name, c) for c in range(len(task.class_names)))) for name, task in images.items()
    ]
    rows, _ = read_manifest(tables["model_manifest"])
    trained = set(trained_models(tables))
    rows = [row for row in rows if row.model_id in trained]
    chosen = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(number, len(rows))).round().astype(int))]
    bank = ImageBank(images, device)
    settings = TruthSettings(scores=(), batch_size=512)
    values = {}
    for row in chosen:
        records = measure_model(load_backbone(row, root, device), bank, tasks, [], settings).records
        values[row.model_id] = records.groupby("dataset_id")["value"].mean()
    table = pd.DataFrame(values)  # datasets x models
    return (table.max(axis=1) - table.quantile(0.25, axis=1)).round(4).to_dict()


def summarise(tables: dict[str, pd.DataFrame], seed: int = 0) -> dict[str, object]:
    """Everything that the committed tables tell."""
    from thesis_rec.truth.performance_records import noise_ceiling, variance_components

    records = tables["performance_records"]
    base, trained = base_tasks(tables), trained_models(tables)
    measured = records[records["dataset_id"].isin(base)]
    of_trained = records[records["model_id"].isin(trained)]
    components = variance_components(of_trained[of_trained["dataset_id"].isin(base)])
    everyone = variance_components(measured)
    by_generation = {
        number: variance_components(of_trained[of_trained["dataset_id"].isin(tasks)])
        for number, tasks in generations(tables).items()
    }
    truth = truth_matrix(tables)
    methods = judge(truth, score_tables(tables, truth, seed))
    best = best_model_share(truth)
    return {
        "counts": count(tables),
        "variance": {key: round(value, 6) for key, value in components.items()},
        "variance_all_models": {key: round(value, 6) for key, value in everyone.items()},
        "variance_by_generation": {
            str(number): {key: round(value, 6) for key, value in part.items()} for number, part in by_generation.items()
        },
        "noise_ceiling": {
            protocol: {
                key: None if np.isnan(value) else round(value, 4)
                for key, value in noise_ceiling(measured, protocol).items()
            }
            for protocol in sorted(measured["protocol"].unique())
        },
        "accuracy": {
            "mean": round(float(np.nanmean(truth)), 4),
            "best_mean_over_tasks": round(float(truth.max().mean()), 4),
            "lower_quartile_mean_over_tasks": round(float(truth.quantile(0.25).mean()), 4),
        },
        "methods": methods,
        "best_model": best,
        "cost_seconds": cost(tables),
        "claims": {
            "interaction_share >= 0.40": components["interaction_share"] >= 0.40,
            "best model on <= 0.25 of the tasks": best["share"] <= 0.25,
        },
    }


def marks(name: str) -> tuple[str, str]:
    """The lines of a page between which stands what :func:`write` put there."""
    return f"<!-- {name}: benchmarks/starter_zoo.py -->", f"<!-- end of {name} -->"


def real_table(spread: dict[str, float], number: int) -> str:
    """Spreads on real images as a table of a page."""
    lines = [f"| Dataset | best minus lower quartile of {number} trained models |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value:.3f} |" for name, value in spread.items())])


def page_tables(summary: dict[str, object]) -> str:
    """The summary's main figures as tables of a page."""

    def row(name: str, part: dict[str, float]) -> str:
        shares = (part["model_share"], part["task_share"], part["interaction_share"])
        return f"| {name} | {part['n_tasks']} | " + " | ".join(f"{share:.3f}" for share in shares) + " |"

    lines = ["| Share of the variance | base tasks | models | tasks | interaction |", "|---|---|---|---|---|"]
    for number, part in sorted(summary["variance_by_generation"].items()):
        lines.append(row(f"generation {number} alone", part))
    lines += [
        row("**all**", summary["variance"]),
        row("all, untrained controls included", summary["variance_all_models"]),
    ]
    lines += ["", "| Noise ceiling | weighted tau between repeats | 95 % interval | tasks |", "|---|---|---|---|"]
    for protocol, part in summary["noise_ceiling"].items():
        lines.append(f"| {protocol} | {part['mean']:.3f} | {part['low']:.3f} to {part['high']:.3f} | {part['n']} |")
    lines += ["", "| Ranking by | weighted tau | regret@1 |", "|---|---|---|"]
    for name, part in summary["methods"].items():
        lines.append(f"| {name.replace('_', ' ')} | {part['weighted_tau']:.3f} | {part['regret@1']:.3f} |")
    accuracy, best = summary["accuracy"], summary["best_model"]
    top, low = accuracy["best_mean_over_tasks"], accuracy["lower_quartile_mean_over_tasks"]
    lines += [
        "",
        f"Mean accuracy is {accuracy['mean']:.3f}; a task's best model reaches {top:.3f} on average, its lower quartile"
        f" {low:.3f}. {best['winners']} models are best on some task, and none on more than {best['share']:.1%} of"
        " them.",
    ]
    return "\n".join(lines)


def write(page: Path, name: str, text: str) -> None:
    """Put a text into a page, between the marks of a name.

    Raises:
        ValueError: If the page lacks them.
    """
    first, last = marks(name)
    before, mark, rest = page.read_text(encoding="utf-8").partition(first)
    _, end, after = rest.partition(last)
    if not mark or not end:
        raise ValueError(f"{page} has no lines {first} and {last}")
    page.write_text(f"{before}{mark}\n{text}\n{end}{after}", encoding="utf-8")


def show(summary: dict[str, object]) -> None:
    """Print the summary for people."""
    for name in (
        "counts",
        "accuracy",
        "variance",
        "variance_by_generation",
        "noise_ceiling",
        "best_model",
        "cost_seconds",
        "claims",
    ):
        print(f"\n{name}")
        for key, value in summary[name].items():
            print(f"  {key:36} {value}")
    print(f"\n{'method':20} weighted tau   regret@1   tasks")
    for name, figures in summary["methods"].items():
        print(f"{name:20} {figures['weighted_tau']:12.3f} {figures['regret@1']:10.3f} {figures['tasks']:7d}")
    if "real_spread" in summary:
        print("\nbest minus lower-quartile trained model on real images")
        for name, value in summary["real_spread"].items():
            print(f"  {name:36} {value}")


def main() -> None:
    """Read, summarise, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=PROJECT / "data" / "01_raw" / "starter", help="folder of the zoo")
    parser.add_argument("--real", type=Path, default=None, help="folder of NPZ datasets of real images")
    parser.add_argument("--models", type=int, default=24, help="trained models to try on real images")
    parser.add_argument("--device", default="cpu", help="device on which they are tried")
    parser.add_argument("--write", type=Path, default=None, help="page with marks between which the figures are put")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random ranking")
    arguments = parser.parse_args()
    if not (arguments.root / "performance_records.parquet").is_file():
        parser.error(
            f"no performance_records.parquet in {arguments.root}: make the zoo with `kedro run --pipelines=starter_zoo`"
        )
    tables = read_tables(arguments.root)
    summary = summarise(tables, arguments.seed)
    real = arguments.real or Path(os.environ.get("THESIS_REC_SHARED", "")) / "data" / "images"
    if arguments.real is not None or (os.environ.get("THESIS_REC_SHARED") and real.is_dir()):
        spread = spread_on_real_images(arguments.root, real, tables, arguments.models, arguments.device)
        summary["real_spread"] = spread
        enough = sum(value >= 0.10 for value in spread.values())
        summary["claims"]["real spread >= 0.10 on >= 12 datasets"] = enough >= 12
    if arguments.write is not None:
        write(arguments.write, "figures", page_tables(summary))
        if "real_spread" in summary:
            number = min(arguments.models, len(trained_models(tables)))
            write(arguments.write, "real images", real_table(summary["real_spread"], number))
    show(summary)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
