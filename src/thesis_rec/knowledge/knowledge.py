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
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.knowledge.descriptors import VIEWS
from thesis_rec.knowledge.kernels import Floats, Kernel
from thesis_rec.knowledge.posterior import Cell, Posterior, Scale

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
