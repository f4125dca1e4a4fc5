"""Learning from measured cells: regressions whose widths and penalties are chosen by leaving out whole families."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.knowledge.covariance import Shrinkage, fit_covariance
from thesis_rec.knowledge.descriptors import LEVEL_SHARE, SHAPE_SHARE, VIEWS, scales_of
from thesis_rec.knowledge.kernels import Floats, Kernel, leave_groups_out, means_of_others
from thesis_rec.knowledge.knowledge import DatasetSide, Knowledge, ModelSide, Regression, error_unit, has_field
from thesis_rec.knowledge.posterior import Scale
from thesis_rec.models.spectra import comparison_scales

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
