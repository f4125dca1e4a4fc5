"""The ranker against all baselines, in four quadrants, on the embedded zoo.

    python benchmarks/ranking.py            # one seed of every method, under 15 minutes on two cores
    python benchmarks/ranking.py --quick    # the posterior, one static prior and LogME; no network; writes one table
    python benchmarks/ranking.py --full     # three seeds and the ablation; writes docs/results/ranking*.json

Everything is trained here, from committed embeddings, responses, tokens and measured truth; no committed prediction is
read. Prints a table, one JSON line per quadrant and method, and a last JSON line with the claims.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from result import PROJECT, save_section
from results_page import interval_text

STARTER = PROJECT / "data" / "01_raw" / "starter"
SHIPPED = PROJECT / "data" / "01_raw" / "real"
SHOWN = ("weighted_tau", "kendall_tau", "pearson", "regret@1", "regret@5", "recall@5")


@dataclass(frozen=True)
class World:
    """The embedded zoo as tables."""

    models: Any
    tokens: dict[str, Any]
    performance: pd.DataFrame
    records: pd.DataFrame
    splits: pd.DataFrame
    datasets: pd.DataFrame
    transferability: pd.DataFrame


def read_world(root: Path, seed: int) -> World:
    """Read the zoo's tables and its stored embeddings and tokens, and divide them."""
    from thesis_rec.base.files import load_arrays
    from thesis_rec.knowledge.quadrants import assign_splits
    from thesis_rec.recommendation.bundle import read_bundle, with_listed, with_measured
    from thesis_rec.truth.performance_records import clean_performance

    stored = read_bundle(root / "bundle")
    manifest = pd.read_csv(root / "model_manifest.csv", dtype=str, keep_default_na=False)
    # The bundle also has tokens of real datasets whose figures may be shipped.
    folders = [root, SHIPPED]
    datasets = pd.concat(
        [pd.read_csv(folder / "dataset_manifest.csv", dtype=str, keep_default_na=False) for folder in folders],
        ignore_index=True,
    ).fillna("")
    records = pd.concat([pd.read_parquet(folder / "performance_records.parquet") for folder in folders])
    records = records[records["model_id"].isin(manifest["model_id"])]
    records = records[records["protocol"] == "linear_probe"]
    performance = clean_performance([records])
    sides = json.loads((root / "sides.json").read_text(encoding="utf-8"))
    families = dict(zip(manifest["model_id"], manifest["family"], strict=True))
    splits = assign_splits(performance, families, datasets, sides, seed=seed)
    scores = pd.concat([pd.read_parquet(folder / "transferability_scores.parquet") for folder in folders])
    models = with_measured(with_listed(stored.models, manifest, {}), load_arrays(root / "model_responses.npz"))
    return World(models, stored.tokens, performance, records, splits, datasets, scores)


def parameters() -> dict[str, Any]:
    """What ``conf/base`` says about training, without the paths."""
    text = (PROJECT / "conf" / "base" / "parameters" / "similarity_training.yml").read_text(encoding="utf-8")
    chosen: dict[str, Any] = yaml.safe_load(text)["similarity_training"]
    return chosen


def train(world: World, seed: int) -> Any:
    """The thesis's network, trained as ``kedro run`` does."""
    from thesis_rec.evaluation.study import assemble_study
    from thesis_rec.thesis.similarity_training import train_ranker
    from thesis_rec.training.settings import RankerPlan

    study = assemble_study(world.performance, world.splits, world.models, world.tokens, world.datasets, seed=seed)
    known, lists = study.models.select(np.flatnonzero(study.known)), (study.lists("train"), study.lists("validation"))
    plan = RankerPlan(**parameters()["similarity_transformer"])
    with tempfile.TemporaryDirectory() as folder:
        return train_ranker(known, *lists, plan, Path(folder), seed)[0]


def evaluate(world: World, ranker: Any, seed: int, *, quick: bool = False, **probes: int) -> Any:
    """Every method on the same cells; ``probes`` changes how probing is simulated."""
    from thesis_rec.evaluation import quadrant_evaluation
    from thesis_rec.evaluation.baselines import BASELINES
    from thesis_rec.evaluation.probing_simulation import ProbingSettings
    from thesis_rec.evaluation.study import assemble_study
    from thesis_rec.truth.performance_records import noise_ceiling

    text = (PROJECT / "conf" / "base" / "parameters" / "evaluation.yml").read_text(encoding="utf-8")
    chosen = yaml.safe_load(text)["evaluation"]
    study = assemble_study(world.performance, world.splits, world.models, world.tokens, world.datasets, seed=seed)
    settings = quadrant_evaluation.EvaluationSettings(
        baselines=("static_mean_z",) if quick else BASELINES,
        transferability=("logme",) if quick else tuple(chosen["transferability"]),
        bootstrap=200 if quick else chosen["bootstrap"],
        probing=ProbingSettings(**(chosen["probing"] | ({"counts": (3,)} if quick else {}) | probes)),
    )
    ceiling = {"linear_probe": noise_ceiling(world.records, "linear_probe", seed=seed)}
    return quadrant_evaluation.evaluate(study, ranker, world.transferability, settings, ceiling=ceiling)


TEXT = """\
Every method is judged on the same cells. `recommender` is the posterior that answers requests, without any network;
where cells of a dataset were measured (Q1, Q2), it is given them. It learns from known models on
training and validation datasets and chooses by leaving out families; the others learn from training datasets and are
chosen on validation ones.
`similarity_transformer` is the thesis's network, which doesn't read a dataset's own cells. In coverage a
measured value below chance counts as chance. A probe is the mean of ten linear probes on features extracted once, as
`kedro recommend --probe` has it."""

#: What is taken away from the table of models, or from the datasets' tokens.
ABLATIONS: dict[str, dict[str, Any]] = {
    "without landmarks": {"landmarks": None},
    "without probes on sub-tasks of the reference tasks": {"subtasks": None},
    "without responses": {"reference": None, "subtasks": None},
}


def ablate(world: World, seed: int) -> list[dict[str, Any]]:
    """Weighted tau of the recommender with one part taken away, by quadrant; one seed."""
    rows = []
    for name, change in {"complete": {}, **ABLATIONS}.items():
        tokens, lost = world.tokens, dict(change)
        if "landmarks" in lost:
            tokens = {key: replace(item, landmarks=lost["landmarks"]) for key, item in tokens.items()}
            lost = {}
        known = replace(world, tokens=tokens, models=replace(world.models, **lost))
        found = evaluate(known, None, seed, quick=True)
        quadrants = found.metrics["quadrants"]
        row = {q: quadrants[q]["recommender"]["weighted_tau"]["mean"] for q in quadrants}
        rows.append({"variant": name, **row})
        print(f"  {name:42s} " + "  ".join(f"{q} {row[q]:.3f}" for q in row), flush=True)
    return rows


def probe_noise(world: World, seed: int) -> list[list[str]]:
    """Active probing with probes of more or less noise, up to the value that judges; and with a judge of its own."""
    rows = []
    for name, probes in (
        ("one linear probe", {"draws": 1}),
        ("mean of three", {"draws": 3}),
        ("mean of ten", {"draws": 10}),
        ("the measured value itself", {"draws": 10**6}),
        ("mean of ten; a new mean of three judges", {"draws": 10, "judge_draws": 3}),
    ):
        found = evaluate(world, None, seed, quick=True, **probes).metrics["probing"]
        for number in found["shares"].values():
            for policy in ("active", "own_top", "cheap_score_all"):
                entry = found["frontier"][policy][str(number)]
                figures = [f"{entry[key]['mean']:.4f}" for key in ("regret@1", "weighted_tau")]
                rows.append([name, str(number), policy, *figures])
    return rows


def _claim(difference: Mapping[str, float], holds: bool) -> dict[str, Any]:
    return {key: round(difference[key], 4) for key in ("mean", "low", "high")} | {"holds": bool(holds)}


def claims(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked of a ranker, and whether it holds."""
    quadrants, probing = metrics["quadrants"], metrics["probing"]
    found: dict[str, Any] = {}
    for quadrant, every in metrics["paired_all"].items():
        # The strongest of all others, whether it was trained, scored or counted; a claim against it may be lost.
        rival = max(every, key=lambda name: quadrants[quadrant][name]["weighted_tau"]["mean"] or -1.0)
        difference = every[rival]["weighted_tau"]
        found[f"{quadrant} against the strongest, {rival}"] = _claim(difference, difference["low"] > 0)
    for quadrant, pair in metrics["paired_with_scores"].items():
        difference = pair["logme"]["weighted_tau"]
        found[f"{quadrant} with LogME of all candidates, against LogME"] = _claim(difference, difference["low"] > 0)
    for rival in ("ridge", "kernel_ridge", "boosted_trees"):
        for quadrant, every in metrics["paired_all"].items():
            if rival in every:
                difference = every[rival]["weighted_tau"]
                found[f"{quadrant} against {rival}"] = _claim(difference, difference["high"] >= 0)
    q3 = {name: quadrants["Q3"][name]["weighted_tau"]["mean"] for name in quadrants["Q3"]}
    static = max(value for name, value in q3.items() if name.startswith("static_"))
    share = (q3["recommender"] - static) / (q3["logme"] - static)
    found["Q3: share of the way from the best static prior to LogME"] = {
        "mean": round(share, 3), "holds": bool(share >= 0.5)
    }  # fmt: skip
    frontier = probing["frontier"]
    for label, factor in (("0.05", 1.0), ("0.1", 0.5)):
        number = str(probing["shares"][label])
        active, prior = frontier["active"][number], frontier["own_top"][number]
        logme = frontier["cheap_score_all"][number]
        found[f"regret@1 after probing {number} candidates"] = {
            "active": round(active["regret@1"]["mean"], 4),
            "own_top": round(prior["regret@1"]["mean"], 4),
            "logme_on_all": round(logme["regret@1"]["mean"], 4),
            "holds": bool(
                active["regret@1"]["mean"] <= factor * logme["regret@1"]["mean"]
                and active["regret@1"]["mean"] < prior["regret@1"]["mean"]
            ),
        }
        if label == "0.1":
            found[f"weighted tau after probing {number} candidates"] = {
                "active": round(active["weighted_tau"]["mean"], 4),
                "logme_on_all": round(logme["weighted_tau"]["mean"], 4),
                "holds": bool(active["weighted_tau"]["mean"] >= logme["weighted_tau"]["mean"]),
            }
    ours, static_ = metrics["calibration"]["Q3"]["recommender"], metrics["calibration"]["Q3"]["static_mean_accuracy"]
    found["coverage of 90 % intervals on unknown datasets"] = {
        "mean": round(ours["coverage"]["mean"], 3), "holds": bool(0.85 <= ours["coverage"]["mean"] <= 0.95)
    }  # fmt: skip
    found["interval score against the static prior's"] = {
        "recommender": round(ours["interval_score"]["mean"], 4),
        "static": round(static_["interval_score"]["mean"], 4),
        "holds": bool(ours["interval_score"]["mean"] < static_["interval_score"]["mean"]),
    }
    return found


def show(metrics: Mapping[str, Any]) -> None:
    """Print the quadrants for people, and a JSON line for each method."""
    for quadrant, methods in metrics["quadrants"].items():
        print(f"\n{quadrant:26} " + " ".join(f"{name:>22}" for name in SHOWN))
        for name in sorted(methods, key=lambda m: -(methods[m]["weighted_tau"]["mean"] or -9)):
            cells = []
            for metric in SHOWN:
                entry = methods[name][metric]
                cells.append("-" if entry["mean"] is None else
                             f"{entry['mean']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]")  # fmt: skip
            print(f"{name:26} " + " ".join(f"{cell:>22}" for cell in cells))
    print(f"noise ceiling {metrics['noise_ceiling']}")
    for quadrant, methods in metrics["quadrants"].items():
        for name, entry in methods.items():
            figures = {metric: entry[metric]["mean"] for metric in SHOWN}
            print(json.dumps({"quadrant": quadrant, "method": name, "n": entry["weighted_tau"]["n"], **figures}))


def write_results(
    folder: Path,
    metrics: Mapping[str, Any],
    held: Mapping[str, Mapping[str, Any]],
    ablation: list[dict[str, Any]],
    noise: list[list[str]],
) -> None:
    """Sections of the results page: the figures, what is asked of a ranker, and what each part adds."""
    save_section(folder / "ranking.json", "The embedded zoo: four quadrants", 1, _device(), TEXT, "evaluation", metrics)
    rows = [
        [name, ", ".join(f"{key} {value}" for key, value in claim.items() if key != "holds"), str(claim["holds"])]
        for name, claim in held.items()
    ]
    text = "Differences are paired over datasets, in weighted tau, with 95 % bootstrap intervals."
    columns = ["claim", "measured", "holds"]
    _write_table(folder / "ranking_claims.json", "What is asked of the recommender", 2, text, columns, rows)
    text = (
        "Probing on unknown datasets; LogME on all candidates is `cheap_score_all`, whose scores have no noise of this "
        "kind. In the last rows the values that judge are drawn anew with the noise of three linear probes, for all."
    )
    columns = ["a probe gives", "probes", "policy", "regret@1", "weighted tau"]
    _write_table(folder / "ranking_probe_noise.json", "What a probe's noise changes", 4, text, columns, noise)
    if ablation:
        columns = list(ablation[0])
        rows = [[row[c] if isinstance(row[c], str) else f"{row[c]:.3f}" for c in columns] for row in ablation]
        text = (
            "Weighted tau of the recommender with one part taken away, one seed. Responses other than linear probes "
            "(nearest class means, kernel alignment, projected geometry, statistics of features) went on 2026-11-30: "
            "with them Q2 and Q4 were 0.802 and 0.714 (regret@1 0.061 and 0.065), without them 0.801 and 0.714 (0.064 "
            "and 0.068), and by themselves 0.224 and 0.199, as without any."
        )
        _write_table(folder / "ranking_ablation.json", "What each part adds", 3, text, columns, rows)


def write_quick(folder: Path, metrics: Mapping[str, Any]) -> None:
    """The section of the results page that says what requests are answered with."""
    rows = [
        [quadrant, name, *(interval_text(entry[metric]) for metric in ("weighted_tau", "regret@1"))]
        for quadrant, methods in metrics["quadrants"].items()
        for name, entry in methods.items()
    ]
    text = (
        "`recommender` is the posterior that `kedro recommend --zoo starter` asks, without any network; "
        "`recommender_with_logme` is the same where `--score` asks for LogME of all candidates."
    )
    columns = ["quadrant", "method", "weighted tau", "regret@1"]
    title = "The embedded zoo: what answers requests"
    _write_table(folder / "ranking_posterior.json", title, 0, text, columns, rows)


def _write_table(
    path: Path, title: str, order: int, text: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    save_section(path, title, order, _device(), text, "table", {"columns": columns, "rows": rows})


def _device() -> str:
    return f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=STARTER, help="folder of the zoo")
    parser.add_argument("--seed", type=int, default=0, help="seed of splits and training")
    parser.add_argument("--full", action="store_true", help="the ablation too; writes to --output")
    parser.add_argument("--output", type=Path, default=PROJECT / "docs" / "results", help="folder of sections")
    parser.add_argument("--no-ablation", action="store_true", help="leave the ablation out of --full")
    parser.add_argument("--quick", action="store_true", help="what answers requests, without training the network")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    started = time.perf_counter()
    world = read_world(arguments.root, arguments.seed)
    if arguments.quick:
        metrics = evaluate(world, None, arguments.seed, quick=True).metrics
        show(metrics)
        write_quick(arguments.output, metrics)
        return
    found = evaluate(world, train(world, arguments.seed), arguments.seed)
    metrics = found.metrics
    show(metrics)
    held = claims(metrics)
    for name, claim in held.items():
        print(f"{'yes' if claim['holds'] else 'NO ':4} {name}: { {k: v for k, v in claim.items() if k != 'holds'} }")
    summary = {"seed": arguments.seed, "seconds": round(time.perf_counter() - started, 1), "claims": held}
    if arguments.full:
        ablation = [] if arguments.no_ablation else ablate(world, arguments.seed)
        noise = probe_noise(world, arguments.seed)
        write_results(arguments.output, metrics, held, ablation, noise)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
