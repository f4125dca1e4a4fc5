"""What earlier datasets say of a new one: from measured cells to a Gaussian over any models.

On a scale whose ends are chance and 1 (:class:`~thesis_rec.knowledge.posterior.Scale`), a model's value on a dataset
is

    level + spread * shape + unit * (what all models that err alike have in common + what it has for itself)

- **Shape**, level and the logarithm of the spread are kernel regressions on a view of the images: landmarks and tokens,
  or one of them, or nothing, which leaves the means over earlier datasets (two-step kernel ridge regression; Stock et
  al., "A comparative study of pairwise learning methods based on kernel ridge regression", Neural Computation, 2018).
- A model that was never measured follows those measured ones that are like it in what is known of it: its responses to
  the reference bank, else its weights, else its family.
- Level and spread are unknowns of the Gaussian with the errors that they had on families that were left out, so that
  cells inform them as a regression on the expected values does. Errors of the shape go together between models as they
  did there, and grow with the distance from earlier datasets as they did there; far from all they are those of nothing
  known. Their unit grows much less than the spread (:func:`error_unit`).

A known dataset is its expectation without itself, given its cells: the same object that a new one is after some tries.

Widths and penalties of the regressions are chosen by leaving out whole families.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.knowledge.covariance import Shrinkage, fit_covariance
from thesis_rec.knowledge.descriptors import LEVEL_SHARE, SHAPE_SHARE, VIEWS, scales_of
from thesis_rec.knowledge.kernels import Floats, Kernel, leave_groups_out, means_of_others
from thesis_rec.knowledge.posterior import Cell, Posterior, Scale
from thesis_rec.models.spectra import comparison_scales

#: Candidates that are looked at at once.
_CHUNK = 1024
FORMAT = 1
#: Fields that are stored as they are, and as arrays.
_PLAIN = ("model_ids", "families", "dataset_ids", "noise")
_TABLES = ("shape", "levels", "total", "factor", "own")
_OF_KERNEL = ("mean", "scale", "points")
#: Power of a dataset's spread with which errors of the shape grow. Mean log likelihood of cells of the starter zoo's
#: left-out families of datasets: .179 with 1, .186 with 3/4, .189 with 1/2 and with 1/4, .185 with 0.
SPREAD_POWER = 0.25


def error_unit(spread: Floats | float, levels: Floats) -> Floats:
    """What an error of 1 of the shape is on the scale: a typical spread, and little more where models differ more.

    Args:
        spread: Expected spreads, of any shape.
        levels: (N, 2) level and log spread of earlier datasets.
    """
    typical = np.exp(levels[:, 1].mean())
    return np.asarray(typical * (spread / typical) ** SPREAD_POWER)


@dataclass(frozen=True)
class Regression:
    """Kernel ridge regression around the mean.

    Attributes:
        kernel: Similarity with the points that were learned from.
        ridge: Penalty.
    """

    kernel: Kernel
    ridge: float

    def at(self, point: Floats, use: NDArray[np.bool_], values: Floats) -> tuple[Floats, float]:
        """What ``values`` of the points in use say at one point, and how far it is from all: 0 on top of one, to 1."""
        similarity = self.kernel(point[None])[0, use]
        gram = self.kernel.gram[np.ix_(use, use)]
        mean = values.mean(0)
        weights = np.linalg.solve(gram + self.ridge * np.eye(len(gram)), similarity)
        far = float(np.clip(1.0 - similarity @ weights, 0.0, 1.0))
        return mean + weights @ (values - mean), far


@dataclass(frozen=True)
class DatasetSide:
    """What one view of the images says: two regressions over the N earlier datasets that have it.

    Attributes:
        view: Name in :data:`thesis_rec.knowledge.descriptors.VIEWS`.
        rows: (N,) which of the knowledge's datasets have it.
        shape: On what the view says of which models do well.
        level: On what it says of how hard a dataset is.
        error: (2, 3) squared errors on families left out: of level, of log spread, and of the shape in parts of the
            errors that the knowledge's covariance describes; on top of an earlier dataset, and how fast they grow away
            from it.
    """

    view: str
    rows: NDArray[np.intp]
    shape: Regression
    level: Regression
    error: Floats

    def errors(self, far: Floats, total: Floats) -> Floats:
        """(..., 3) errors at distances (..., 3): far away from all what they are where nothing is known, (3,)."""
        near, slope = self.error[0], np.maximum(self.error[1], total - self.error[0])
        return np.minimum(near + far * slope, np.maximum(total, near))


@dataclass(frozen=True)
class ModelSide:
    """What one description of models says of those that were never measured.

    Attributes:
        field: What it reads of :class:`~thesis_rec.base.tables.ModelTable`.
        rows: (n,) the measured models that have it.
        shape: On what it says of which datasets a model does well on.
        own: Mean squared error of the shape of models whose family was left out, given all others.
    """

    field: str
    rows: NDArray[np.intp]
    shape: Regression
    own: float


def has_field(models: ModelTable, field: str, width: int | None = None) -> NDArray[np.bool_]:
    """(M,) which models have a field of their table, of so many numbers if that is said."""
    table = getattr(models, field, None)
    if table is None or width not in (None, table.shape[1]):
        return np.zeros(len(models), dtype=bool)
    return np.isfinite(table).all(axis=1)


@dataclass(frozen=True)
class Knowledge:
    """All that is learned from measured cells of K models on N datasets; see the module.

    Attributes:
        model_ids: K measured models.
        families: Their families.
        dataset_ids: N datasets.
        shape: (N, K) standardised values, gaps filled by what is expected of them.
        levels: (N, 2) level and log spread.
        total: (3,) what errors are where nothing is known, in the units of :attr:`DatasetSide.error`.
        factor: (K, R) how models' errors of the shape go together.
        own: (K,) variance of what a cell has for itself.
        datasets: Regressions on views, the one that is preferred first.
        models: Regressions on descriptions, the one that is preferred first.
        noise: Standard deviation of one measurement, in units of accuracy.
    """

    model_ids: list[str]
    families: list[str]
    dataset_ids: list[str]
    shape: Floats
    levels: Floats
    total: Floats
    factor: Floats
    own: Floats
    datasets: Sequence[DatasetSide] = ()
    models: Sequence[ModelSide] = ()
    noise: float = 0.01

    def posterior(self, models: ModelTable, task: TaskTokens, cells: Iterable[Cell] = ()) -> Posterior:
        """What is believed of some models on a dataset, without its own cells and given ``cells``.

        Args:
            models: M candidates, measured before or not; the time is linear in their number.
            task: The dataset; if it is one of those that were learned from, its own part is left out.
            cells: What was measured on it.
        """
        shape, (level, log_spread), errors = self.expected(task)
        spread = np.exp(log_spread)
        table = np.column_stack([shape, self.factor])  # (K, 1 + R)
        carried, own = self.carried_over(models, table)
        shape, factor = carried[:, 0], carried[:, 1:]
        # The last columns: the level is the same for all, the spread moves along the shape.
        unit = error_unit(spread, self.levels) * np.sqrt(errors[2])
        factor = np.column_stack(
            [
                unit * factor,
                np.full(len(shape), np.sqrt(errors[0])),
                # Of no model there is no mean.
                spread * np.sqrt(errors[1]) * (shape - shape.sum() / max(len(shape), 1)),
            ]
        )
        mean = level + spread * shape
        chance = 1.0 / max(len(task.class_names), 1)
        belief = Posterior(list(models.model_ids), mean, factor, unit**2 * own, Scale(min(chance, 0.5)))
        return belief.given(cells)

    def expected(self, task: TaskTokens) -> tuple[Floats, Floats, Floats]:
        """Expected shape (K,), level and log spread (2,) of a dataset, and (3,) their mean squared errors."""
        others = np.array([name != task.dataset_id for name in self.dataset_ids], dtype=bool)
        for side in self.datasets:
            described = VIEWS[side.view](task)
            if described is None or len(described[0]) != len(side.shape.kernel.mean):
                continue
            use = others[side.rows]
            rows = side.rows[use]
            shape, apart = side.shape.at(described[0], use, self.shape[rows])
            levels, far = side.level.at(described[1], use, self.levels[rows])
            return shape, levels, side.errors(np.array([far, far, apart]), self.total)
        if not others.any():
            return np.zeros(len(self.model_ids)), np.zeros(2), self.total
        return self.shape[others].mean(0), self.levels[others].mean(0), self.total

    def carried_over(self, models: ModelTable, table: Floats) -> tuple[Floats, Floats]:
        """Values (K, C) of the measured models to (M, C) of any models, and (M,) what each has for itself."""
        column = {model: i for i, model in enumerate(self.model_ids)}
        places = np.array([column.get(model, -1) for model in models.model_ids], dtype=int)
        # What stands in the rows of the others is replaced below.
        found, own, open_ = table[places], self.own[places], places < 0
        # Only deviations from the mean of all models are regressed: what resembles none is an average model.
        centre = np.zeros(table.shape[1])
        centre[0] = table[:, 0].mean()
        for side in self.models:
            kernel = side.shape.kernel
            rows = np.flatnonzero(open_ & has_field(models, side.field, len(kernel.mean)))
            if not len(rows):
                continue
            dual = np.linalg.solve(kernel.gram + side.shape.ridge * np.eye(len(side.rows)), table[side.rows] - centre)
            for start in range(0, len(rows), _CHUNK):
                part = rows[start : start + _CHUNK]
                found[part] = centre + kernel(getattr(models, side.field)[part]) @ dual
            own[rows] = side.own + float(self.own.mean())
            open_[rows] = False
        rest = np.flatnonzero(open_)
        if len(rest):
            families = np.asarray(self.families)
            deviation = float(np.square(self.shape - self.shape.mean(1, keepdims=True)).mean())
            strange = [models.families[row] for row in rest]
            means = {name: table[families == name].mean(0) for name in set(strange) & set(self.families)}
            found[rest] = np.stack([means.get(name, centre) for name in strange])
            own[rest] = deviation + float(self.own.mean())
        return found, own

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays for an NPZ file that is read without pickle."""
        plain: dict[str, Any] = {"format": FORMAT, **{name: getattr(self, name) for name in _PLAIN}}
        plain["datasets"] = [{"view": one.view, "ridges": [one.shape.ridge, one.level.ridge]} for one in self.datasets]
        plain["models"] = [{"parts": {one.field: 1.0}, "ridge": one.shape.ridge, "own": one.own} for one in self.models]
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name).astype(np.float32) for name in _TABLES}
        kernels: dict[str, Kernel] = {}
        for i, side in enumerate(self.datasets):
            arrays |= {f"datasets/{i}/rows": side.rows, f"datasets/{i}/error": side.error}
            kernels |= {f"datasets/{i}/shape": side.shape.kernel, f"datasets/{i}/level": side.level.kernel}
        for i, model_side in enumerate(self.models):
            arrays[f"models/{i}/rows"] = model_side.rows
            kernels[f"models/{i}/{model_side.field}"] = model_side.shape.kernel
        for place, kernel in kernels.items():
            arrays |= {f"{place}/{name}": getattr(kernel, name).astype(np.float32) for name in _OF_KERNEL}
            arrays[f"{place}/width"] = np.array(kernel.width)
        return arrays | {"plain": np.array(json.dumps(plain))}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Knowledge:
        """Undo :meth:`to_arrays`.

        Raises:
            ValueError: If these are no knowledge, or of another format.
        """
        if "plain" not in arrays:
            raise ValueError("these arrays hold no knowledge")
        plain = json.loads(str(arrays["plain"]))
        if plain.get("format") != FORMAT:
            raise ValueError(f"knowledge of format {plain.get('format')!r}; this version reads {FORMAT}")

        def regression(place: str, ridge: float) -> Regression:
            mean, scale, points = (arrays[f"{place}/{name}"].astype(np.float64) for name in _OF_KERNEL)
            return Regression(Kernel(mean, scale, points, float(arrays[f"{place}/width"])), ridge)

        datasets, models = list[DatasetSide](), list[ModelSide]()
        for i, item in enumerate(plain["datasets"]):
            place = f"datasets/{i}"
            shape, level = map(regression, (f"{place}/shape", f"{place}/level"), item["ridges"])
            # Knowledge that was made before growth was fitted has none.
            error = np.vstack([arrays[f"{place}/error"], np.zeros((2, 3))])[:2]
            datasets.append(DatasetSide(item["view"], arrays[f"{place}/rows"], shape, level, error))
        for i, item in enumerate(plain["models"]):
            fields = list(item["parts"])
            # Earlier knowledge may also read several fields at once, of which models have one by now; of each first
            # field alone it has a side of its own.
            if len(fields) == 1:
                place = f"models/{i}"
                shape = regression(f"{place}/{fields[0]}", item["ridge"])
                models.append(ModelSide(fields[0], arrays[f"{place}/rows"], shape, item["own"]))
        tables: dict[str, Any] = {name: np.asarray(arrays[name], dtype=np.float64) for name in _TABLES}
        return cls(**{name: plain[name] for name in _PLAIN}, **tables, datasets=datasets, models=models)


# --- learning from measured cells -------------------------------------------------------------------------------------

WIDTHS = (1.0, 3.0, 10.0, 30.0)
RIDGES = (0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0)
#: Widths between models.
MODEL_WIDTHS = (3.0, 10.0, 30.0)
#: Fewer datasets with a view, or families of them, can't be regressed on; nor can fewer models.
LEAST, LEAST_FAMILIES = 8, 3
#: Smallest spread of a dataset on the scale that counts: below it, differences between models are noise.
FLOOR = 0.1
#: Errors of left-out datasets have no mean. Cells of left-out families of datasets, given the others, have a mean log
#: likelihood of .272 with 16 factors, .289 with 24, .293 with 32, .300 with 48, .299 with 64 and .300 with 96.
SHRINKAGE = Shrinkage(rank=48, loadings=4.0, own=10.0, mean=1e9)
#: Variance of what only a cell has beyond that. Hidden cells of known models and datasets of the embedded zoo are
#: ranked at a weighted tau of .790, and 90 % intervals hold .91 of them; with .02 these are .781 and .83, with 0 .778
#: and .78. Choosing it among these and .05, by the likelihood of left-out cells of left-out families of datasets,
#: changes no figure there, nor on the tables of TransferGraph, SITE and Model Spider.
OWN_VARIANCE = 0.1
#: Shares of the squared errors that distance from what is known explains, among which is chosen.
FAR_SHARES = np.arange(20) / 20
#: Coverage that intervals are fitted to, and its quantile of the normal distribution.
LEVEL, Z = 0.9, 1.6448536269514722
#: Standard deviation of a measurement where no repeats say it: one linear probe on a few hundred test images.
DEFAULT_NOISE = 0.01
_ROUNDS = 3


def fit_knowledge(
    models: ModelTable,
    tasks: Sequence[TaskTokens],
    values: Floats,
    families: Sequence[str],
    *,
    noise: float = DEFAULT_NOISE,
) -> Knowledge:
    """Learn from what was measured.

    Args:
        models: M models; those without any cell aren't learned from.
        tasks: N datasets.
        values: (N, M) accuracies, NaN where nothing was measured or may be used.
        families: N families of the datasets.
        noise: Standard deviation of one of the values.

    Raises:
        ConfigurationError: If no dataset has three measured models.
    """
    enough = np.flatnonzero(np.isfinite(values).sum(1) >= 3)
    if not len(enough):
        raise ConfigurationError(
            "None of the datasets that may be learned from has three measured models: there is no order to learn. "
            "Measure more (kedro run --pipelines=ground_truth), or choose another similarity_training.protocol."
        )
    columns = np.flatnonzero(np.isfinite(values[enough]).any(0))
    tasks, names = [tasks[int(row)] for row in enough], np.asarray(families)[enough]
    known, values = models.select(columns), np.asarray(values, dtype=np.float64)[np.ix_(enough, columns)]
    measured = np.isfinite(values)
    chance = [min(1.0 / max(len(task.class_names), 1), 0.5) for task in tasks]
    latent = Scale(np.array(chance)[:, None]).latent(values)
    level, spread = np.nanmean(latent, axis=1), np.maximum(np.nanstd(latent, axis=1), FLOOR)
    levels = np.column_stack([level, np.log(spread)])
    shape = (latent - level[:, None]) / spread[:, None]
    filled = np.where(measured, shape, np.nanmean(shape, axis=0))
    # What is expected of a dataset without its family when no view says anything, and how wrong that is.
    left_out, said = means_of_others(filled, names), means_of_others(levels, names)
    total = np.append(np.square(levels - said).mean(0), np.nanmean(np.square(shape - left_out)))
    sides: list[DatasetSide] = []
    for view in VIEWS:
        found = _fit_view(view, tasks, shape, filled, levels, names)
        if found is None:
            continue
        side, expected, hardness, far = found
        if not sides:
            # Gaps are what the best view says of them, so that they don't pull towards the mean.
            left_out[side.rows], said[side.rows] = expected, hardness
            filled = np.where(measured, shape, left_out)
            distances = far
        sides.append(side)
    errors = shape - left_out
    # Factor analysis knows what the tasks it was fitted to have in common.
    together = fit_covariance(errors, shrinkage=SHRINKAGE)
    factor, own = together.factor, together.own + OWN_VARIANCE
    base = max(float(np.nanmean(np.square(errors))), 1e-9)
    # Errors have heavier tails than a Gaussian: its variances are such that central 90 % intervals of cells of families
    # that were left out hold 90 %.
    deviations = np.exp(said[:, 1:]) * left_out
    best = np.tile(np.append(total[:2], base), (len(tasks), 1))  # (N, 3)
    if sides:
        best[sides[0].rows] = sides[0].errors(distances, total)
    unit = error_unit(np.exp(said[:, 1:]), levels)  # (N, 1)
    variance = np.square(unit) * (np.square(factor).sum(1) + own) * best[:, 2:] / base + best[:, :1]
    variance += best[:, 1:2] * np.square(deviations - deviations.mean(1, keepdims=True))
    ratio = np.abs(latent - said[:, :1] - deviations) / np.sqrt(variance)
    temper = (float(np.nanquantile(ratio, LEVEL)) / Z) ** 2
    units = temper / np.array([1.0, 1.0, base])
    sides = [replace(side, error=side.error * units) for side in sides]
    total = total * units
    return Knowledge(
        known.model_ids,
        known.families,
        [task.dataset_id for task in tasks],
        filled,
        levels,
        total,
        factor,
        own,
        sides,
        _fit_models(known, filled),
        noise,
    )


def _fit_view(
    view: str, tasks: Sequence[TaskTokens], shape: Floats, filled: Floats, levels: Floats, names: NDArray[np.str_]
) -> tuple[DatasetSide, Floats, Floats, Floats] | None:
    """Both regressions on one view, and of datasets without their families expected shapes and levels, and distances.

    None where too few datasets have the view, or it says nothing. The side's error of the shape is a mean square.
    """
    described = {row: found for row, task in enumerate(tasks) if (found := VIEWS[view](task)) is not None}
    rows = np.array([*described], dtype=np.intp)
    if len(rows) < LEAST or len(set(names[rows])) < LEAST_FAMILIES:
        return None
    shapes, hardness = (np.stack(part) for part in zip(*described.values(), strict=True))
    names, measured, shape, filled = names[rows], np.isfinite(shape[rows]), shape[rows], filled[rows]
    baseline = means_of_others(filled, names)
    dim = tasks[rows[0]].features.shape[-1]
    scales = scales_of(view, shapes.shape[1], dim, SHAPE_SHARE)
    by_shape, expected = _choose(scales, shapes, filled, names, np.where(measured, 1.0, 0.0))
    without, with_view = (np.nansum(np.square(shape - said)) for said in (baseline, expected))
    if without <= with_view:
        return None
    gram = by_shape.kernel.gram
    for _ in range(_ROUNDS):
        filled = np.where(measured, shape, expected)
        expected = leave_groups_out(gram, filled, names, by_shape.ridge, centre=True)
    spreads = np.maximum(levels[rows].std(0), 1e-6)
    scales = scales_of(view, hardness.shape[1], dim, LEVEL_SHARE)
    by_level, said = _choose(scales, hardness, levels[rows], names, 1.0 / spreads)
    rest = np.nanmean(np.square(shape - expected), axis=1)
    squares = np.column_stack([np.square(levels[rows] - said), rest])  # (n, 3)
    far = np.column_stack([_distances(by_level, names)] * 2 + [_distances(by_shape, names)])
    error = np.stack([_by_distance(*pair) for pair in zip(squares.T, far.T, strict=True)], axis=1)
    return DatasetSide(view, rows, by_shape, by_level, error), expected, said, far


def _distances(regression: Regression, names: NDArray[np.str_]) -> Floats:
    """(n,) how far each row is from those of other families: 0 on top of one, 1 far from all."""
    gram = regression.kernel.gram
    return np.clip(1.0 - np.diagonal(leave_groups_out(gram, gram, names, regression.ridge)), 0.0, 1.0)


def _by_distance(squares: Floats, far: Floats) -> Floats:
    """(2,) what squared errors (n,) are at no distance, and what is added at distance 1: of maximum likelihood.

    The variance of a Gaussian process is so: its noise, and its prior variance times the distance.
    """
    mean = max(float(far.mean()), 1e-9)
    units = 1 - FAR_SHARES + FAR_SHARES * far[:, None] / mean  # (n, choices)
    scales = np.maximum((squares[:, None] / units).mean(0), 1e-12)
    best = int((np.log(scales) + np.log(units).mean(0)).argmin())
    return scales[best] * np.array([1 - FAR_SHARES[best], FAR_SHARES[best] / mean])


def _choose(
    scales: Floats | float,
    points: Floats,
    target: Floats,
    names: NDArray[np.str_],
    weight: Floats | float = 1.0,
    *,
    widths: Sequence[float] = WIDTHS,
    centre: bool = True,
) -> tuple[Regression, Floats]:
    """The regression with the smallest weighted error on families left out, and what it says of these."""
    tried = (
        (Regression(kernel, ridge), leave_groups_out(kernel.gram, target, names, ridge, centre=centre))
        for kernel in (Kernel.fit(points, width, scales) for width in widths)
        for ridge in RIDGES
    )
    return min(tried, key=lambda one: float(np.square((target - one[1]) * weight).sum()))


def _fit_models(models: ModelTable, shape: Floats) -> list[ModelSide]:
    """Regressions on what is known of models: responses, else a description of the weights; those that help."""
    deviations = (shape - shape.mean(1, keepdims=True)).T  # (K, N)
    found = []
    # The field that says most comes first.
    for field in ("subtasks" if has_field(models, "subtasks").all() else "reference", "spectra"):
        rows = np.flatnonzero(has_field(models, field))
        names, target = np.asarray(models.families)[rows], deviations[rows]
        if len(rows) < LEAST or len(set(names)) < 2:
            continue
        scales, points = comparison_scales() if field == "spectra" else 1.0, getattr(models, field)[rows]
        chosen, said = _choose(scales, points, target, names, widths=MODEL_WIDTHS, centre=False)
        error, without = (np.square(one - target).sum() for one in (said, means_of_others(target, names)))
        if error < without:  # else the family says as much by itself
            found.append(ModelSide(field, rows, chosen, float(error) / target.size))
    return found
