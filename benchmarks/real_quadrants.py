"""Real images and real checkpoints in four quadrants, by ``kedro run --env=real``.

    export THESIS_REC_REAL_DATA=FOLDER
    kedro run --env=real --pipelines=ground_truth      # once: hours on a CPU, minutes on a GPU
    python benchmarks/real_quadrants.py [--drawn]

FOLDER holds ``images/*.npz`` and ``checkpoints/*``. Known real datasets are those whose figures came with the project,
as far as their domain isn't unknown; unknown are the rest and those of ``held_out_datasets.csv``. Unknown models are
the real checkpoints and the embedded zoo's unknown families. With ``--drawn`` it learns from drawn images alone,
and every real dataset is unknown. The references in the same run are all baselines on the same cells. Intervals are
bootstraps over domains. The last line is JSON.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pandas as pd
from result import PROCESSOR, PROJECT, finish, parser_of
from results_page import interval_text

from thesis_rec.commands.artefacts import load_context
from thesis_rec.evaluation.figures import cluster_bootstrap

SHOWN = ("weighted_tau", "regret@1", "regret@5", "recall@5")


def run(drawn: bool) -> None:
    """Extraction, tokens, training and evaluation; what an earlier run extracted is kept."""
    command = [sys.executable, "-m", "kedro", "run", "--env=real"]
    if drawn:
        command += ["--params", "similarity_training.splits.unknown_groups=real"]
    subprocess.run(command, cwd=PROJECT, check=True)


def figures_of_real_datasets() -> pd.DataFrame:
    """Figures per quadrant, method and real dataset, with the dataset's domain."""
    catalog = load_context(PROJECT, "real").catalog
    measured = set(catalog.load("measured_performance")["dataset_id"])
    files = ("dataset_manifest", "held_out_datasets")
    real = pd.concat([pd.read_csv(PROJECT / f"data/01_raw/real/{name}.csv", dtype=str) for name in files])
    if absent := sorted(set(real["dataset_id"]) - measured):
        sys.exit(f"{', '.join(absent)} weren't measured: run the pipeline ground_truth with --env=real first.")
    figures: pd.DataFrame = catalog.load("evaluation_figures")
    return figures.merge(real[["dataset_id", "domain"]], on="dataset_id")


def compare(figures: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per quadrant and method: its figures, and the recommender's advantage over it."""
    rows = []
    for quadrant, part in figures.groupby("quadrant", sort=True):
        domains = part.drop_duplicates("dataset_id").set_index("dataset_id")["domain"]
        table = {
            name: part.pivot_table(index="dataset_id", columns="method", values=name, dropna=False) for name in SHOWN
        }
        order = table["weighted_tau"].mean().sort_values(ascending=False).dropna().index
        for method in order:
            row: dict[str, Any] = {"quadrant": quadrant, "datasets": len(domains), "method": method}
            for name in SHOWN:
                values = table[name][method]
                row[name] = cluster_bootstrap(values, list(domains[values.index]))
            if method != "recommender":
                ours = table["weighted_tau"]["recommender"]
                clusters = list(domains[ours.index])
                row["advantage"] = cluster_bootstrap(ours - table["weighted_tau"][method], clusters)
            rows.append(row)
    return rows


def main() -> None:
    """Run, compare, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--drawn", action="store_true", help="learn from drawn images alone")
    parser.add_argument("--no-run", action="store_true", help="compare what the last run left")
    arguments = parser.parse_args()
    if not arguments.no_run:
        run(arguments.drawn)
    rows = compare(figures_of_real_datasets())
    shown = [
        {
            "quadrant": f"{row['quadrant']} ({row['datasets']} datasets)",
            "method": row["method"].replace("_", " "),
            **{name.replace("_", " "): interval_text(row[name]) for name in SHOWN},
            "recommender's advantage, weighted tau": interval_text(row.get("advantage")),
        }
        for row in rows
    ]
    chosen = {row["method"]: row for row in rows if row["quadrant"] == "Q3"}
    static = max(
        (name for name in chosen if name.startswith("static_")), key=lambda m: chosen[m]["weighted_tau"]["mean"]
    )
    learned = (
        "The ranker learned from drawn images alone: every real dataset is unknown to it."
        if arguments.drawn
        else "The ranker learned from drawn images and the real datasets of Q1 and Q2, not from those of Q3 and Q4."
    )
    finish(
        {
            "benchmark": "real_quadrants",
            "device": f"{PROCESSOR}, CPU",
            "reference": static,
            "ratio": chosen["recommender"]["weighted_tau"]["mean"] / chosen[static]["weighted_tau"]["mean"],
            "rows": rows,
        },
        arguments.save,
        "Real images and checkpoints"
        + (", learned from drawn images alone" if arguments.drawn else ": four quadrants"),
        5 + arguments.drawn,
        f"{learned} Unknown models are twelve real checkpoints and the embedded zoo's unknown families. Truth: linear "
        "probes of all 276 models on 20 real datasets. Intervals over domains.",
        rows=shown,
    )


if __name__ == "__main__":
    main()
