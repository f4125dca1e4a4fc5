"""Real images in: does ``kedro recommend`` answer at once, and how good is what it names first?

    uv run python benchmarks/real_images.py --images FOLDER
    uv run python benchmarks/real_images.py --images FOLDER --truth TABLE.parquet
    uv run python benchmarks/real_images.py --images FOLDER --measure      # hours on a CPU, minutes on a GPU
    uv run python benchmarks/real_images.py --images FOLDER --datasets mnist,gtsrb

FOLDER holds NPZ files with ``train_images``, ``train_labels`` and ``class_names`` (and ``test_…`` for ``--measure``).
The training images of each are written as an image folder, and the command is run on it as a user would, in a process
of its own. The truth are linear probes of every model on that dataset: a table of performance records, by default the
one that came with the project, in which ``mnist.npz`` is the dataset ``real_mnist``. The reference in the same run is
the static prior: mean standardised accuracy on the datasets that the ranker learned from. Intervals are bootstraps over
domains. The last line is JSON; the exit status is 1 if a command failed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hardware_choices import performance_matrix, static_prior
from PIL import Image

from thesis_rec.commands.artefacts import load_context
from thesis_rec.evaluation.bootstrap import cluster_bootstrap, paired_difference
from thesis_rec.recommendation.bundle import PERFORMANCE

PROJECT = Path(__file__).resolve().parents[1]

#: Objects, traffic signs, digits, materials and aerial scenes: reported apart.
FIVE = ("caltech101", "gtsrb", "kannada_mnist", "neu_steel", "rsscn7")

#: How many first choices a user may try.
FIRST = (1, 5)


def write_folder(archive: Path, folder: Path) -> int:
    """Write the training images of an NPZ file as ``class_name/*.png``, grey ones as grey.

    Returns:
        Number of images.
    """
    with np.load(archive, allow_pickle=False) as content:
        images, labels = content["train_images"], content["train_labels"]
        names = [str(name).replace("/", "_") for name in content["class_names"]]
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(folder / names[int(label)] / f"{i:05d}.png")
    return len(images)


def ask(folder: Path) -> dict[str, Any]:
    """Run ``kedro recommend`` on a folder.

    Returns:
        Exit status, wall and processor seconds, all models best first, and the last line of what went wrong.
    """
    command = [
        sys.executable,
        "-m",
        "kedro",
        "recommend",
        str(folder),
        "--zoo",
        "starter",
        "--format",
        "json",
        "--top",
        "1000000",
    ]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ranked = [] if done.returncode else [model["model_id"] for model in json.loads(done.stdout)["models"]]
    told = "" if not done.returncode else (done.stderr.strip().splitlines() or [""])[-1]
    return {"status": done.returncode, "seconds": seconds, "cpu_seconds": processor, "ranked": ranked, "error": told}


def measure_truth(images: Path) -> pd.DataFrame:
    """Linear probes of every model on every dataset of the folder, resumable: the pipeline ``ground_truth``."""
    os.environ["THESIS_REC_REAL_DATA"] = str(images.resolve().parent)
    command = [sys.executable, "-m", "kedro", "run", "--env=real", "--pipelines=ground_truth"]
    subprocess.run(command, cwd=PROJECT, check=True)
    table: pd.DataFrame = load_context(PROJECT, "real").catalog.load("measured_performance")
    return table


def regrets(order: list[str], truth: pd.Series) -> dict[str, float]:
    """What the best of the first choices falls short of the best model by.

    Args:
        order: Models, best first.
        truth: Measured accuracy by model.
    """
    reached = truth.reindex(order).dropna()
    return {f"regret@{k}": float(truth.max() - reached.head(k).max()) for k in FIRST}


def prior_order(root: Path, models: list[str], families: list[str]) -> list[str]:
    """Models by the static prior over the datasets that the shipped ranker knows."""
    known = pd.read_parquet(root / "bundle" / PERFORMANCE)
    matrix = performance_matrix(known, sorted(set(known["dataset_id"])), models)
    prior = static_prior(matrix, families, np.ones(len(models), dtype=bool))
    return [models[i] for i in np.argsort(-prior, kind="stable")]


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """Mean regrets of both with their intervals, and of the difference on the same datasets."""
    found: dict[str, Any] = {}
    for k in FIRST:
        name = f"regret@{k}"
        ours, prior, domains = rows[name], rows[f"prior_{name}"], list(rows["domain"])
        found[name] = {
            "recommend": cluster_bootstrap(ours, domains).as_dict(),
            "static_prior": cluster_bootstrap(prior, domains).as_dict(),
            "difference": paired_difference(ours, prior, domains).as_dict(),
        }
    return found


def held_out() -> set[str]:
    """Datasets that no decision about the ranker was made on, as far as the project names them."""
    path = PROJECT / "data/01_raw/real/held_out_datasets.csv"
    if not path.is_file():
        return set()
    return {str(name).removeprefix("real_") for name in pd.read_csv(path)["dataset_id"]}


def report(rows: pd.DataFrame) -> None:
    """Print one line per dataset and the means."""
    header = " ".join(f"{name:>8}" for name in ("r@1", "r@5", "prior@1", "prior@5"))
    print(f"{'dataset':26} {'status':>6} {'s':>6} {'cpu s':>6} {header}  first")
    for row in rows.to_dict("records"):
        numbers = [row.get(key, np.nan) for key in ("regret@1", "regret@5", "prior_regret@1", "prior_regret@5")]
        told = " ".join(f"{'–':>8}" if np.isnan(value) else f"{value:8.4f}" for value in numbers)
        print(
            f"{row['dataset']:26} {row['status']:6d} {row['seconds']:6.1f} {row['cpu_seconds']:6.1f} {told}  "
            f"{row['first']}{row['error']}"
        )


def main() -> None:
    """Ask about every dataset and compare with the truth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of NPZ files")
    parser.add_argument("--truth", type=Path, default=PROJECT / "data/01_raw/real/performance_records.parquet")
    parser.add_argument("--measure", action="store_true", help="measure the truth first")
    parser.add_argument("--datasets", default="", help="names of NPZ files, separated by commas; all by default")
    parser.add_argument("--work", type=Path, help="where image folders are written; a temporary folder by default")
    arguments = parser.parse_args()
    root = PROJECT / "data/01_raw/starter"
    manifest = pd.read_csv(root / "model_manifest.csv", dtype=str, keep_default_na=False)
    about = pd.read_csv(PROJECT / "data/01_raw/real/dataset_manifest.csv", dtype=str, keep_default_na=False)
    domains = dict(zip(about["dataset_id"], about["domain"], strict=True))
    records = measure_truth(arguments.images) if arguments.measure else pd.read_parquet(arguments.truth)
    truth = records[records["protocol"] == "linear_probe"].pivot_table(
        index="model_id", columns="dataset_id", values="value"
    )
    prior = prior_order(root, manifest["model_id"].tolist(), manifest["family"].tolist())
    chosen = [name for name in arguments.datasets.split(",") if name]
    archives = [path for path in sorted(arguments.images.glob("*.npz")) if not chosen or path.stem in chosen]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for archive in archives:
            folder = (arguments.work or Path(temporary)) / archive.stem
            n_images = write_folder(archive, folder)
            answer = ask(folder)
            name = f"real_{archive.stem}"
            row = {
                "dataset": archive.stem, "domain": domains.get(name, archive.stem), "images": n_images,
                "status": answer["status"], "seconds": answer["seconds"], "cpu_seconds": answer["cpu_seconds"],
                "first": (answer["ranked"] or [""])[0], "error": answer["error"],
            }  # fmt: skip
            if name in truth and answer["ranked"]:
                # Real checkpoints that were measured too can't be named.
                known = truth[name].reindex(manifest["model_id"]).dropna()
                row |= regrets(answer["ranked"], known)
                row |= {f"prior_{key}": value for key, value in regrets(prior, known).items()}
            rows.append(row)
    table = pd.DataFrame(rows)
    report(table)
    judged = table.dropna(subset=["regret@1"]) if "regret@1" in table else table.iloc[:0]
    result: dict[str, Any] = {
        "datasets": len(table),
        "failed": int((table["status"] != 0).sum()),
        "longest_seconds": float(table["seconds"].max()),
        "rows": json.loads(table.to_json(orient="records")),
    }
    for label, names in (("all", set(judged["dataset"])), ("five", set(FIVE)), ("held_out", held_out())):
        part = judged[judged["dataset"].isin(names)]
        if part.empty:
            continue
        result[label] = summary(part)
        for name, figures in result[label].items():
            told = "; ".join(
                f"{key} {f['mean']:.4f}" + (f" [{f['low']:.4f}, {f['high']:.4f}]" if f["low"] is not None else "")
                for key, f in figures.items()
            )
            print(f"{label} ({len(part)} datasets) {name}: {told}")
    print(json.dumps(result))
    sys.exit(1 if result["failed"] else 0)


if __name__ == "__main__":
    main()
