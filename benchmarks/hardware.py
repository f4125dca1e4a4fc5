"""Choosing under a latency budget: broken budgets and regret, with measured and with predicted figures.

    python benchmarks/hardware.py [--root data/01_raw/starter] [--batch-size 1] [--precision fp32]

Tasks are those of the families that were kept unknown; the ranker is learned from the others. Predicted
figures of each model come from other architecture families on the target device and from all measurements on the
other device. The reference in the same run is the static prior (mean standardised accuracy on known tasks) under the
same budgets, and choosing on predictions without the safe side. The last line is JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hardware_choices import held_out_figures, judge_choices, performance_matrix, static_prior
from result import finish, parser_of

from thesis_rec.hardware.contexts import context_tables
from thesis_rec.knowledge.knowledge import fit_knowledge
from thesis_rec.recommendation.bundle import read_bundle, with_listed

BUDGETS = (0.25, 0.5, 0.75, 0.9)
FIGURES = {"measured": "measured", "predicted_point": "predicted", "predicted_safe": "predicted, on the safe side"}


def scores_of(bundle, manifest: pd.DataFrame, datasets: pd.DataFrame, records: pd.DataFrame, sides: dict) -> dict:
    """Truth and scores of both rankers on the tasks of unknown families."""
    models = with_listed(bundle.models, manifest, {})
    unknown = [name for name in bundle.tokens if name in set(sides["dataset_ids"])]
    known = [name for name in bundle.tokens if name not in set(sides["dataset_ids"])]
    truth = performance_matrix(records, unknown, models.model_ids)
    tasks = [bundle.tokens[name] for name in unknown]
    known_models = ~np.isin(models.model_ids, sides["model_ids"])
    cells = performance_matrix(records, known, models.model_ids)
    prior = static_prior(cells, models.families, known_models)
    domains = datasets.set_index("dataset_id")["domain"]
    families = [str(domains.get(name) or name) for name in known]
    # Learned anew: what the bundle knows rests on the unknown tasks too.
    learned = fit_knowledge(
        models, [bundle.tokens[name] for name in known], np.where(known_models, cells, np.nan), families
    )
    return {
        "models": models,
        "truth": truth,
        "recommender": np.stack([learned.posterior(models, task).mean for task in tasks]),
        "static_prior": np.tile(prior, (len(unknown), 1)),
    }


def without_nan(content: Any) -> Any:
    """The same report with null for what is undefined, as JSON has it."""
    if isinstance(content, dict):
        return {key: without_nan(value) for key, value in content.items()}
    return None if isinstance(content, float) and np.isnan(content) else content


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--root", type=Path, default=Path("data/01_raw/starter"))
    parser.add_argument("--own", type=Path, default=Path("data/03_primary/hardware_profiles.parquet"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--precision", default="fp32")
    arguments = parser.parse_args()
    manifest = pd.read_csv(arguments.root / "model_manifest.csv", dtype=str, keep_default_na=False)
    datasets = pd.read_csv(arguments.root / "dataset_manifest.csv", dtype=str, keep_default_na=False)
    profiles = pd.read_parquet(arguments.root / "hardware_profiles.parquet")
    if arguments.own.is_file():
        profiles = pd.concat([profiles, pd.read_parquet(arguments.own)], ignore_index=True)
    records = pd.read_parquet(arguments.root / "performance_records.parquet")
    sides = json.loads((arguments.root / "sides.json").read_text())
    judged = scores_of(read_bundle(arguments.root / "bundle"), manifest, datasets, records, sides)
    models, truth = judged["models"], judged["truth"]
    frame = pd.DataFrame({"model_id": models.model_ids, "family": models.families})
    contexts = context_tables(profiles, arguments.batch_size)
    devices = [device for device, precision in contexts if precision == arguments.precision]
    print(f"{len(models)} models, {len(truth)} unknown tasks, devices: {', '.join(devices)}")
    rows: list[dict[str, Any]] = []
    report: dict = {"batch_size": arguments.batch_size, "precision": arguments.precision, "devices": {}}
    for device in devices:
        measured = contexts[device, arguments.precision]["latency_ms_p50"].reindex(models.model_ids).to_numpy(float)
        predicted = held_out_figures(profiles, frame, device, arguments.precision, arguments.batch_size)
        error = np.abs(np.log(predicted["latency_ms"].to_numpy(float) / measured))
        budgets = np.nanquantile(measured, BUDGETS)
        claims = {
            "measured": measured,
            "predicted_point": predicted["latency_ms"].to_numpy(float),
            "predicted_safe": predicted["latency_ms_safe"].to_numpy(float),
        }
        part = report["devices"][device] = {"median_error_factor": float(np.exp(np.nanmedian(error)))}
        print(f"\n{device}: predicted from other families, median error factor {part['median_error_factor']:.2f}")
        for name, claimed in claims.items():
            for ranker in ("recommender", "static_prior"):
                found = judge_choices(claimed, measured, judged[ranker], truth, budgets)
                part[f"{name}/{ranker}"] = asdict(found)
                rows.append(
                    {
                        "device": device,
                        "figures": FIGURES[name],
                        "ranked by": ranker.replace("_", " "),
                        "budgets broken": found.violations,
                        "broken by the first choice": found.violations_first,
                        "regret@5": found.regret,
                        "regret@1": found.regret_first,
                        "nothing admitted": found.empty,
                    }
                )
        for quantile, budget in zip(BUDGETS, budgets, strict=True):
            told = []
            at = part[f"at_{quantile}"] = {"budget_ms": float(budget)}
            for ranker in ("recommender", "static_prior"):
                one = judge_choices(claims["predicted_safe"], measured, judged[ranker], truth, [float(budget)])
                at[ranker] = asdict(one)
                told.append(f"{ranker} broken {one.violations:.3f}, regret@1 {one.regret_first:.4f}, none {one.empty}")
            print(f"  budget {budget:8.3f} ms ({quantile:.0%}): {'; '.join(told)}")
    finish(
        {
            "benchmark": "hardware",
            "device": ", ".join(devices),
            "reference": "the static prior under the same budgets, and choosing on point predictions",
            **without_nan(report),
        },
        arguments.save,
        "Choosing under a latency budget",
        57,
        f"Budgets are the {', '.join(f'{share:.0%}' for share in BUDGETS)} quantiles of the models' latencies on each "
        f"device; {len(models)} models, {len(truth)} tasks of unknown families. Predicted figures are from other "
        "architecture families on that device and from the other devices; on the safe side means that a model is "
        "admitted only if the upper end of its prediction fits. The last column counts budgets and tasks for which "
        "no model was admitted.",
        rows=rows,
    )


if __name__ == "__main__":
    main()
