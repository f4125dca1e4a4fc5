"""What cells of many protocols say together about models: learned once, asked for any dataset and protocol.

A task is a column of one table: one dataset under one protocol by one source. On the scale of accuracies
(:class:`~thesis_rec.knowledge.posterior.Scale`) it is ``level + spread * z``, and ``z`` follows one covariance of the
models for all tasks (:mod:`thesis_rec.knowledge.covariance`). A protocol is where its tasks lie in that space: a
distribution of level and spread, an offset along the factors and one of each model, and a share of the factors that a
dataset keeps when it is measured under another protocol. A domain, which is what images are of, is a further offset,
learned from what the protocol leaves unexplained of the domain's tasks.

Models without any cell get mean and factor by kernel regression on what is known of them
(:func:`extend`); what that leaves open is common to models that are alike, so that trying
one informs the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.knowledge.covariance import Covariance, Shrinkage, fit_covariance, standardised
from thesis_rec.knowledge.kernels import Floats
from thesis_rec.knowledge.posterior import Posterior, Scale, View, regression

#: Fewest models of a task: with fewer its level and spread say nothing.
_FEWEST = 5
#: Tasks' worth of evidence that a protocol has no offset along the factors, and none of a single model.
_SHIFT, _OFFSET = 2.0, 4.0
#: Datasets' worth of evidence that a domain has no offset, of either kind. Left-out datasets of open_clip, with and
#: without limits on size, are ranked better by a weighted tau of .005 to .015. Chosen among 6, 15 and 25 on the tables
#: that are reported on, before :data:`_LOWEST` (.012 to .026 then; .019 to .035 at 6, whose first choice of all models
#: lost .013 more, and .011 to .016 at 25).
#: Datasets of few classes (at most 10, or 50) told from others in the same way are ranked worse by .010 and .007 over
#: all tables and limits.
_DOMAIN = 15.0
#: In place of a domain: what holds of any images.
ANY = ""
#: Zero-shot values further below their task's median, in standard deviations by its quartiles, are drawn in to there
#: when offsets of any images are learned. Left-out datasets of open_clip, with and without limits on size, are ranked
#: better by a weighted tau of .008 to .015, those of CLIP_benchmark by .011, those of MIEB between .004 worse and .009
#: better; at 1.75 and 2.25 nearly the same. Linear probes don't fail that way: drawn in as well, they are ranked worse
#: by .025 among MIEB's smallest models. Chosen on the tables that are reported on.
_LOWEST = 2.0
#: What models of a kind of which none was measured score by linear probes beyond what their descriptions make expected,
#: in spreads of a task, and the standard deviation of it that they share on a dataset; "" is any such kind. Of the
#: kinds of MIEB's linear probes, each left out in turn and the others' cells given: captioning -1.14, self-supervised
#: -.41, contrastive .93; on one dataset a kind deviates by .75 from its own mean. A supervised network with its real
#: ImageNet weights, EfficientNet-Lite0, lies .9, 4.2 and .7 below on MNIST, CIFAR-10 and GTSRB, which with the other
#: kinds as prior makes -1.0, within .75. ``benchmarks/published.py --images`` has both. Networks that learned to fill
#: in what was masked: linear probes of MAE (He et al., CVPR 2022) on ImageNet reach .680 and .758 where those of such
#: networks trained by MoCo v3, which MIEB measured, reach .767 and .776, which is 1.3 and .6 below expectations.
NEW_KINDS = {"": (-0.2, 1.3), "supervised": (-1.0, 1.0), "masked": (-1.0, 1.0)}


@dataclass(frozen=True)
class Protocol:
    """Where the tasks of one protocol lie.

    Attributes:
        level: Mean and variance of the tasks' levels on the scale of accuracies.
        spread: Mean and variance of their spreads.
        offset: (K,) what models score under this protocol beyond the common mean, in spreads.
        n_tasks: Tasks it was learned from.
    """

    level: Sequence[float]
    spread: Sequence[float]
    offset: Floats
    n_tasks: int


@dataclass(frozen=True)
class Domain:
    """What sets a domain's datasets apart under one protocol.

    Attributes:
        offset: (K,) what models score on them beyond what they score under the protocol, in spreads.
        n_datasets: Datasets of different images it was learned from; of :data:`ANY`, tasks.
        doubt: (K, G) standard deviation of the offset that models share, each in the column of its kind in
            :data:`NEW_KINDS`.
    """

    offset: Floats
    n_datasets: int
    doubt: Floats


@dataclass(frozen=True)
class ProtocolKnowledge:
    """What is known of K models under several protocols, in spreads of a task.

    Attributes:
        model_ids: Models with cells first, then those known by description alone.
        covariance: Mean (K,), factor (K, R) and own variances (K,).
        protocols: By name.
        kept: Correlation of a dataset's factors between two protocols.
        counts: (K,) published figures by protocol.
        domains: By protocol and domain (or :data:`ANY`), those of which datasets are known; see :func:`learn_domains`.
    """

    model_ids: list[str]
    covariance: Covariance
    protocols: Mapping[str, Protocol]
    kept: float
    counts: Mapping[str, NDArray[np.integer]]
    domains: Mapping[tuple[str, str], Domain] = field(default_factory=dict)

    def posterior(
        self, model_ids: Sequence[str], protocol: str, n_classes: int, domain: str | None = None
    ) -> Posterior:
        """What is believed of some models on a dataset of which its number of classes is known, and perhaps its domain.

        Args:
            model_ids: Candidates; those that aren't known at all are left out.
            protocol: Protocol of the values that are predicted; the others become views.
            n_classes: Number of classes, which gives chance.
            domain: What the images are of; one that no dataset is of changes nothing.

        Raises:
            KeyError: If no cell of ``protocol`` was published.
        """
        names = [model for model in model_ids if model in self.row_of]
        rows = np.array([self.row_of[name] for name in names], dtype=int)
        # Columns: level and spread of the target, its factors, the doubts that models of each new kind share; then the
        # same of each other protocol in turn.
        others = [name for name in self.protocols if name != protocol]

        def part(name: str, place: int) -> tuple[Floats, Floats, Floats]:
            of = self.protocols[name]
            mean, doubt = self.covariance.mean[rows] + of.offset[rows], np.zeros((len(rows), len(NEW_KINDS)))
            for told in dict.fromkeys((ANY, domain or ANY)):
                if one := self.domains.get((name, told)):
                    mean, doubt = mean + one.offset[rows], np.hypot(doubt, one.doubt[rows])
            slope, slope_variance = of.spread
            factors = slope * self.covariance.factor[rows]
            alone = np.sqrt(1 - self.kept**2) if place else 1.0
            level = np.full(len(rows), np.sqrt(of.level[1]))
            block = np.column_stack([level, np.sqrt(slope_variance) * mean, alone * factors, slope * doubt])
            before, behind = (block.shape[1] * count for count in (place, len(others) - place))
            factor = np.pad(block, ((0, 0), (before, behind)))
            if place:
                factor[:, 2 : 2 + factors.shape[1]] = self.kept * factors
            return of.level[0] + slope * mean, factor, slope**2 * self.covariance.own[rows]

        scale = Scale(1.0 / n_classes)
        views = {name: View(*part(name, place), scale) for place, name in enumerate(others, start=1)}
        mean, factor, own = part(protocol, 0)
        return Posterior(names, mean, factor, own, scale, views)

    def figures(self, model_id: str, protocol: str | None = None) -> int:
        """Number of published figures of a model, under one protocol or any; 0 where it isn't known."""
        row = self.row_of.get(model_id)
        return 0 if row is None else sum(int(of[row]) for name, of in self.counts.items() if protocol in (None, name))

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Place of each model."""
        return {model: row for row, model in enumerate(self.model_ids)}

    def n_datasets(self, protocol: str) -> int:
        """Number of datasets of different images under a protocol; 0 where domains, which count them, aren't there."""
        return sum(one.n_datasets for (name, told), one in self.domains.items() if name == protocol and told != ANY)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it as plain arrays; names and single numbers are JSON in one of them."""
        head = {
            "model_ids": self.model_ids,
            "kept": self.kept,
            "protocols": {
                name: {"level": one.level, "spread": one.spread, "n_tasks": one.n_tasks}
                for name, one in self.protocols.items()
            },
        }
        values = vars(self.covariance) | {f"offset/{name}": one.offset for name, one in self.protocols.items()}
        return {
            "head": np.frombuffer(json.dumps(head).encode(), dtype=np.uint8),
            **{name: value.astype(np.float32) for name, value in values.items()},
            **{f"counts/{name}": counts for name, counts in self.counts.items()},
        }

    def domain_arrays(self) -> dict[str, NDArray[Any]]:
        """The D domains as plain arrays: (K,) models, (D, 2) protocols and domains, (D,) datasets, (D, K) offsets.

        And (D, K, G) doubts.
        """
        return {
            "model_ids": np.array(self.model_ids),
            "names": np.array(list(self.domains)),
            "n_datasets": np.array([one.n_datasets for one in self.domains.values()]),
            "offsets": np.array([one.offset for one in self.domains.values()], dtype=np.float16),
            "doubts": np.array([one.doubt for one in self.domains.values()], dtype=np.float16),
        }

    def with_domains(self, arrays: Mapping[str, NDArray[Any]]) -> ProtocolKnowledge:
        """Undo :meth:`domain_arrays`; a model that wasn't there has no offset.

        Raises:
            KeyError: If one of the arrays is absent.
        """
        rows = pd.Index(arrays["model_ids"]).get_indexer(self.model_ids)

        def laid(name: str) -> Floats:
            found: Floats = arrays[name].astype(np.float64)[:, rows]
            found[:, rows < 0] = 0.0
            return found

        columns = laid("offsets"), arrays["n_datasets"].tolist(), laid("doubts")
        domains = {(p, d): Domain(*one) for (p, d), *one in zip(arrays["names"].tolist(), *columns, strict=True)}
        return replace(self, domains=domains)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> ProtocolKnowledge:
        """Undo :meth:`arrays`.

        Raises:
            KeyError: If one of the arrays is absent.
        """
        head = json.loads(arrays["head"].tobytes().decode())
        covariance = Covariance(*(arrays[name].astype(np.float64) for name in ("mean", "factor", "own")))
        protocols = {
            name: Protocol(**one, offset=arrays[f"offset/{name}"].astype(np.float64))
            for name, one in head["protocols"].items()
        }
        counts = {name.split("/", 1)[1]: arrays[name] for name in arrays if name.startswith("counts/")}
        return cls(head["model_ids"], covariance, protocols, head["kept"], counts)


#: T tasks as a table, K models, (T, K) values and their errors: see :func:`tasks_of`.
Tasks = tuple[pd.DataFrame, list[str], Floats, Floats]


def tasks_of(cells: pd.DataFrame, classes: Mapping[str, int]) -> Tasks:
    """Cells as tasks by models on the scale of accuracies.

    Args:
        cells: Rows of model_id, dataset_id, protocol, source, value (0..1) and spread (standard error, NaN if unknown).
        classes: Number of classes of each dataset.

    Returns:
        T tasks (protocol, source, dataset_id) as a table with one row each, K models, sorted, then (T, K) values and
        (T, K) errors. Tasks of fewer than five models are left out.
    """
    keys = ["protocol", "source", "dataset_id"]
    wide = cells.pivot_table(index=keys, columns="model_id", values="value", aggfunc="mean")
    wide = wide[wide.notna().sum(axis=1) >= _FEWEST]
    wide = wide[wide.max(axis=1) > wide.min(axis=1)]
    wide = wide.loc[:, wide.notna().any()]
    noise = cells.pivot_table(index=keys, columns="model_id", values="spread", aggfunc="mean", dropna=False)
    noise = noise.reindex(index=wide.index, columns=wide.columns)
    tasks, values = wide.index.to_frame(index=False), wide.to_numpy(dtype=np.float64)
    scale = Scale(np.array([1.0 / classes[dataset] for dataset in tasks["dataset_id"]])[:, None])
    errors = noise.to_numpy(dtype=np.float64) * scale.slope(values)
    return tasks, [str(model) for model in wide.columns], scale.latent(values), errors


def fit_protocols(
    cells: pd.DataFrame,
    classes: Mapping[str, int],
    models: pd.DataFrame,
    protocols: Sequence[str] | None = None,
    shrinkage: Shrinkage | None = None,
) -> ProtocolKnowledge:
    """Learn from published or own cells.

    The largest set of tasks that share models is learned first. Protocols whose models occur nowhere else (fine-tuned
    networks beside contrastive ones) are set against what the description of their models makes expected, and then
    teach what the descriptions mean.

    Args:
        cells: See :func:`tasks_of`.
        classes: Number of classes of each dataset.
        models: Descriptions, indexed by model_id; see :func:`extend`. Models
            without cells are predicted from them.
        protocols: Protocols to learn; cells of others (such as the accuracy of a network's own head, which belongs to
            its description) are counted as figures only. All where None.
        shrinkage: Strengths of the covariance.

    Raises:
        ValueError: If no task has enough models.
    """
    learned = cells if protocols is None else cells[cells["protocol"].isin(list(protocols))]
    tasks, measured, values, errors = tasks_of(learned, classes)
    if not len(tasks):
        raise ValueError("no task has cells of five models with different values")
    block = _fit_block(tasks, values, errors, shrinkage)
    known, names = block.covariance, [measured[column] for column in block.columns]
    kept = _kept(tasks.iloc[block.rows], block.scores @ known.factor.T)
    level, spread = np.full(len(tasks), np.nan), np.full(len(tasks), np.nan)
    level[block.rows], spread[block.rows] = block.level, block.spread
    counts = block.counts
    columns = np.setdiff1d(np.arange(len(measured)), block.columns)
    rest = np.setdiff1d(np.arange(len(tasks)), block.rows)
    rest = rest[np.isfinite(values[np.ix_(rest, columns)]).sum(1) >= _FEWEST]
    if len(rest):
        guess = extend(names, known, counts, [measured[column] for column in columns], models)
        others = values[np.ix_(rest, columns)]
        expected = np.where(np.isfinite(others), guess.mean, np.nan)
        spread[rest] = np.nanstd(others, axis=1) / np.sqrt(np.nanvar(expected, axis=1) + known.own.mean())
        level[rest] = np.nanmean(others, axis=1) - spread[rest] * np.nanmean(expected, axis=1)
        z = (others - level[rest, None]) / spread[rest, None]
        used = np.isfinite(z).any(axis=0)
        shown, seen = np.nanmean(z[:, used], axis=0), np.isfinite(z[:, used]).sum(0)
        mean, factor, open_ = guess.mean[used], guess.factor[used, : known.factor.shape[1]], guess.open[used]
        own = known.own.mean()
        trust = seen / (seen + own / np.maximum(open_, 1e-6))
        known = known.joined(Covariance(mean + trust * (shown - mean), factor, own + open_ * (1 - trust)))
        counts = np.concatenate([counts, seen])
        names += [measured[column] for column in columns[used]]
    new = models.index.difference(names, sort=False).tolist()
    total = known.joined(extend(names, known, counts, new, models))
    everything = [*names, *new]

    found, placed = {}, np.isfinite(spread)
    for protocol in dict.fromkeys(tasks["protocol"][placed]):
        mine = placed & (tasks["protocol"] == protocol).to_numpy()
        offset = np.zeros(len(everything))
        offset[: len(block.columns)] = block.offsets.get(protocol, 0.0)
        found[protocol] = Protocol(_moments(level[mine]), _moments(spread[mine]), offset, int(mine.sum()))
    figures = {
        str(protocol): group.value_counts().reindex(everything, fill_value=0).to_numpy(dtype=np.int64)
        for protocol, group in cells.groupby("protocol")["model_id"]
    }
    return ProtocolKnowledge(everything, total, found, kept, figures)


def learn_domains(
    known: ProtocolKnowledge,
    cells: pd.DataFrame,
    datasets: pd.DataFrame,
    kinds: pd.Series,
    shrinkage: Shrinkage | None = None,
) -> ProtocolKnowledge:
    """The knowledge with what sets each domain's datasets apart.

    What zero-shot models score on any images is learned anew first, see :func:`_of_any_images`; what linear probes of
    kinds that were never measured score is :data:`NEW_KINDS`. Of each task, what is left unexplained is split into a
    part along the factors and the models' own; both are averaged over the domain's datasets and shrunk by their number.

    Args:
        known: What was learned from the same cells.
        cells: See :func:`tasks_of`.
        datasets: Their classes, domain and images, by dataset_id; datasets of the same images count as one.
        kinds: Kinds of pre-training by model_id, missing where nobody knows.
        shrinkage: Strengths of the covariance, as ``known`` was learned with.
    """
    chosen = cells[cells["protocol"].isin(list(known.protocols)) & cells["model_id"].isin(known.model_ids)]
    classes = {str(name): int(count) for name, count in datasets["classes"].items()}
    tasks, models, values, errors = told = tasks_of(chosen, classes)
    any_images = _of_any_images(known, told, shrinkage)
    known = replace(known, domains=any_images)
    rank = known.covariance.factor.shape[1]
    along, left = (np.full((len(tasks), len(known.model_ids)), np.nan) for _ in range(2))
    for row, protocol, dataset in tasks[["protocol", "dataset_id"]].itertuples():
        seen = np.flatnonzero(np.isfinite(values[row]))
        belief = known.posterior([models[column] for column in seen], protocol, classes[dataset])
        design, rest = belief.factor[:, : 2 + rank], values[row, seen] - belief.mean
        weights, _ = regression(design, rest, belief.own + np.square(np.nan_to_num(errors[row, seen])))
        along[row] = known.covariance.factor @ weights[2:]
        columns = [known.row_of[models[column]] for column in seen]
        left[row, columns] = (rest - design @ weights) / known.protocols[protocol].spread[0]
    keys = [tasks["protocol"], *(tasks["dataset_id"].map(datasets[column]) for column in ("domain", "images"))]
    by_images = [pd.DataFrame(part).groupby(keys).mean().groupby(level=[0, 1]) for part in (along, left)]
    offsets = pd.concat([part.sum() / (part.count() + _DOMAIN) for part in by_images]).groupby(level=[0, 1]).sum()
    sizes = by_images[0].count().max(axis=1)
    found = {
        (str(protocol), str(domain)): Domain(offset, int(size), np.zeros((len(offset), len(NEW_KINDS))))
        for (protocol, domain), offset, size in zip(sizes.index, offsets.to_numpy(), sizes, strict=True)
    }
    return replace(known, domains=any_images | _new_kinds(known, kinds) | found)


def _new_kinds(known: ProtocolKnowledge, kinds: pd.Series) -> dict[tuple[str, str], Domain]:
    """What models of kinds that were never measured score by linear probes, where kinds can be compared at all.

    One ImageNet figure and the size order models within a kind. What the kind itself is worth they don't tell, and the
    average model of those that were published is better than that of most kinds.
    """
    protocol, kind = "linear_probe", kinds.reindex(known.model_ids).astype("object")
    measured = set(kind[known.counts.get(protocol, np.zeros(len(kind))) > 0].dropna())
    new = (kind.notna() & ~kind.isin(measured)).to_numpy(dtype=bool)
    if len(measured) < 2 or not new.any():
        return {}
    names = [str(one) if str(one) in NEW_KINDS else "" for one in kind]
    beyond, deviation = np.array([NEW_KINDS[name] for name in names]).T * new
    doubt = np.zeros((len(names), len(NEW_KINDS)))
    # What one kind is worth tells nothing of another.
    doubt[np.arange(len(names)), [[*NEW_KINDS].index(name) for name in names]] = deviation
    return {(protocol, ANY): Domain(beyond, 0, doubt)}


def _of_any_images(known: ProtocolKnowledge, told: Tasks, shrinkage: Shrinkage | None) -> dict[tuple[str, str], Domain]:
    """What zero-shot models score beyond what is known of them, once values far below the others are drawn in.

    Class names or prompts fail a model on some dataset, which says little of it elsewhere, and stretches the dataset's
    spread so that its other models seem alike.
    """
    protocol, (tasks, models, values, errors) = "zero_shot", told
    zero_shot = (tasks["protocol"] == protocol).to_numpy()
    if not zero_shot.any():
        return {}
    low, middle, high = np.nanquantile(values[zero_shot], [0.25, 0.5, 0.75], axis=1)
    drawn = values.copy()
    drawn[zero_shot] = np.maximum(values[zero_shot], (middle - _LOWEST * (high - low) / 1.349)[:, None])  # (T, K)
    block = _fit_block(tasks, drawn, errors, shrinkage)
    if protocol not in block.offsets:
        return {}
    score = pd.Series(block.covariance.mean + block.offsets[protocol], [models[column] for column in block.columns])
    before = known.covariance.mean + known.protocols[protocol].offset
    offset = np.nan_to_num(score.reindex(known.model_ids).to_numpy() - before)
    return {(protocol, ANY): Domain(offset, int(zero_shot[block.rows].sum()), np.zeros((len(offset), len(NEW_KINDS))))}


@dataclass(frozen=True)
class _Block:
    """The largest set of tasks that share models, on one scale.

    Attributes:
        rows: (B,) the tasks.
        columns: (K,) their models.
        counts: (K,) tasks that each model was measured on.
        level: (B,).
        spread: (B,).
        covariance: What the models have in common over these tasks.
        scores: (B, R) along its factors.
        offsets: (K,) by protocol, see :func:`_offsets`.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    counts: NDArray[np.intp]
    level: Floats
    spread: Floats
    covariance: Covariance
    scores: Floats
    offsets: dict[str, Floats]


def _fit_block(tasks: pd.DataFrame, values: Floats, errors: Floats, shrinkage: Shrinkage | None) -> _Block:
    rows = _largest_block(np.isfinite(values))
    columns = np.flatnonzero(np.isfinite(values[rows]).any(axis=0))
    z, level, spread = standardised(values[np.ix_(rows, columns)])
    noise = errors[np.ix_(rows, columns)] / spread[:, None]
    known = fit_covariance(z, noise, shrinkage)
    scores = known.scores(z, noise)
    offsets = _offsets(tasks["protocol"].to_numpy()[rows], z, known, scores)
    return _Block(rows, columns, np.isfinite(z).sum(0), level, spread, known, scores, offsets)


def _moments(values: Floats) -> tuple[float, float]:
    """Mean and variance of a new value of the same kind: the estimate's own error belongs to it."""
    count = len(values)
    return float(values.mean()), float(values.var(ddof=1) * (1 + 1 / count)) if count > 1 else 1.0


def _largest_block(seen: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Rows of the largest set of tasks that are linked by shared models (at least two at each link)."""
    from scipy.sparse.csgraph import connected_components

    shared = seen.astype(int) @ seen.T.astype(int)
    _, label = connected_components(shared >= 2, directed=False)
    return np.flatnonzero(label == np.bincount(label, weights=seen.sum(1)).argmax())


def _offsets(protocol: NDArray[Any], z: Floats, known: Covariance, scores: Floats) -> dict[str, Floats]:
    """(K,) what the models of each protocol score beyond the common mean, shrunk by how little was seen."""
    found = {}
    for name in dict.fromkeys(protocol):
        mine = protocol == name
        shift = scores[mine].sum(0) / (mine.sum() + _SHIFT)
        along = known.factor @ shift
        seen = np.isfinite(z[mine])
        left = np.where(seen, z[mine] - known.mean - scores[mine] @ known.factor.T, 0.0)
        found[str(name)] = along + left.sum(0) / (seen.sum(0) + _OFFSET)
    return found


def _kept(tasks: pd.DataFrame, common: Floats) -> float:
    """Correlation of (T, K) what factors make of one dataset between two protocols; 0 where no dataset has two."""
    centred = common - pd.DataFrame(common).groupby(tasks["protocol"].to_numpy()).transform("mean").to_numpy()
    protocol, dataset = tasks["protocol"].to_numpy(), tasks["dataset_id"].to_numpy()
    pairs = np.nonzero((dataset[:, None] == dataset) & (protocol[:, None] < protocol))
    first, second = (centred[side] for side in pairs)
    size = np.sqrt(np.square(first).sum() * np.square(second).sum())
    return float(np.clip((first * second).sum() / max(size, 1e-12), 0.0, 1.0))


# --- models without any cell ----------------------------------------------------------------------------------------

#: Columns of a description; the first three are names, the others numbers, and any may be missing.
COLUMNS = ["kind", "family", "corpus", "n_parameters", "resolution", "imagenet"]
#: Columns of a factor that new models have in common with one another.
_SHARED = 12


#: Share of a model's mean that each part of its description explains (variances add up to the total, with :data:`OWN`).
#: Fixed, as choosing among 24 by leaving out families (by likelihood or by differences within a family) is unstable.
#: These rank open_clip's models of families never seen at weighted tau .64 and of corpora never seen at .63 (.63, .60
#: where sizes are near or far instead of counting along a line, which makes the largest models average). The sweep
#: was made on the models that it is reported on.
STRENGTHS = {"kind": 0.3, "family": 0.1, "corpus": 0.1, "size": 0.4, "imagenet": 1.0}
#: Share that no description explains.
OWN = 0.05


@dataclass(frozen=True)
class Extension(Covariance):
    """What is expected of N models that were never measured: their own variances hold what stays open of each.

    Behind the factors of the measured models are those that models that are alike share of what stays open.

    Attributes:
        open: (N,) uncertainty of ``mean`` and ``factor``, shared or not.
    """

    open: Floats


def extend(
    measured: Sequence[str], known: Covariance, counts: NDArray[np.integer], new: Sequence[str], models: pd.DataFrame
) -> Extension:
    """Mean and factor of models from those of measured models.

    A Gaussian process over descriptions: kind of pre-training, family and corpus are equal or not; size, resolution and
    ImageNet accuracy count along lines. ImageNet figures of a classification head, a linear probe and a prompt aren't
    comparable, so each is taken relative to the mean of models of the same kind. What a model lacks is left out of its
    kernel and thereby widens its interval. Strengths are fixed: see :data:`STRENGTHS`.

    Args:
        measured: K models.
        known: What was learned of them.
        counts: (K,) cells of each: the mean of a model with few is itself uncertain.
        new: N models.
        models: Descriptions, indexed by model_id, with the columns :data:`COLUMNS`; a model without a row has none.
    """
    table = models.reindex(columns=COLUMNS)
    old_table, new_table = table.reindex(list(measured)), table.reindex(list(new))
    centre = float(np.average(known.mean, weights=np.maximum(counts, 1)))
    noise = known.own / np.maximum(counts, 1)
    targets = np.column_stack([known.mean - centre, known.factor])
    variance = float(np.average((known.mean - centre) ** 2))
    pairs = (old_table, old_table), (new_table, old_table), (new_table, new_table)
    among, across, within = (_covariance(*pair, old_table) for pair in pairs)
    solve = np.linalg.inv(among + np.diag(OWN + _unknown(old_table) + noise / variance))
    expected = across @ solve @ targets
    # What stays open, in units of the prior variance; the mean and every loading share the kernel.
    open_ = within - across @ solve @ across.T
    scale = variance + float(np.square(known.factor).mean(0).sum())
    values, vectors = np.linalg.eigh((open_ + open_.T) / 2 * scale)
    values = np.clip(values, 0.0, None)
    kept = np.argsort(-values)[:_SHARED]
    shared = vectors[:, kept] * np.sqrt(values[kept])
    full = np.clip(np.diag(open_), 0.0, None) * scale
    alone = (OWN + _unknown(new_table)) * scale
    apart = np.clip(full - np.square(shared).sum(1), 0.0, None) + alone
    factor = np.hstack([expected[:, 1:], shared])
    return Extension(centre + expected[:, 0], factor, known.own.mean() + apart, full + alone)


def _covariance(left: pd.DataFrame, right: pd.DataFrame, reference: pd.DataFrame) -> Floats:
    """(N, M) of models, over the parts of their description; numbers are relative to ``reference``."""
    parts = {}
    for column in ("kind", "family", "corpus"):
        a, b = left[column].astype("object").to_numpy(), right[column].astype("object").to_numpy()
        known = pd.notna(a)[:, None] & pd.notna(b)[None, :]
        parts[column] = (known & (a[:, None] == b[None, :])).astype(np.float64)
    parts["size"] = _sizes(left, reference) @ _sizes(right, reference).T
    a, b = _relative_imagenet(left, reference), _relative_imagenet(right, reference)
    # Half of the line's slope is common to all kinds, half is a kind's own.
    parts["imagenet"] = a[:, None] * b[None, :] * (0.5 + 0.5 * parts["kind"])
    return np.asarray(sum(STRENGTHS[name] * part for name, part in parts.items()))


def _unknown(table: pd.DataFrame) -> Floats:
    """(N,) shares of the parts of each description that are missing: their whole variance stays open."""
    columns = ["kind", "family", "corpus", "n_parameters", "imagenet"]
    return table[columns].isna().to_numpy(dtype=np.float64) @ np.array([*STRENGTHS.values()])


def _sizes(table: pd.DataFrame, reference: pd.DataFrame) -> Floats:
    """(N, 2) logarithms of parameters and resolution in standard deviations of ``reference``; 0 if unknown."""
    columns = ["n_parameters", "resolution"]
    counted = (part[columns].astype(float) for part in (table, reference))
    own, usual = (np.log(sizes.where(sizes > 0)) for sizes in counted)
    relative = (own - usual.mean()) / usual.std(ddof=0).clip(lower=0.1)
    return relative.fillna(0.0).to_numpy()


def _relative_imagenet(table: pd.DataFrame, reference: pd.DataFrame) -> Floats:
    """(N,) ImageNet accuracy beyond the mean of its kind, in standard deviations; 0 where unknown."""
    both = pd.concat([reference, table[~table.index.isin(reference.index)]])
    accuracy = pd.to_numeric(both["imagenet"]).clip(0.001, 0.999)
    logit = pd.Series(np.log(accuracy / (1 - accuracy)), index=both.index)
    relative = logit - logit.groupby(both["kind"].to_numpy(), dropna=False).transform("mean")
    relative = relative / max(float(relative.std()) if relative.notna().sum() > 1 else 1.0, 1e-6)
    return relative.reindex(table.index).fillna(0.0).to_numpy(dtype=np.float64)
