"""Which model for these images on this hardware: the recommendation as a pure function over a bundle of artefacts.

:func:`recommend_for` answers for tokens that are given; :func:`answer` reads images first. Node, command line and
notebooks all call these. The module itself can be called, so that a notebook says::

    import thesis_rec

    thesis_rec.recommend("my_images/", max_latency_ms=5)
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.bundle import Bundle
from thesis_rec.errors import ConfigurationError
from thesis_rec.hardware.budget import Budget, Relaxation, closest_relaxations, feasible
from thesis_rec.hardware.pareto import pareto_front
from thesis_rec.hardware.prediction import figures
from thesis_rec.ranking.data import ModelTable, Prediction, TaskTokens

if TYPE_CHECKING:
    from thesis_rec.ranking.active import ProbeBudget
    from thesis_rec.request import ProbeStep

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Predict = Callable[[ModelTable, TaskTokens], Prediction]
Measure = Callable[[str], "pd.DataFrame | None"]

#: Columns of the answer, in order.
COLUMNS = [
    "rank", "model_id", "score", "predicted_value", "predicted_std", "value_low", "value_high", "latency_ms",
    "latency_ms_safe", "throughput", "memory_mb", "memory_mb_safe", "n_parameters", "macs", "basis", "licence",
    "family", "pretraining", "on_pareto_front", "reason", "probed_value",
]  # fmt: skip


@dataclass(frozen=True)
class Options:
    """How an answer is made.

    Attributes:
        top: Number of models that the user wants to see; all feasible ones are ranked.
        level: Probability of the interval of the predicted value.
        neighbours: Known datasets that are named as reasons.
        batches: Batches of one image per class that the dataset is described by.
        seed: Seed of the choice of images.
        measure_seconds: Longest time spent on measuring candidates on the present device.
    """

    top: int = 10
    level: float = 0.9
    neighbours: int = 3
    batches: int = 8
    seed: int = 0
    measure_seconds: float = 20.0


@dataclass(frozen=True)
class Recommendation:
    """The answer to one request.

    Attributes:
        dataset_id: What was asked about.
        table: Feasible models, best first, with the columns ``COLUMNS``.
        excluded: ``model_id`` and ``limits``, the names of the limits that exclude it.
        relaxations: What to relax; empty unless nothing fits.
        nearest: ``dataset_id, similarity, domain, group`` of the nearest known datasets.
        places: ``dataset_id, x, y, domain, kind``: the dataset on a map of the known ones.
        device: Identifier of the device that the figures are for.
        budget: The limits.
        options: How the answer was made.
        dataset: Number of classes and images, and other facts to show.
        sources: Where each artefact is from.
        notes: Sentences that the user should read.
        sample: (K, H, W, 3) uint8 images to show, and their class names.
    """

    dataset_id: str
    table: pd.DataFrame
    excluded: pd.DataFrame
    relaxations: list[Relaxation]
    nearest: pd.DataFrame
    places: pd.DataFrame
    device: str
    budget: Budget
    options: Options
    dataset: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sample: tuple[tuple[NDArray[np.uint8], str], ...] = ()

    @property
    def top(self) -> pd.DataFrame:
        """The first models of the table."""
        return self.table.head(self.options.top)

    def to_dict(self) -> dict[str, Any]:
        """All but the map and the images as JSON's own types; unknown numbers are None."""
        return {
            "dataset": {"dataset_id": self.dataset_id, **self.dataset},
            "device": self.device,
            "budget": _plain(self.budget.limits | {"batch_size": self.budget.batch_size})
            | {"precision": self.budget.precision},
            "models": _records(self.top),
            "feasible": len(self.table),
            "excluded": _records(self.excluded),
            "relaxations": [_plain(asdict(relaxation)) | {"text": str(relaxation)} for relaxation in self.relaxations],
            "nearest_datasets": _records(self.nearest),
            "sources": dict(self.sources),
            "notes": list(self.notes),
        }


def recommend_for(
    bundle: Bundle,
    tokens: TaskTokens,
    budget: Budget | None = None,
    options: Options | None = None,
    *,
    predict: Predict | None = None,
    measure: Measure | None = None,
    here: str = "",
) -> Recommendation:
    """Rank the models that fit a budget by their predicted performance on a dataset.

    Args:
        bundle: What is known.
        tokens: The dataset, (B, C, D).
        budget: Limits; none by default.
        options: How the answer is made.
        predict: Ranks models for tokens; the bundle's ranker by default.
        measure: Measures a model on the present device and gives its profile rows, None if it can't. Used for the best
            candidates when a limit needs a clock and the device is the present one.
        here: Identifier of the present device.

    Returns:
        The answer; its table is empty when nothing fits.

    Raises:
        ConfigurationError: If the dataset was encoded by another encoder than the known ones, the device is unknown,
            or the bundle has no models.
    """
    budget, options = budget or Budget(), options or Options()
    if not len(bundle.models):
        raise ConfigurationError("No model has an embedding. Run `kedro run --pipeline=model_extraction` first.")
    if bundle.encoder_id and tokens.encoder_id and tokens.encoder_id != bundle.encoder_id:
        raise ConfigurationError(
            f"The images were encoded by {tokens.encoder_id}, the known datasets by {bundle.encoder_id}. "
            "Run `kedro run --pipeline=dataset_features` and similarity_training with the present encoder."
        )
    device = resolve_device(budget.device, bundle.profiles, here)
    prediction = (predict or ranker_of(bundle))(bundle.models, tokens)
    table = _candidates(bundle, prediction, options)
    nearest = nearest_datasets(tokens, bundle.tokens, bundle.datasets)
    profiles = bundle.profiles
    notes: list[str] = []
    if measure is not None and budget.needs_clock and device == here:
        profiles, notes = _measured(table, profiles, device, budget=budget, options=options, measure=measure)
    table = table.merge(_figures(table, profiles, device, budget), on="model_id", how="left")
    keeps, limits = feasible(table, budget)
    relaxations = [] if keeps.any() else closest_relaxations(table, budget)
    excluded = pd.DataFrame({"model_id": table["model_id"][~keeps], "limits": limits[~keeps]}).reset_index(drop=True)
    chosen = table[keeps].reset_index(drop=True)
    chosen["rank"] = np.arange(1, len(chosen) + 1)
    chosen["on_pareto_front"] = pareto_front(chosen["latency_ms"], chosen["predicted_value"])
    chosen["reason"] = reasons(chosen["model_id"].tolist(), nearest.head(options.neighbours), bundle)
    chosen["probed_value"] = np.nan
    return Recommendation(
        dataset_id=tokens.dataset_id,
        table=chosen.reindex(columns=COLUMNS),
        excluded=excluded,
        relaxations=relaxations,
        nearest=nearest.head(options.neighbours).reset_index(drop=True),
        places=dataset_map(tokens, bundle.tokens, bundle.datasets),
        device=device,
        budget=budget,
        options=options,
        dataset={"classes": len(tokens.class_names), "images": tokens.n_images, "class_names": tokens.class_names},
        sources=dict(bundle.sources),
        notes=tuple(notes),
    )


def confirmed(found: Recommendation, measure: Measure) -> Recommendation:
    """The answer with the first models measured here; those that break a limit are out.

    Args:
        found: An answer for the present device.
        measure: Measures a model, None if it can't.
    """
    started, kept, out = time.monotonic(), 0, []
    table = found.table.copy()
    for index in list(table.index):
        if kept >= found.options.top or time.monotonic() - started > found.options.measure_seconds:
            break
        if table.loc[index, "basis"] == "measured":
            kept += 1
            continue
        rows = measure(str(table.loc[index, "model_id"]))
        if rows is None:
            kept += 1
            continue
        fresh = _figures(table.loc[[index]], rows, found.device, found.budget).iloc[0]
        for name in fresh.index.intersection(table.columns).drop("model_id"):
            table.loc[index, name] = fresh[name]
        keeps, limits = feasible(table.loc[[index]], found.budget)
        if keeps[0]:
            kept += 1
        else:
            out.append({"model_id": table.loc[index, "model_id"], "limits": limits.iloc[0]})
            table = table.drop(index=index)
    table = table.reset_index(drop=True)
    table["rank"] = np.arange(1, len(table) + 1)
    table["on_pareto_front"] = pareto_front(table["latency_ms"], table["predicted_value"])
    excluded = pd.concat([found.excluded, pd.DataFrame(out, columns=["model_id", "limits"])], ignore_index=True)
    return replace(found, table=table, excluded=excluded)


def ranker_of(bundle: Bundle) -> Predict:
    """The bundle's trained ranker as a function."""
    from thesis_rec.ranking.recommender import Recommender

    return Recommender.from_checkpoint(bundle.ranker).predict


def resolve_device(name: str, profiles: pd.DataFrame, here: str = "") -> str:
    """The identifier of a device from a part of it.

    Args:
        name: ``here``, an identifier, or a part of exactly one in ``profiles``, such as ``h200``.
        profiles: ``hardware_profiles``.
        here: Identifier of the present device.

    Raises:
        ConfigurationError: If it fits no device or several.
    """
    known = sorted(set(profiles["device"].astype(str))) if len(profiles) else []
    if name in ("here", here) and here:
        return here
    if name in known:
        return name
    fitting = [device for device in known if name.lower() in device.lower()]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(["here", *(fitting or known)])
    problem = "fits several devices" if fitting else "is no device that was measured"
    raise ConfigurationError(f"The device {name!r} {problem}. Choose one of: {listed}.")


def nearest_datasets(
    tokens: TaskTokens, known: Mapping[str, TaskTokens], datasets: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Known datasets by falling similarity of their classes.

    Each class is the mean of its tokens, centred on the mean of all known classes (features of one encoder share a
    large common part). Two datasets are as similar as their classes' best matches: the mean over the classes of one of
    the largest cosine with a class of the other, and the same the other way round, averaged.

    Args:
        tokens: The dataset.
        known: Known datasets.
        datasets: The dataset manifest, for ``domain`` and ``group``.

    Returns:
        ``dataset_id, similarity`` (-1..1), ``domain, group``.
    """
    names = list(known)
    if not names:
        return pd.DataFrame(columns=["dataset_id", "similarity", "domain", "group"])
    means = [_class_means(known[name]) for name in names]
    centre = np.concatenate(means).mean(axis=0)
    own = _unit(_class_means(tokens) - centre)
    stacked = _unit(np.concatenate(means) - centre)
    cosine = own @ stacked.T  # (C, all known classes)
    starts = np.cumsum([0, *(len(part) for part in means[:-1])])
    forward = np.maximum.reduceat(cosine, starts, axis=1).mean(axis=0)
    backward = np.add.reduceat(cosine.max(axis=0), starts) / [len(part) for part in means]
    found = pd.DataFrame({"dataset_id": names, "similarity": (forward + backward) / 2})
    about = _about(datasets).reindex(names)
    found["domain"], found["group"] = about["domain"].to_numpy(), about["group"].to_numpy()
    return found.sort_values("similarity", ascending=False, kind="stable").reset_index(drop=True)


def dataset_map(
    tokens: TaskTokens, known: Mapping[str, TaskTokens], datasets: pd.DataFrame | None = None
) -> pd.DataFrame:
    """All datasets in two dimensions: the first principal components of their mean tokens.

    Returns:
        ``dataset_id, x, y, domain, kind`` with ``kind`` ``known`` or ``new``; the new one comes last.
    """
    items = list(known.values())
    points = np.stack([_class_means(item).mean(axis=0) for item in [*items, tokens]])
    reference = points[:-1] if len(items) > 2 else points
    centred = reference - reference.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    # The sign of a component is arbitrary: the largest coordinate is made positive, so that maps agree.
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    placed = (points - reference.mean(axis=0)) @ axes.T
    placed = np.pad(placed, ((0, 0), (0, 2 - placed.shape[1])))
    domains = _about(datasets)["domain"].reindex([item.dataset_id for item in items]).fillna("").tolist()
    return pd.DataFrame(
        {
            "dataset_id": [item.dataset_id for item in [*items, tokens]],
            "x": placed[:, 0],
            "y": placed[:, 1],
            "domain": [*domains, ""],
            "kind": ["known"] * len(items) + ["new"],
        }
    )


def reasons(model_ids: Sequence[str], nearest: pd.DataFrame, bundle: Bundle) -> list[str]:
    """What is known of each model on the nearest datasets, or of the model most like it."""
    near = bundle.performance[bundle.performance["dataset_id"].isin(nearest["dataset_id"])]
    if near.empty:
        return ["nothing is measured near this dataset: the ranker's prediction alone"] * len(model_ids)
    places = near.groupby("dataset_id")["value"].rank(ascending=False, method="min").astype(int)
    counts = near.groupby("dataset_id")["value"].transform("count")
    similarity = dict(zip(nearest["dataset_id"], nearest["similarity"], strict=True))
    told: dict[str, dict[str, str]] = {}
    columns = near["model_id"], near["dataset_id"], near["value"], places, counts
    for model_id, dataset_id, value, place, count in zip(*columns, strict=True):
        text = f"{value:.2f} on {dataset_id} (similarity {similarity[dataset_id]:.2f}), place {place} of {count}"
        told.setdefault(str(model_id), {})[str(dataset_id)] = text
    row_of = {model: i for i, model in enumerate(bundle.models.model_ids)}
    unit = _unit((bundle.models.embedding - bundle.models.embedding.mean(axis=0)).astype(np.float64))
    measured = [model for model in told if model in row_of]
    found = []
    for model_id in model_ids:
        # Nearest dataset first.
        known = [told[model_id][name] for name in similarity if name in told.get(model_id, {})]
        if known:
            found.append("measured " + "; ".join(known))
        elif not measured or model_id not in row_of:
            found.append("not measured near this dataset: the ranker's prediction alone")
        else:
            cosine = unit[[row_of[model] for model in measured]] @ unit[row_of[model_id]]
            like = measured[int(cosine.argmax())]
            text = next(told[like][name] for name in similarity if name in told[like])
            found.append(f"never measured near this dataset; the measured model most like it, {like}, has {text}")
    return found


def interval_factor(level: float) -> float:
    """How many standard deviations enclose a normal variable with probability ``level``."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + level / 2)


def _candidates(bundle: Bundle, prediction: Prediction, options: Options) -> pd.DataFrame:
    """All models by falling score, with the interval of their predicted value and the manifest's facts."""
    value = np.clip(np.asarray(prediction.value, dtype=float), 0.0, 1.0)
    std = np.asarray(prediction.std, dtype=float)
    reach = interval_factor(options.level) * std
    table = pd.DataFrame(
        {
            "model_id": prediction.model_ids,
            "score": np.asarray(prediction.score, dtype=float),
            "predicted_value": value,
            "predicted_std": std,
            "value_low": np.clip(value - reach, 0.0, 1.0),
            "value_high": np.clip(value + reach, 0.0, 1.0),
            "n_parameters": np.asarray(bundle.models.n_parameters, dtype=float),
        }
    )
    facts = bundle.manifest.drop_duplicates("model_id").set_index("model_id").reindex(table["model_id"])
    for name, missing in (("licence", "unknown"), ("family", "unknown"), ("pretraining", "unknown")):
        table[name] = facts[name].fillna(missing).replace("", missing).to_numpy() if name in facts else missing
    return table.sort_values(["score", "model_id"], ascending=[False, True], kind="stable").reset_index(drop=True)


def _figures(table: pd.DataFrame, profiles: pd.DataFrame, device: str, budget: Budget) -> pd.DataFrame:
    models = table[["model_id", "family", "n_parameters"]].copy()
    models["n_parameters"] = models["n_parameters"].where(models["n_parameters"] > 0)
    found = figures(profiles, models, device, budget.precision, budget.batch_size)
    # The number of parameters is the candidates' own.
    return found.drop(columns="n_parameters")


def _measured(
    table: pd.DataFrame, profiles: pd.DataFrame, device: str, *, budget: Budget, options: Options, measure: Measure
) -> tuple[pd.DataFrame, list[str]]:
    """Measure candidates here, best first, until enough of them keep the limits; and what to tell the user.

    Candidates that break a rule, or whose most favourable prediction breaks a limit, aren't measured. When nothing
    fits, the cheapest are measured, so that the advice what to relax rests on measurements.
    """
    started, fitting, tried, attempts = time.monotonic(), 0, 0, 0
    rules = replace(budget, max_latency_ms=None, min_throughput=None, max_memory_mb=None)
    before = table.merge(_figures(table, profiles, device, budget), on="model_id", how="left")
    allowed = before[feasible(before, rules)[0]]
    hopeful = allowed[~_hopeless(allowed, budget)]
    cheapest = allowed.nsmallest(3, "latency_ms")
    for queue in (hopeful, cheapest):
        for model_id in queue["model_id"]:
            if fitting >= options.top or (attempts and time.monotonic() - started > options.measure_seconds):
                break
            attempts += 1
            rows = measure(str(model_id))
            if rows is None:
                continue
            tried += 1
            profiles = pd.concat([profiles, rows], ignore_index=True)
            one = table[table["model_id"] == model_id]
            found = one.merge(_figures(one, rows, device, budget), on="model_id", how="left")
            fitting += int(feasible(found, budget)[0].sum())
        if fitting:
            break
    notes = [f"{tried} candidates were measured on this machine in {time.monotonic() - started:.1f} s."]
    if fitting < options.top and time.monotonic() - started > options.measure_seconds:
        notes.append("The time for measuring was up: further figures are predictions, on their safe side.")
    return profiles, notes


def _hopeless(table: pd.DataFrame, budget: Budget) -> NDArray[np.bool_]:
    """Models whose most favourable figures break a limit: not worth measuring."""
    best = table.assign(
        latency_ms_safe=table["latency_ms_low"],
        memory_mb_safe=table["memory_mb_low"],
        throughput_safe=1000.0 * budget.batch_size / table["latency_ms_low"],
    )
    # Unknown figures are no reason to give up.
    best[["latency_ms_safe", "memory_mb_safe"]] = best[["latency_ms_safe", "memory_mb_safe"]].fillna(0.0)
    best["throughput_safe"] = best["throughput_safe"].fillna(np.inf)
    return ~feasible(best, budget)[0]


def _class_means(tokens: TaskTokens) -> Floats:
    means: Floats = tokens.features.astype(np.float64).mean(axis=0)  # (C, D)
    return means


def _unit(rows: Floats) -> Floats:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def _about(datasets: pd.DataFrame | None) -> pd.DataFrame:
    """``domain`` and ``group`` by dataset."""
    if datasets is None or datasets.empty:
        return pd.DataFrame(columns=["domain", "group"])
    return datasets.drop_duplicates("dataset_id").set_index("dataset_id").reindex(columns=["domain", "group"])


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value


def recommend_images(
    source: str | Path,
    bundle: Bundle,
    budget: Budget | None = None,
    options: Options | None = None,
    *,
    measure: bool = True,
    probes: ProbeBudget | None = None,
    on_probe: Callable[[ProbeStep], None] | None = None,
) -> Recommendation:
    """Recommend a model for a folder of labelled images or an NPZ file.

    Args:
        source: Folder ``class_name/*.png`` (or with ``train`` and ``test`` folders), or NPZ file.
        bundle: What is known.
        budget: Limits.
        options: How the answer is made.
        measure: Whether candidates are measured here when a limit needs a clock and the device is the present one.
        probes: If given, feasible candidates are really tried on the images until this budget is spent.
        on_probe: Called after each probe.

    Returns:
        The answer.

    Raises:
        ItemError: If the images can't be used.
        ConfigurationError: If the limits or the artefacts are unusable.
    """
    from thesis_rec import request

    options = options or Options()
    asked = request.read_images(Path(source), bundle.encoder, options)
    device, here = request.present_device()
    found = recommend_for(
        bundle,
        asked.tokens,
        budget,
        options,
        measure=request.measurer(bundle, budget or Budget(), device) if measure else None,
        here=here,
    )
    dataset = found.dataset | {"images": asked.tokens.n_images + asked.n_held_out}
    found = replace(found, dataset=dataset, sample=asked.sample, notes=(*found.notes, *asked.notes))
    if probes is None or found.table.empty:
        return found
    found = request.sharpen(found, bundle, asked, probes, device=device, on_probe=on_probe)
    if measure and found.budget.needs_clock and found.device == here:
        # Probes have changed the order: what is on top now is measured as well.
        return confirmed(found, request.measurer(bundle, found.budget, device))
    return found


def recommend_known(
    dataset_id: str | None,
    bundle: Bundle,
    budget: Budget | None = None,
    options: Options | None = None,
    *,
    measure: bool = True,
) -> Recommendation:
    """Recommend for a dataset whose tokens are known, as if nothing had been measured on it.

    Its measurements neither give reasons nor appear on the map; the ranker may have been trained on it.

    Args:
        dataset_id: Which dataset; the bundle's last by default.
        bundle: What is known.
        budget: Limits.
        options: How the answer is made.
        measure: As for :func:`recommend_images`.

    Raises:
        ConfigurationError: If there is no such dataset.
    """
    from thesis_rec import request

    name = dataset_id or next(reversed(bundle.tokens), "")
    if name not in bundle.tokens:
        some = ", ".join(list(bundle.tokens)[:5])
        raise ConfigurationError(f"There are no tokens of the dataset {name!r}; there are {some}.")
    others = {key: tokens for key, tokens in bundle.tokens.items() if key != name}
    unmeasured = bundle.performance[bundle.performance["dataset_id"] != name]
    known = replace(bundle, tokens=others, performance=unmeasured)
    device, here = request.present_device()
    measurer = request.measurer(bundle, budget or Budget(), device) if measure else None
    return recommend_for(known, bundle.tokens[name], budget, options, measure=measurer, here=here)


class _CallableModule(ModuleType):
    """This module, which is a function as well: ``thesis_rec.recommend(path, max_latency_ms=5)``."""

    def __call__(
        self, source: str | Path, *, bundle: Bundle | None = None, project: str | Path | None = None, **arguments: Any
    ) -> Recommendation:
        """Recommend a model for images.

        Args:
            source: Folder ``class_name/*.png`` or NPZ file.
            bundle: What is known; by default the artefacts of the project, one's own before the starter's.
            project: Folder of the project, by default the present folder or the nearest above it.
            arguments: Limits of :class:`~thesis_rec.hardware.budget.Budget`, attributes of :class:`Options`, and
                ``measure``, ``probe`` (number of candidates to try) and ``probe_seconds``.

        Raises:
            TypeError: If an argument is unknown.
            ThesisRecError: If images, limits or artefacts are unusable.
        """
        from importlib import import_module

        from thesis_rec.ranking.active import ProbeBudget

        budget = Budget(**{f.name: arguments.pop(f.name) for f in fields(Budget) if f.name in arguments})
        options = Options(**{f.name: arguments.pop(f.name) for f in fields(Options) if f.name in arguments})
        measure = arguments.pop("measure", True)
        count, seconds = arguments.pop("probe", None), arguments.pop("probe_seconds", None)
        if arguments:
            raise TypeError(f"recommend() got an unexpected argument {next(iter(arguments))!r}")
        if bundle is None:
            # The door to the project's artefacts; only it knows Kedro.
            bundle = import_module("thesis_rec.commands.artefacts").load_bundle(project)
        probes = None if count is None and seconds is None else ProbeBudget(count, seconds)
        return recommend_images(source, bundle, budget, options, measure=measure, probes=probes)


sys.modules[__name__].__class__ = _CallableModule
