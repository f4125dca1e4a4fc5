"""Real images in: how good is what `kedro recommend` says of them, and does the choice of images matter?

    python benchmarks/real_images.py --images FOLDER --truth TABLE.parquet [--scores TABLE.parquet]
    python benchmarks/real_images.py --images FOLDER --truth TABLE.parquet --project CLONE --project CLONE_AFTER_A_RUN

FOLDER holds NPZ files with ``train_images``, ``train_labels``, ``test_images``, ``test_labels`` and ``class_names``;
``mnist.npz`` is the dataset ``real_mnist``. Each is read, encoded and answered for by what the command calls, once for
every seed and, given the tokens, once for every project. By default the datasets are those of
``held_out_datasets.csv``, on which nothing is fitted. Truth (linear probes of every model) and
transferability scores are tables of the pipeline ``ground_truth``:

    THESIS_REC_REAL_DATA=PARENT_OF_FOLDER kedro run --env=real --pipelines=ground_truth \\
        --params "ground_truth.models=MODELS,ground_truth.datasets=DATASETS,ground_truth.reference=none"

References in the same run: the static prior (mean z-score on the datasets that are known), the scores, and the mean of
their ranks and ours. Tries are simulated: one gives the mean of ten linear probes, and is chosen as `--probe` chooses
where all cost the same; beside it the best of as many that were expected to be best. Intervals are bootstraps over
domains. The last line is JSON.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from result import PROJECT, finish, parser_of
from results_page import interval_text

from thesis_rec.commands.artefacts import load_bundle
from thesis_rec.evaluation.figures import cluster_bootstrap
from thesis_rec.evaluation.metrics import regret, weighted_tau
from thesis_rec.evaluation.probing_simulation import Candidates, simulate
from thesis_rec.recommendation.asking import believed
from thesis_rec.recommendation.request import Request, read_images
from thesis_rec.recommendation.trying import PROBE_DRAWS, noise_of_try

REAL = PROJECT / "data/01_raw/real"
TRIES = (3, 5, 13, 26)


def belief_of(bundle: Any, tokens: Any, truth: pd.Series) -> Any:
    """What is believed of the models whose truth was measured."""
    belief = believed(bundle, tokens)
    return belief.only(np.flatnonzero(np.isin(belief.model_ids, truth.dropna().index)))


def judged(belief: Any, truth: pd.Series) -> dict[str, Any]:
    """How good a belief of the models is; below chance, a measured value counts as chance for coverage."""
    y = truth.reindex(belief.model_ids).to_numpy(float)
    low, high = belief.interval(0.9)
    first = int(belief.ranking()[0])
    return ordered(belief.mean, y) | {
        "coverage": float(((low <= np.maximum(y, belief.scale.chance)) & (y <= high)).mean()),
        "width": float((high - low).mean()),
        "bias": float(belief.value()[first] - y[first]),
        "first": belief.model_ids[first],
    }


def tried(belief: Any, truth: pd.Series, spread: pd.Series, n_test: int, seed: int) -> dict[str, float]:
    """Regret after some tries, and of the best of as many that were expected to be best."""
    y, rng = truth.reindex(belief.model_ids).to_numpy(float), np.random.default_rng(seed)
    noise = spread.reindex(belief.model_ids).fillna(0.0).to_numpy() / np.sqrt(PROBE_DRAWS)
    observed, nothing = np.clip(y + noise * rng.normal(size=len(y)), 0.0, 1.0), np.full(len(y), np.nan)
    doubt = float(np.mean([noise_of_try(value, n_test) for value in y]))
    candidates = Candidates(belief, y, observed, doubt, np.ones(len(y)), nothing, nothing)
    found = {}
    for name, policy in (("tried", "active"), ("top", "own_top")):
        for count, outcome in zip(TRIES, simulate(candidates, policy, TRIES, rng), strict=True):
            found[f"{name} {count}"] = outcome.regret
    return found


def ordered(score: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How good an order of the models is."""
    return {"tau": weighted_tau(truth, score)} | {f"regret@{k}": regret(truth, score, k) for k in (1, 5)}


def told(values: pd.Series, domains: list[str]) -> str:
    """Mean over datasets with its interval."""
    return interval_text(cluster_bootstrap(values, domains))


def main() -> None:
    """Ask about every dataset and compare with the truth."""
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of NPZ files")
    parser.add_argument("--truth", type=Path, default=REAL / "performance_records.parquet")
    parser.add_argument("--scores", type=Path, help="transferability scores, as further references")
    parser.add_argument("--datasets", default="held_out", help="names separated by commas, or held_out")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--project", type=Path, action="append", help="whose runs answer; by default this one's")
    arguments = parser.parse_args()
    held_out = pd.read_csv(REAL / "held_out_datasets.csv", dtype=str)
    about = pd.concat([held_out, pd.read_csv(REAL / "dataset_manifest.csv", dtype=str)])
    domain = about.set_index("dataset_id")["domain"]
    names = list(held_out["dataset_id"]) if arguments.datasets == "held_out" else arguments.datasets.split(",")
    bundles = {
        project.resolve().name: load_bundle(project, zoo="starter") for project in arguments.project or [PROJECT]
    }
    records = pd.read_parquet(arguments.truth)
    records = records[records["protocol"] == "linear_probe"]
    truth, spread = (
        records.pivot_table(index="model_id", columns="dataset_id", values="value", aggfunc=how)
        for how in ("mean", "std")
    )
    n_test = records.groupby("dataset_id")["n_test"].first() if "n_test" in records else pd.Series(dtype=float)
    ranked = truth[names].dropna().index.intersection(next(iter(bundles.values())).models.model_ids)
    arguments.models = len(ranked)
    scores = pd.read_parquet(arguments.scores) if arguments.scores else pd.DataFrame(columns=["dataset_id", "method"])
    rows: list[dict[str, Any]] = []
    for name in names:
        archive = arguments.images / f"{name.removeprefix('real_')}.npz"
        for seed in range(arguments.seeds):
            started = time.process_time()
            asked = read_images(archive, next(iter(bundles.values())).encoder, Request(seed=seed))
            seconds = time.process_time() - started
            # Under this name the figures of a known dataset are left out of what is known.
            tokens = replace(asked.tokens, dataset_id=name)
            row = {"dataset": name, "domain": domain[name], "seed": seed, "cpu_seconds": seconds}
            beliefs = {project: belief_of(bundle, tokens, truth[name]) for project, bundle in bundles.items()}
            of_tries = truth[name], spread[name], int(n_test.get(name, 0)), seed
            rows += [
                row | {"project": project} | judged(belief, truth[name]) | tried(belief, *of_tries)
                for project, belief in beliefs.items()
            ]
            rows += references(row, *next(zip(beliefs.values(), bundles.values(), strict=True)), truth[name], scores)
            print(name, seed, {project: belief.best() for project, belief in beliefs.items()}, flush=True)
    report(pd.DataFrame(rows), list(bundles), arguments)


def references(
    row: dict[str, Any], belief: Any, bundle: Any, truth: pd.Series, scores: pd.DataFrame
) -> list[dict[str, Any]]:
    """The same figures of what orders models without us, of the mean of its ranks and ours, and of us given LogME."""
    wide = bundle.performance.pivot_table(index="model_id", columns="dataset_id", values="value")
    others = {"static prior": ((wide - wide.mean()) / wide.std()).mean(axis=1)}
    for method, table in scores[scores["dataset_id"] == row["dataset"]].groupby("method"):
        others[str(method)] = table.set_index("model_id")["value"]
    found, y = [], truth.reindex(belief.model_ids).to_numpy(float)
    for name, given in others.items():
        score = given.reindex(belief.model_ids).fillna(given.min())
        found.append(row | {"project": name} | ordered(score.to_numpy(), y))
        if name != "static prior":
            if name == "logme":
                judged_so = judged(belief.scored(given.reindex(belief.model_ids).dropna().to_dict(), name), truth)
                found.append(row | {"project": "ours, with logme's scores"} | judged_so)
            both = score.rank().to_numpy() + pd.Series(belief.mean).rank().to_numpy()
            found.append(row | {"project": f"mean of {name}'s ranks and ours"} | ordered(both, y))
    return found


def report(table: pd.DataFrame, projects: list[str], arguments: argparse.Namespace) -> None:
    """Print what was found, and save it: every dataset's figures are means over seeds."""
    figures = ["tau", "regret@1", "regret@5", "coverage", "width", "bias"]
    gaps = {f"{count} tries less own top": table[f"tried {count}"] - table[f"top {count}"] for count in TRIES}
    means = table.assign(**gaps).groupby(["project", "dataset"], sort=False)[[*figures, *gaps]].mean()
    summary, result = [], {"benchmark": "real_images", "device": "CPU", "seeds": arguments.seeds}
    domains = table.drop_duplicates("dataset").set_index("dataset")["domain"]
    ours = means.loc[projects[0]]
    for name in dict.fromkeys(table["project"]):
        part = means.loc[name]
        of = [domains[dataset] for dataset in part.index]
        line = {"by": name} | {key: told(part[key], of) if part[key].notna().all() else "–" for key in figures}
        differences = {"tau less ours": part["tau"] - ours.loc[part.index, "tau"]} | {key: part[key] for key in gaps}
        for key, values in differences.items():
            same = name == projects[0] and key == "tau less ours"
            told_so = "{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
            line[key] = "–" if same or values.isna().any() else told_so.format(**cluster_bootstrap(values, of))
        summary.append(line)
    of_ours = table[table["project"] == projects[0]]
    same = of_ours.groupby("dataset", sort=False)["first"].agg(lambda firsts: firsts.value_counts().iloc[0])
    spread = of_ours.groupby("dataset", sort=False)["tau"].std()
    by_set = ours.assign(same_first=same, tau_sd_over_seeds=spread).reset_index()
    each_set = [
        {"by": row["dataset"]}
        | {key: f"{row[key]:.3f}" for key in figures}
        | {"tau less ours": "–"}
        | {key: f"{row[key]:+.3f}" for key in gaps}
        for row in by_set.to_dict("records")
    ]
    result |= {"lowest_coverage_of_a_set": float(ours["coverage"].min()), "same_first_choice": same.to_dict()}
    result["cpu_seconds"] = float(of_ours["cpu_seconds"].median())
    finish(
        result | {"summary": summary, "by_dataset": by_set.to_dict("records")},
        arguments.save,
        "Real images: what `kedro recommend` says of them",
        10,
        f"{len(by_set)} datasets, seeds 0 to {arguments.seeds - 1}, truth of {arguments.models} models. "
        f"Lowest coverage of a dataset {result['lowest_coverage_of_a_set']:.2f}; the first choice is the same at two "
        f"thirds of the seeds on {int((same >= arguments.seeds * 2 / 3).sum())} of them. Coverage and width are of "
        "90 % intervals, bias is predicted less measured value of the first choice; intervals over domains. "
        "*n tries less own top*: regret after so many simulated tries minus that of the best of as many that were "
        f"expected to be best. The last rows are each dataset's, by {projects[0]}.",
        rows=[*summary, *each_set],
    )


if __name__ == "__main__":
    main()
