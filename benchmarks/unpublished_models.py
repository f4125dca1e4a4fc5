"""How real models are ordered of which no source knows more than an ImageNet accuracy: those that TransferGraph tuned.

    THESIS_REC_BENCHMARKS=<folder of tables> python benchmarks/unpublished_models.py

TransferGraph's accuracies have no licence and are no source: nothing was learned from them. `thesis_rec.recommend`
orders the hub's models without a try, and those that TransferGraph tuned are held against what they reached on each
dataset.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from result import PROJECT, finish, parser_of

from thesis_rec import recommend
from thesis_rec.evaluation.figures import cluster_bootstrap
from thesis_rec.evaluation.metrics import metric_table

#: Of TransferGraph's accuracies here most are those of failed runs.
FAILED = ("food101",)
#: A family that its recipe hardly trains: all its accuracies lie far below those of other families of the same size.
UNTRAINED = "beit"


def main() -> None:
    """Order, hold against the accuracies, print and on request save."""
    parser = parser_of(__doc__)
    arguments = parser.parse_args()
    folder = Path(os.environ["THESIS_REC_BENCHMARKS"]) / "transfergraph"
    cells = pd.read_csv(folder / "finetune_accuracy.csv")
    truth = cells[~cells["dataset_id"].isin(FAILED)].pivot_table("value", "model_id", "dataset_id")
    manifest = pd.read_csv(PROJECT / "data/01_raw/hub/model_manifest.csv").set_index("model_id")
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary) / "images.npz"
        # Untried, the order is the same for any images.
        noise = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
        np.savez(images, images=noise, labels=np.arange(40) % 10)
        found = recommend(images, protocol="fine_tune").table.set_index("model_id")
    scores = pd.DataFrame(
        {"recommender": found["score"], "parameter count": manifest["parameters"].reindex(found.index)}
    )
    scores = scores[scores.index.isin(truth.index)].dropna()
    rows = []
    for models, chosen in (
        ("all", scores),
        (f"without {UNTRAINED}", scores[manifest["family"][scores.index] != UNTRAINED]),
    ):
        reached = truth.loc[chosen.index]
        figures = {
            name: pd.DataFrame([metric_table(reached[dataset], chosen[name]) for dataset in reached]) for name in chosen
        }
        for name, table in figures.items():
            difference = cluster_bootstrap(table["weighted_tau"] - figures["parameter count"]["weighted_tau"])
            rows.append(
                {
                    "models": f"{len(chosen)}, {models}",
                    "ordered by": name,
                    "weighted tau": float(table["weighted_tau"].mean()),
                    "against parameter count": "{mean:+.3f} [{low:.3f}, {high:.3f}]".format(**difference),
                    "regret@1": float(table["regret@1"].mean()),
                }
            )
    text = (
        f"Models of Hugging Face users, many of them tuned on small sets, on the {truth.shape[1]} datasets of "
        "TransferGraph where most runs succeeded; intervals over datasets. The recommender knows their architecture, "
        "corpus and size, and of a third of them an ImageNet accuracy. TransferGraph's recipe leaves "
        f"{UNTRAINED} far below other families of the same size, which nothing but a try could tell."
    )
    finish({"benchmark": "unpublished_models", "device": "any", "rows": rows}, arguments.save,
           "Real models of which nothing was published", 36, text, rows)  # fmt: skip


if __name__ == "__main__":
    main()
