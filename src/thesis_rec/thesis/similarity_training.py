"""Training the rankers: from measured cells to a recommender, chosen and calibrated on validation tasks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from thesis_rec.base.errors import NothingSucceeded
from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.knowledge.quadrants import Split, parents_of, training_mask
from thesis_rec.knowledge.static_prior import standardise
from thesis_rec.thesis.features import FeatureSettings
from thesis_rec.thesis.losses import weighted_tau
from thesis_rec.thesis.ranker_module import RankerModule
from thesis_rec.thesis.rankers import build_ranker
from thesis_rec.thesis.recommender import Recommender, calibration_factor
from thesis_rec.thesis.training_set import Inputs, TaskSet, fit_prior, training_table, validation_table
from thesis_rec.training.callbacks import History
from thesis_rec.training.fit import fit
from thesis_rec.training.settings import FitSettings, RankerTraining

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RankerPlan:
    """One network to train.

    Attributes:
        network: Constructor arguments, without the input widths.
        training: Terms of the loss, sizes of a step.
        fit: Optimiser and schedule.
        members: Number of networks with different seeds.
    """

    network: Mapping[str, Any]
    training: RankerTraining
    fit: FitSettings
    members: int = 1


@dataclass(frozen=True)
class Material:
    """What rankers are trained and chosen on.

    Attributes:
        known: The known models, the columns of all tables.
        training: Training tasks; withheld cells are NaN.
        validation: Base tasks of the validation families; may be empty.
        models: All models that were measured anywhere.
        everything: All tasks with all cells of ``models``, what is withheld for figures included: for the prior of a
            ranker that is put to use.
    """

    known: ModelTable
    training: TaskSet
    validation: TaskSet
    models: ModelTable
    everything: TaskSet


def assemble(
    models: ModelTable,
    tokens: Mapping[str, TaskTokens],
    performance: pd.DataFrame,
    splits: pd.DataFrame,
    dataset_manifest: pd.DataFrame,
    *,
    protocol: str = "linear_probe",
    max_tasks: int | None = None,
    seed: int = 0,
) -> Material:
    """Everything that may be trained on, and the validation tasks.

    Args:
        models: All models with an embedding.
        tokens: Tokens of datasets and sub-tasks.
        performance: One value per model, dataset and protocol.
        splits: Table of :func:`thesis_rec.knowledge.quadrants.assign_splits`.
        dataset_manifest: ``dataset_id`` and ``parent`` of each dataset.
        protocol: The protocol that is predicted.
        max_tasks: Most training tasks: base tasks first, then sub-tasks by seed.
        seed: Seed of that choice.

    Raises:
        NothingSucceeded: If nothing is left to train on.
    """
    split = Split.of(splits)
    known_rows = np.flatnonzero(split.known_models(models.model_ids))
    known = models.select(known_rows)
    table = performance[performance["protocol"] == protocol]
    cells = table.pivot_table(index="dataset_id", columns="model_id", values="value", aggfunc="mean")
    measured_models = set(cells.columns)
    every = models.select([i for i, model in enumerate(models.model_ids) if model in measured_models])
    whole = cells.reindex(columns=every.model_ids)
    cells = cells.reindex(columns=known.model_ids)
    parents = parents_of(dataset_manifest)
    domain = dataset_manifest.get("domain", pd.Series("", index=dataset_manifest.index)).fillna("").astype(str)
    domains = dict(zip(dataset_manifest["dataset_id"].astype(str), domain, strict=True))
    measured = [str(dataset) for dataset in cells.index]
    without = [dataset for dataset in measured if dataset not in tokens and split.datasets.get(dataset) != "test"]
    if without:
        logger.info("%d measured datasets have no tokens and aren't used, e.g. %s", len(without), without[0])

    def tasks(ids: list[str], cells: pd.DataFrame = cells) -> TaskSet:
        value = cells.reindex(ids).to_numpy(dtype=np.float64)
        groups = [parents.get(i, (i,)) for i in ids]
        families = [domains.get(i) or i for i in ids]
        return TaskSet([tokens[i] for i in ids], groups, value.reshape(len(ids), cells.shape[1]), families)

    usable = [dataset for dataset in measured if dataset in tokens]
    training_ids = split.with_role(usable, "train")
    training = tasks(training_ids)
    allowed = training_mask(split, known.model_ids, training_ids).T
    training = replace(training, value=np.where(allowed, training.value, np.nan)).usable().capped(max_tasks, seed)
    validation = tasks(split.with_role(usable, "validation"))
    validation = validation.select(np.flatnonzero(validation.is_base)).usable()
    if not training.tasks:
        raise NothingSucceeded(
            f"there is no dataset to train the rankers on: {len(known)} known models with an embedding, "
            f"{len(measured)} datasets measured by {protocol}, {len(usable)} of them with tokens. Run "
            "model_extraction, autoencoder and dataset_features on the models and datasets of the performance records."
        )
    return Material(known, training, validation, every, tasks(usable, whole).usable())


def train_recommender(
    material: Material,
    features: FeatureSettings,
    plans: Mapping[str, RankerPlan],
    folder: Path,
    *,
    seed: int = 0,
) -> tuple[Recommender, dict[str, dict[str, History]], pd.DataFrame]:
    """Train every planned network and choose between them on the validation tasks.

    Args:
        material: What to train on.
        features: What rankers read.
        plans: Networks by name.
        folder: Where runs keep their files, one folder per network and seed.
        seed: First seed; members count on from it.

    Returns:
        The recommender; the history of every run by network and seed; and the table of the choice: ``network``,
        ``tau_known``, ``tau_hidden``, ``selected``.
    """
    inputs = Inputs.fit(material.known, material.training, features)
    train = training_table(inputs, material.known, material.training)
    validation = validation_table(inputs, material.known, material.validation) if material.validation.tasks else None
    models = torch.from_numpy(inputs.models(material.known))
    networks: dict[str, list[torch.nn.Module]] = {}
    configs: dict[str, dict[str, Any]] = {}
    histories: dict[str, dict[str, History]] = {}
    for name, plan in plans.items():
        configs[name] = {"model_dim": models.shape[1], "token_dim": inputs.tokens.width, **plan.network}
        for member in range(plan.members):
            member_seed = seed + member
            with torch.random.fork_rng():
                torch.manual_seed(member_seed)
                network = build_ranker(name, **configs[name])
            module = RankerModule(network, plan.fit, plan.training, models, inputs.models.n_private)
            result = fit(
                module,
                train,
                validation,
                folder / f"{name}-seed{member_seed}",
                seed=member_seed,
                description=f"{name} seed {member_seed}",
                per_epoch=plan.training.tasks_per_epoch,
            )
            networks.setdefault(name, []).append(network.eval())
            histories.setdefault(name, {})[str(member_seed)] = result.history
    everything = material.everything
    final, _, _ = fit_prior(
        material.models, everything, standardise(everything.value, everything.measured), landmarks=features.landmarks
    )
    recommender = Recommender(inputs, networks, selected=next(iter(networks)), configs=configs, final=final)
    chosen, choice = _choose(recommender, material)
    return chosen, histories, choice


def _choose(recommender: Recommender, material: Material) -> tuple[Recommender, pd.DataFrame]:
    """The recommender with its choice and its calibration, both made on the validation tasks.

    Where standard deviations are the prior's errors on training families that were left out, they are calibrated
    already, on more datasets than there are for validation: these count in proportion of their number.
    """
    tasks = material.validation if material.validation.tasks else material.training
    trust = 1.0
    if recommender.inputs.prior.levels is not None:
        trust = len(tasks.tasks) / (len(tasks.tasks) + int(material.training.is_base.sum()))
    rows = []
    calibration: dict[str, dict[str, float]] = {}
    for name in recommender.names:
        row: dict[str, Any] = {"network": name}
        for side, hidden in (("known", False), ("hidden", True)):
            found = recommender.predict_many(material.known, tasks.tasks, name, hidden=hidden)
            score, value, std = (np.stack([getattr(p, part) for p in found]) for part in ("score", "value", "std"))
            row[f"tau_{side}"] = _mean_tau(score, tasks.value)
            side_name = "unknown" if hidden else "known"
            calibration.setdefault(name, {})[side_name] = calibration_factor(value, std, tasks.value) ** trust
        rows.append(row)
    table = pd.DataFrame(rows)
    # What is asked of a recommender is mostly a known model; a hidden one counts half as much.
    table["selected"] = False
    table.loc[(table["tau_known"] + 0.5 * table["tau_hidden"]).idxmax(), "selected"] = True
    selected = str(table.loc[table["selected"], "network"].iloc[0])
    logger.info("selected on %d validation tasks: %s", len(tasks.tasks), selected)
    return replace(recommender, selected=selected, calibration=calibration), table


def _mean_tau(score: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    mask = np.isfinite(truth)
    tau = weighted_tau(*(torch.from_numpy(x) for x in (score, np.where(mask, truth, 0.0), mask)))
    return float(tau.nanmean())
