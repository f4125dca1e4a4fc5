"""A small fabricated world in which models and datasets have traits that their descriptions reveal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from thesis_rec.base.tables import ModelTable, TaskTokens


def selection(classes: list[tuple[TaskTokens, int]], dataset_id: str) -> TaskTokens:
    """The task of single classes of others: a selection of rows, as many batches as all of them have."""
    tasks = {task.dataset_id: task for task, _ in classes}
    taken = Counter(task.dataset_id for task, _ in classes)
    batches = min(len(task.features) for task in tasks.values())
    return TaskTokens(
        dataset_id,
        np.stack([task.features[:batches, place] for task, place in classes], axis=1),
        [task.class_names[place] for task, place in classes],
        sum(round(task.n_images * taken[name] / len(task.class_names)) for name, task in tasks.items()),
        classes[0][0].encoder_id,
    )


@dataclass(frozen=True)
class World:
    """Everything that a ranker is trained on."""

    models: ModelTable
    tokens: dict[str, TaskTokens]
    records: pd.DataFrame
    model_manifest: pd.DataFrame
    dataset_manifest: pd.DataFrame
    sides: dict[str, list[str]]


def make_world(
    n_families: int = 4,
    per_family: int = 6,
    n_domains: int = 8,
    per_domain: int = 3,
    unknown_domains: int = 1,
    subtasks: int = 20,
    batches: int = 4,
    dim: int = 16,
    traits: int = 4,
    embedding: int = 24,
    seed: int = 0,
    landmarks: bool = False,
) -> World:
    """Models with traits, datasets whose classes ask for traits, and performance where the two meet.

    With ``landmarks`` datasets tell, noisily, what they ask for, and models how they do on reference tasks.
    """
    rng = np.random.default_rng(seed)
    families = [f"family{f}" for f in range(n_families)]
    centres = rng.normal(size=(n_families, traits + 1))
    rows = [(f, m) for f in range(n_families) for m in range(per_family)]
    trait = np.stack([0.6 * centres[f] + 0.8 * rng.normal(size=traits + 1) for f, _ in rows])
    ids = [f"{families[f]}_model{m}" for f, m in rows]
    view, other = rng.normal(size=(2, traits + 1, embedding))
    table = ModelTable(
        ids,
        np.tanh(trait @ view + 0.3 * rng.normal(size=(len(ids), embedding))).astype(np.float32),
        [families[f] for f, _ in rows],
        np.exp(rng.normal(size=len(ids)) + 12).round(),
        (trait @ other + 0.3 * rng.normal(size=(len(ids), embedding))).astype(np.float32),
    )
    reveal = rng.normal(size=(traits, dim))
    wants: dict[str, np.ndarray] = {}
    tokens: dict[str, TaskTokens] = {}
    manifest = []
    class_wants: dict[str, np.ndarray] = {}
    for domain in range(n_domains):
        centre = rng.normal(size=traits)
        for task in range(per_domain):
            name = f"domain{domain}_task{task}"
            classes = int(rng.integers(3, 6))
            demand = centre + 0.5 * rng.normal(size=traits) + 0.6 * rng.normal(size=(classes, traits))
            features = demand @ reveal + 0.5 * rng.normal(size=(batches, classes, dim))
            features /= np.linalg.norm(features, axis=-1, keepdims=True)
            names = [f"class{c}" for c in range(classes)]
            tokens[name] = TaskTokens(name, features.astype(np.float32), names, 100 * classes, "encoder")
            class_wants[name] = demand
            wants[name] = demand.mean(0)
            manifest.append((name, f"domain{domain}", "", ""))
    bases = list(tokens)
    for index in range(subtasks):
        parents = rng.choice(bases, size=int(rng.integers(1, 3)), replace=False).tolist()
        chosen = [(p, c) for p in parents for c in rng.permutation(len(tokens[p].class_names))[:2].tolist()]
        name = f"subtask{index}"
        tokens[name] = selection([(tokens[p], c) for p, c in chosen], name)
        wants[name] = np.mean([class_wants[p][c] for p, c in chosen], 0)
        domain = next(row[1] for row in manifest if row[0] == parents[0])
        manifest.append((name, domain, ";".join(parents), ";".join(f"{p}:{c}" for p, c in chosen)))
    if landmarks:
        # A generator of its own: the rest of the world stays as it is without.
        noise = np.random.default_rng([seed, 1])
        asked = noise.normal(size=(traits, 6))
        for name in bases:
            seen = np.tanh(wants[name] @ asked + 0.1 * noise.normal(size=6))
            tokens[name] = replace(tokens[name], landmarks=seen.astype(np.float32))
        probes = trait @ noise.normal(size=(traits + 1, 8)) + 0.1 * noise.normal(size=(len(ids), 8))
        table = replace(table, reference=probes.astype(np.float32))
    records = []
    for name, want in wants.items():
        logit = 0.7 * trait[:, -1] + trait[:, :-1] @ want / np.sqrt(traits)
        for model, value in zip(ids, 1 / (1 + np.exp(-logit)), strict=True):
            for repeat in range(1 if name.startswith("subtask") else 2):
                noisy = float(np.clip(value + 0.02 * rng.normal(), 0, 1))
                number = -1 if name.startswith("subtask") else repeat
                records.append((model, name, "linear_probe", "accuracy", noisy, number, 16, "fabricated"))
    columns = ["model_id", "dataset_id", "protocol", "metric", "value", "seed", "n_train", "source"]
    return World(
        table,
        tokens,
        pd.DataFrame(records, columns=columns),
        pd.DataFrame({"model_id": ids, "family": table.families}),
        pd.DataFrame(manifest, columns=["dataset_id", "domain", "parent", "class_subset"]),
        {
            "model_families": [families[-1]],
            "model_ids": [],
            "dataset_families": [f"domain{n_domains - 1 - d}" for d in range(unknown_domains)],
            "dataset_ids": [],
        },
    )
