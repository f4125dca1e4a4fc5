"""Which models, datasets and cells are known, and what each is used for.

Four quadrants answer four questions:

* **Q1** known models, known datasets: cells that were never measured;
* **Q2** unknown models, known datasets;
* **Q3** known models, unknown datasets;
* **Q4** unknown models, unknown datasets.

Unknown means that not one of its cells was seen in training. Whole families are unknown, because a sister of a trained
model or a variant of a trained task gives the answer away. Sub-tasks follow their parents: one that mixes parents of
different roles would carry knowledge over the border, so it is used nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from thesis_rec.base.settings import Settings, Words

QUADRANTS = ("Q1", "Q2", "Q3", "Q4")
SPLIT_COLUMNS = ["kind", "id", "id2", "known", "role", "fold", "seed"]


class SplitSettings(Settings):
    """How known things are divided.

    Attributes:
        validation_share: Share of the known base tasks (as whole families) on which choices are made.
        test_cells: Share of the cells of known models and training tasks that Q1 is measured on.
        validation_cells: The same for choices; also never trained on.
        unknown_share: Share of models and of base tasks kept as unknown when none is named.
        unknown_groups: Groups of datasets (``structured``, ``natural``, ``real``) all of which are unknown, beside
            those that are named: what a ranker does with another kind of images than it learned from.
    """

    validation_share: float = Field(default=0.15, ge=0, lt=1)
    test_cells: float = Field(default=0.1, ge=0, lt=1)
    validation_cells: float = Field(default=0.03, ge=0, lt=1)
    unknown_share: float = Field(default=0.2, ge=0, lt=1)
    unknown_groups: Words[str] = ()


def parents_of(dataset_info: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """The base tasks of each dataset: its parents, or itself where it has none."""
    parents: dict[str, tuple[str, ...]] = {}
    for dataset, parent in zip(dataset_info["dataset_id"], dataset_info["parent"], strict=True):
        named = () if pd.isna(parent) else str(parent).split(";")
        bases = tuple(dict.fromkeys(name.strip() for name in named if name.strip()))
        parents[str(dataset)] = bases or (str(dataset),)
    return parents


def assign_splits(
    performance: pd.DataFrame,
    model_families: Mapping[str, str],
    dataset_info: pd.DataFrame,
    sides: Mapping[str, Iterable[str]] | None = None,
    settings: SplitSettings | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Divide everything that was measured into known and unknown, training, validation and test.

    Args:
        performance: Measured cells, columns ``model_id`` and ``dataset_id``.
        model_families: Architecture family of each model; one without is its own family.
        dataset_info: ``dataset_id``, ``domain`` (the task family; empty: its own family) and ``parent`` (base tasks
            joined by ``;``, empty for a base task) of each dataset; ``group`` where groups are unknown.
        sides: What is kept as unknown: any of ``dataset_families``, ``dataset_ids``, ``model_families``,
            ``model_ids``. Without any name on one side, whole families of that side are drawn by seed.
        settings: Shares.
        seed: Seed of all draws.

    Returns:
        ``kind`` (model, dataset, cell), ``id``, ``id2`` (the dataset of a cell, else empty), ``known``, ``role``
        (train, validation, test), ``fold``, ``seed``. Cells are listed only where they are withheld although their
        model and dataset are known. Datasets that mix roles are not listed.
    """
    chosen = settings or SplitSettings()
    rng = np.random.default_rng([seed, 0])
    named = {key: {str(item) for item in (sides or {}).get(key, ())} for key in _SIDES}
    if chosen.unknown_groups:
        other = dataset_info["group"].astype(str).isin(chosen.unknown_groups)
        named["dataset_ids"] |= set(dataset_info.loc[other, "dataset_id"].astype(str))
    models = sorted(performance["model_id"].astype(str).unique())
    measured = set(performance["dataset_id"].astype(str).unique())
    info = dataset_info[dataset_info["dataset_id"].astype(str).isin(measured)]
    parents = parents_of(info)
    # A parent may itself not have been measured; it still decides where its sub-tasks belong.
    bases = sorted({base for group in parents.values() for base in group})
    domains = dataset_info["domain"].fillna("").astype(str).str.strip()
    domain_of = dict(zip(dataset_info["dataset_id"].astype(str), domains, strict=True))
    dataset_family = {base: domain_of.get(base) or base for base in bases}
    model_family = {model: model_families.get(model, "").strip() or model for model in models}

    unknown_models = _unknown(model_family, named["model_families"], named["model_ids"], chosen.unknown_share, rng)
    unknown_bases = _unknown(dataset_family, named["dataset_families"], named["dataset_ids"], chosen.unknown_share, rng)
    known_bases = {base: family for base, family in dataset_family.items() if base not in unknown_bases}
    validation = _draw_families(known_bases, chosen.validation_share, rng)
    base_role = dict.fromkeys(bases, "train")
    base_role |= dict.fromkeys(validation, "validation") | dict.fromkeys(unknown_bases, "test")

    rows = [("model", model, "", "test" if model in unknown_models else "train") for model in models]
    role: dict[str, str] = {}
    for dataset in sorted(parents):
        roles = {base_role[base] for base in parents[dataset]}
        if dataset in named["dataset_ids"]:
            roles = {"test"}
        if len(roles) == 1:
            role[dataset] = roles.pop()
            rows.append(("dataset", dataset, "", role[dataset]))

    known_models = [model for model in models if model not in unknown_models]
    training_bases = [base for base in bases if base_role[base] == "train"]
    withheld = _withhold(known_models, training_bases, chosen, rng)
    ids = (performance[column].astype(str) for column in ("model_id", "dataset_id"))
    for model, dataset in sorted(set(zip(*ids, strict=True))):
        # A sub-task of a withheld cell is withheld as well; test wins where its parents differ.
        cells = {withheld.get((model, base)) for base in parents[dataset]} if role.get(dataset) == "train" else set()
        if cells - {None}:
            rows.append(("cell", model, dataset, "test" if "test" in cells else "validation"))
    table = pd.DataFrame(rows, columns=["kind", "id", "id2", "role"], dtype="string")
    known = (table["role"] != "test") | (table["kind"] == "cell")
    return table.assign(known=known.astype(bool), fold=0, seed=seed)[SPLIT_COLUMNS]


@dataclass(frozen=True)
class Split:
    """Who of M models and N datasets is known, and what is withheld of those that are.

    Attributes:
        known: (M,) which models may be trained on; one that isn't listed was never seen either.
        roles: (N,) train, validation (both known), test (unknown), or nothing where a dataset isn't listed.
        withheld: (M, N) role of each withheld cell, nothing for the others.
    """

    known: NDArray[np.bool_]
    roles: NDArray[np.str_]
    withheld: NDArray[np.str_]

    @staticmethod
    def of(splits: pd.DataFrame, model_ids: Sequence[str], dataset_ids: Sequence[str]) -> Split:
        """Read the table that :func:`assign_splits` made, for some models and datasets."""
        models, datasets, cells = (splits[splits["kind"] == kind] for kind in ("model", "dataset", "cell"))
        ids, names = list(model_ids), list(dataset_ids)
        wide = cells.pivot_table(index="id", columns="id2", values="role", aggfunc="first")
        return Split(
            models.set_index("id")["known"].reindex(ids, fill_value=False).to_numpy(dtype=bool),
            datasets.set_index("id")["role"].reindex(names, fill_value="").to_numpy(dtype=str),
            wide.reindex(index=ids, columns=names).astype(object).fillna("").to_numpy(dtype=str),
        )

    def allowed(self) -> NDArray[np.bool_]:
        """(M, N) which cells may be learned from: those of known models on known datasets that aren't withheld."""
        return self.known[:, None] & np.isin(self.roles, ("train", "validation")) & (self.withheld == "")

    def quadrants(self) -> dict[str, NDArray[np.bool_]]:
        """Which of the (M, N) cells each quadrant is measured on."""
        known, train, test = self.known[:, None], self.roles == "train", self.roles == "test"
        return {"Q1": self.withheld == "test", "Q2": ~known & train, "Q3": known & test, "Q4": ~known & test}


_SIDES = ("dataset_families", "dataset_ids", "model_families", "model_ids")


def _unknown(
    family: Mapping[str, str], families: set[str], ids: set[str], share: float, rng: np.random.Generator
) -> set[str]:
    if families or ids:
        return {item for item, name in family.items() if name in families or item in ids}
    return _draw_families(family, share, rng)


def _draw_families(family: Mapping[str, str], share: float, rng: np.random.Generator) -> set[str]:
    """Whole families until ``share`` of the items is reached; single items where there are fewer than four families.

    The last family drawn may overshoot; one that would take more than half of everything is passed over.
    """
    if share <= 0 or len(family) < 2:
        return set()
    group = family if len({*family.values()}) >= 4 else {item: item for item in family}
    wanted, most = max(1, round(share * len(family))), max(1, len(family) // 2)
    drawn: set[str] = set()
    for name in rng.permutation(sorted({*group.values()})):
        members = {item for item in family if group[item] == name}
        if len(drawn) < wanted and len(drawn) + len(members) <= most:
            drawn |= members
    return drawn


def _withhold(
    models: Sequence[str], bases: Sequence[str], settings: SplitSettings, rng: np.random.Generator
) -> dict[tuple[str, str], str]:
    """Cells of known models and training tasks that are not trained on, the same share of every task."""
    withheld: dict[tuple[str, str], str] = {}
    # Fewer than three cells have no order worth a figure; a quarter of a small zoo is the most that is given up.
    n_test, n_validation = (
        min(max(3, round(share * len(models))), len(models) // 4) if share > 0 else 0
        for share in (settings.test_cells, settings.validation_cells)
    )
    for base in bases:
        order = rng.permutation(models).tolist()
        withheld |= {(model, base): "test" for model in order[:n_test]}
        withheld |= {(model, base): "validation" for model in order[n_test : n_test + n_validation]}
    return withheld
