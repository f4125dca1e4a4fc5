"""What an evaluation is about: candidates, base tasks, what was measured, and who is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError
from thesis_rec.base.settings import evenly
from thesis_rec.base.tables import Floats, ModelTable, TaskTokens
from thesis_rec.knowledge.knowledge import DEFAULT_NOISE, Knowledge, fit_knowledge
from thesis_rec.knowledge.quadrants import Split

#: Fewer measured models than this have no order worth a figure, nor one to learn from.
LEAST_MODELS = 3


@dataclass(frozen=True)
class Scores:
    """What a method says about M models on N datasets.

    Attributes:
        score: (M, N), NaN where it can't say anything.
        value: (M, N) predicted performance, NaN if it predicts none.
        low: (M, N) lower bound of its 90 % interval, NaN if it has none.
        high: (M, N) upper bound.
        seconds: Cost of ranking all models for one dataset, training not included.
    """

    score: Floats
    value: Floats | float = np.nan
    low: Floats | float = np.nan
    high: Floats | float = np.nan
    seconds: float = float("nan")


@dataclass(frozen=True)
class Study:
    """What an evaluation is about.

    Attributes:
        models: M candidates, known and unknown.
        tasks: N base tasks with tokens, of any role.
        values: (M, N) measured performance, NaN where none was measured.
        split: Who is known.
        families: N dataset families, the clusters of Q3 and Q4.
        groups: N groups (natural, structured, real), reported apart.
        spread: (M, N) standard deviation between repeats, NaN or 0 where unknown; one number for all.
        seed: Seed of everything random.
    """

    models: ModelTable
    tasks: list[TaskTokens]
    values: Floats
    split: Split
    families: list[str]
    groups: list[str]
    spread: Floats | float = np.nan
    seed: int = 0

    @property
    def dataset_ids(self) -> list[str]:
        """N identifiers."""
        return [task.dataset_id for task in self.tasks]

    def columns(self, role: str) -> NDArray[np.intp]:
        """Positions of the datasets of one role."""
        return np.flatnonzero(self.split.roles == role)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(M,) whether a model may be learned from; of unknown ones the weights may be looked at, never a value."""
        return self.split.known

    def training(self) -> Study:
        """What baselines may learn from: all models, the training datasets, NaN where withheld or unknown."""
        columns = self.columns("train")
        tasks, families, groups = ([part[j] for j in columns] for part in (self.tasks, self.families, self.groups))
        values = np.where(self.allowed(), self.values, np.nan)[:, columns]
        split = Split(self.known, self.split.roles[columns], self.split.withheld[:, columns])
        return Study(self.models, tasks, values, split, families, groups, seed=self.seed)

    def lists(self, role: str) -> tuple[list[TaskTokens], Floats]:
        """What the network may learn from: tasks of a role by name, and (n, K) values of the K known models."""
        values = np.where(self.allowed(), self.values, np.nan)[self.known].T
        enough = [j for j in self.columns(role) if np.isfinite(values[j]).sum() >= LEAST_MODELS]
        enough.sort(key=lambda j: self.dataset_ids[j])
        return [self.tasks[j] for j in enough], values[enough]

    def allowed(self) -> NDArray[np.bool_]:
        """(M, N) which cells may be learned from: known models on known datasets, but for the withheld ones.

        Validation datasets are for choices of the networks and baselines; knowledge makes its own by leaving out
        families, and learns from them as well.
        """
        return self.split.allowed() & np.isfinite(self.values)

    def knowledge(self) -> Knowledge:
        """What is learned from the cells that may be learned from."""
        values, spread = (np.where(self.allowed(), held, np.nan) for held in (self.values, self.spread))
        return fit_knowledge(self.models, self.tasks, values.T, self.families, noise=_noise(spread))

    def knowledge_of_all(
        self, tokens: Mapping[str, TaskTokens], cells: pd.DataFrame, domains: Mapping[str, str]
    ) -> Knowledge:
        """What is learned from all cells, also those withheld for figures, and further datasets: for use, not figures.

        Args:
            tokens: Tokens by dataset; those that the study lacks, of its own encoder, are learned from as well.
            cells: ``model_id, dataset_id, value, std`` of these.
            domains: Families of datasets; one that isn't among them is its own.
        """
        encoders, here = {task.encoder_id for task in self.tasks}, set(self.dataset_ids)
        tasks = [task for name, task in tokens.items() if name not in here and {task.encoder_id} == encoders]
        names = [task.dataset_id for task in tasks]
        values, spread = (
            np.hstack([np.broadcast_to(held, self.values.shape), cell_matrix(cells, of, self.models.model_ids, names)])
            for held, of in ((self.values, "value"), (self.spread, "std"))
        )
        noise = _noise(spread[np.isfinite(values)])
        families = self.families + [domains.get(name, "") or name for name in names]
        return fit_knowledge(self.models, self.tasks + tasks, values.T, families, noise=noise)


def _noise(spread: Floats) -> float:
    """Standard deviation of one measurement, of what repeats of some spread; NaN or 0 where there are none."""
    positive = spread[spread > 0]
    return float(np.sqrt(np.square(positive).mean())) if len(positive) else DEFAULT_NOISE


def assemble_study(
    performance: pd.DataFrame,
    splits: pd.DataFrame,
    models: ModelTable,
    tokens: Mapping[str, TaskTokens],
    dataset_info: pd.DataFrame,
    *,
    protocol: str = "linear_probe",
    max_tasks: int | None = None,
    seed: int = 0,
) -> Study:
    """Put the tables together: base tasks with a role and tokens, and what was measured on them.

    Args:
        performance: One value per model, dataset and protocol, with ``std`` between repeats.
        splits: Who is known.
        models: Candidates.
        tokens: Tokens by dataset.
        dataset_info: ``dataset_id, domain, group, parent``.
        protocol: Which measurements count.
        max_tasks: Largest number of datasets, drawn evenly from each role; None for all.
        seed: Seed of everything random.

    Raises:
        ItemError: If no base task to learn from has tokens and measurements.
    """
    listed = splits[splits["kind"] == "dataset"]
    role = dict(zip(listed["id"].astype(str), listed["role"].astype(str), strict=True))
    info = dataset_info.assign(dataset_id=dataset_info["dataset_id"].astype(str)).drop_duplicates("dataset_id")
    parent = info["parent"].fillna("").astype(str).str.strip()
    measured = performance[performance["protocol"] == protocol]
    found = set(measured["dataset_id"].astype(str).unique())
    bases = [d for d in info.loc[parent == "", "dataset_id"] if d in role and d in tokens and d in found]
    # A share of each role, so that no quadrant is left without datasets.
    kept = set(evenly(sorted(bases, key=role.__getitem__), max_tasks))
    bases = [dataset for dataset in bases if dataset in kept]
    if "train" not in {role[dataset] for dataset in bases}:
        raise ItemError(
            "performance",
            f"no dataset to learn from has measurements by {protocol!r}, tokens and the role train.",
            "Run dataset_features and similarity_training with the same manifests first, on more datasets.",
        )

    rows = info.set_index("dataset_id").reindex(bases)[["domain", "group"]].fillna("").astype(str)
    families = [family or dataset for dataset, family in zip(bases, rows["domain"].str.strip(), strict=True)]
    groups = rows["group"].tolist()
    values = cell_matrix(measured, "value", models.model_ids, bases)
    spread = cell_matrix(measured, "std", models.model_ids, bases)
    split = Split.of(splits, models.model_ids, bases)
    return Study(models, [tokens[d] for d in bases], values, split, families, groups, spread, seed)


def cell_matrix(cells: pd.DataFrame, column: str, model_ids: Sequence[str], dataset_ids: Sequence[str]) -> Floats:
    """(M, N) float64 of a column of ``model_id, dataset_id, ...``, NaN where there is no cell."""
    wide = cells.pivot_table(index="model_id", columns="dataset_id", values=column, dropna=False)
    return wide.reindex(index=list(model_ids), columns=list(dataset_ids)).to_numpy(dtype=np.float64, na_value=np.nan)
