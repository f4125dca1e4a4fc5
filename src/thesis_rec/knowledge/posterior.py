"""What is believed of every candidate on one dataset: a Gaussian that measured cells sharpen.

Values live between chance and 1. The Gaussian lives on a scale whose ends these are (:class:`Scale`), so that no
predicted value and no end of an interval can lie beyond them. On that scale the values of M candidates are

    u = mean + factor @ w + sqrt(own) * e,        w ~ N(0, I), e ~ N(0, I)

where ``factor`` (M, R) holds what candidates have in common: the dataset's unknown level (a column that is the same for
all), its unknown spread (a column along the mean), what earlier datasets showed and what models that are alike share.
``own`` (M,) is what one candidate has for itself. All algebra is in R dimensions plus one per measured cell, hence
linear in the number of candidates. Another protocol, or a cheap score, is a further view of the same ``w``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thesis_rec.knowledge.kernels import Floats

#: Protocol of the values that are predicted.
TARGET = "target"
#: Protocol of the cheap score that may be asked for.
SCORE = "logme"
#: How a cheap score goes with what it is a hint of, among the models of one dataset: its correlation, and the part of
#: the rest that goes together between models that err alike. The mean square of LogME's correlation is .66 on the
#: embedded zoo's known datasets. On the unknown ones, all models, weighted tau is .752 without scores, .816 by LogME
#: alone and .824 by both; 90 % intervals hold .90 of the values without scores and .87 with them, and the first choice
#: is promised .006 too much. With the scores' tail as it is, .827, .86 and .074; with their ranks, .818, .87 and -.010.
#: On the eight real datasets that are shipped, each left out, the first choice is promised .045 too much; with the tail
#: drawn in more (hyperbolic tangent of half) .030, but then the first choice on the embedded ones loses .044, not .030.
AGREEMENT, SHARED = 0.8, 0.3
_TINY = 1e-12


@dataclass(frozen=True)
class Scale:
    """A scale whose ends are chance and 1: ``log((p - chance + soft) / (1 - p + soft))``.

    Attributes:
        chance: What guessing reaches, of all values or an array of what it reaches for each.
        soft: Share of the range by which the ends are moved outwards, so that a measured value at chance or at 1 stays
            finite and the noise of a measurement counts alike on the whole range.
    """

    chance: float | Floats = 0.0
    soft: float = 0.05

    def latent(self, values: ArrayLike) -> Floats:
        """Accuracies to the scale; what lies below chance counts as chance."""
        p, soft = self._inside(values)
        return np.asarray(np.log((p - self.chance + soft) / (1 - p + soft)))

    def value(self, latent: ArrayLike) -> Floats:
        """The scale to accuracies, between chance and 1."""
        soft = self.soft * (1 - self.chance)
        low, high = self.chance - soft, 1 + soft
        # The logistic function by numpy: importing scipy would take longer than a whole answer.
        share = 0.5 * (1 + np.tanh(0.5 * np.asarray(latent, dtype=np.float64)))
        return np.clip(low + (high - low) * share, self.chance, 1.0)

    def slope(self, values: ArrayLike) -> Floats:
        """Change on the scale per unit of accuracy."""
        p, soft = self._inside(values)
        return np.asarray(1 / (p - self.chance + soft) + 1 / (1 - p + soft))

    def _inside(self, values: ArrayLike) -> tuple[Floats, float | Floats]:
        return np.clip(np.asarray(values, dtype=np.float64), self.chance, 1.0), self.soft * (1 - self.chance)


@dataclass(frozen=True)
class Cell:
    """What was measured of one model on the dataset.

    Attributes:
        model_id: The model.
        value: The accuracy, or the score of another protocol on that protocol's own scale.
        noise: Standard deviation of the measurement, in units of ``value``.
        protocol: :data:`TARGET`, or the name of one of :attr:`Posterior.views`.
    """

    model_id: str
    value: float
    noise: float = 0.0
    protocol: str = TARGET


@dataclass(frozen=True)
class View:
    """What another protocol or a cheap score shows of the same candidates: mean (M,), factor (M, R), own (M,).

    Attributes:
        mean: Expected observations.
        factor: How they depend on what candidates have in common.
        own: Variance of what one observation has for itself.
        scale: Where observations are accuracies: the scale on which mean and factor live.
    """

    mean: Floats
    factor: Floats
    own: Floats
    scale: Scale | None = None


@dataclass(frozen=True)
class Posterior:
    """A Gaussian over M candidates on one dataset.

    Attributes:
        model_ids: The candidates.
        mean: (M,) on :attr:`scale`.
        factor: (M, R) what they have in common.
        own: (M,) variance of what each has for itself.
        scale: Between accuracies and the Gaussian.
        views: Other protocols and cheap scores, by name.
        cells: What was measured.
    """

    model_ids: list[str]
    mean: Floats
    factor: Floats
    own: Floats
    scale: Scale = field(default_factory=Scale)
    views: Mapping[str, View] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()

    def given(self, cells: Iterable[Cell]) -> Posterior:
        """The same Gaussian after some cells were measured, all at once and in any order.

        Cells of models that are no candidates are left aside.

        Raises:
            ValueError: If a value isn't finite, a noise is negative or a protocol unknown.
        """
        row_of = {model: row for row, model in enumerate(self.model_ids)}
        new = [cell for cell in cells if cell.model_id in row_of]
        if not new:
            return self
        places: dict[tuple[str, int], int] = {}
        for cell in new:
            if not np.isfinite(cell.value) or not cell.noise >= 0:
                raise ValueError(f"{cell.model_id}: a cell needs a finite value and a noise of at least 0, not {cell}")
            if cell.protocol not in (TARGET, *self.views):
                raise ValueError(f"{cell.model_id}: the protocol {cell.protocol!r} is unknown here")
            places.setdefault((cell.protocol, row_of[cell.model_id]), len(places))
        wide = self._widened(len(places))
        # What a measured row has for itself becomes a column of the factor, so that its cell can inform it.
        for (name, row), place in places.items():
            view = wide._view(name)
            view.factor[row, self.factor.shape[1] + place], view.own[row] = np.sqrt(view.own[row]), 0.0
        seen, rest, noise = [], [], []
        for cell in new:
            row, view = row_of[cell.model_id], wide._view(cell.protocol)
            observed = cell.value if view.scale is None else float(view.scale.latent(cell.value))
            slope = 1.0 if view.scale is None else float(view.scale.slope(cell.value))
            seen.append(view.factor[row])
            rest.append(observed - view.mean[row])
            noise.append(max((cell.noise * slope) ** 2, 1e-8))
        weights, root = regression(np.stack(seen), np.array(rest), np.array(noise))
        return wide.changed(
            lambda view: replace(view, mean=view.mean + view.factor @ weights, factor=view.factor @ root),
            cells=(*self.cells, *new),
        )

    def changed(self, change: Callable[[View], View], **more: Any) -> Posterior:
        """The same with every view changed alike, that of the values that are predicted among them."""
        target, views = change(self._view(TARGET)), {name: change(view) for name, view in self.views.items()}
        return replace(self, mean=target.mean, factor=target.factor, own=target.own, views=views, **more)

    def _view(self, protocol: str) -> View:
        return View(self.mean, self.factor, self.own, self.scale) if protocol == TARGET else self.views[protocol]

    def _widened(self, columns: int) -> Posterior:
        """A copy with so many further columns of zeros."""
        added = ((0, 0), (0, columns))
        return self.changed(lambda view: replace(view, factor=np.pad(view.factor, added), own=view.own.copy()))

    def scored(self, scores: Mapping[str, float], name: str) -> Posterior:
        """The same Gaussian after a cheap score of some candidates, such as LogME: cells of a protocol of their own.

        A score has no unit that datasets share: its mean and standard deviation among the scored candidates are taken
        out, and its tail is drawn in (area hyperbolic sine). It follows a candidate's value with the correlation
        :data:`AGREEMENT`.

        Args:
            scores: Score by candidate, higher is better; others are left aside, and fewer than three say nothing.
            name: The cells' protocol.

        Raises:
            ValueError: If a score isn't finite.
        """
        rows = np.array([row for row, model in enumerate(self.model_ids) if model in scores], dtype=int)
        given = np.array([scores[self.model_ids[row]] for row in rows], dtype=np.float64)
        if not np.isfinite(given).all():
            raise ValueError(f"{name}: a score isn't finite")
        if len(rows) < 3 or given.std() <= _TINY * np.abs(given).max():
            return self
        width, count = self.factor.shape[1], len(rows)
        # What a scored candidate has for itself becomes a column, so that its score can inform it. Behind these: the
        # unknown mean of the scores, and the errors that scores share.
        wide = self._widened(count + 1 + width)  # (M, R + n + 1 + R)
        wide.factor[rows, width + np.arange(count)], wide.own[rows] = np.sqrt(self.own[rows]), 0.0
        mean, common = (part - part[rows].mean(axis=0) for part in (self.mean, self.factor))
        shared = np.square(common[rows]).sum(1).mean()
        spread = np.sqrt(np.square(mean[rows]).mean() + shared + self.own[rows].mean())
        slope, rest = AGREEMENT / max(spread, _TINY), 1 - AGREEMENT**2
        seen = slope * wide.factor
        seen[:, width + count] = 10.0
        seen[:, width + count + 1 :] = np.sqrt(SHARED * rest / max(shared, _TINY)) * self.factor
        view = View(slope * mean, seen, np.zeros(len(mean)))
        # Scores have a long tail upwards that values don't have.
        drawn_in = np.arcsinh((given - given.mean()) / given.std())
        standard = (drawn_in - drawn_in.mean()) / drawn_in.std()
        noise = float(np.sqrt((1 - SHARED) * rest))
        cells = [Cell(self.model_ids[row], float(z), noise, name) for row, z in zip(rows, standard, strict=True)]
        belief = replace(wide, views={**wide.views, name: view}).given(cells)
        return replace(belief, views={key: belief.views[key] for key in self.views})

    @property
    def tried(self) -> dict[str, float]:
        """What models reached on the dataset itself, by model; cheap scores are no tries."""
        return {cell.model_id: cell.value for cell in self.cells if cell.protocol != SCORE}

    @property
    def std(self) -> Floats:
        """(M,) standard deviations on the scale."""
        return np.sqrt(np.maximum(np.square(self.factor).sum(1) + self.own, 0.0))

    def value(self) -> Floats:
        """(M,) expected accuracies: the mean over the Gaussian, by Gauss–Hermite quadrature of nine points."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(9)
        points = self.mean[:, None] + self.std[:, None] * nodes
        return np.asarray(self.scale.value(points) @ (weights / weights.sum()))

    def interval(self, level: float = 0.9) -> tuple[Floats, Floats]:
        """(M,) lower and (M,) upper ends of the central intervals of probability ``level``."""
        from statistics import NormalDist

        half = NormalDist().inv_cdf(0.5 + level / 2) * self.std
        return self.scale.value(self.mean - half), self.scale.value(self.mean + half)

    def ranking(self) -> NDArray[np.intp]:
        """Rows of the candidates, best first."""
        return np.argsort(-self.mean, kind="stable")

    def best(self) -> str:
        """The candidate with the highest mean."""
        return self.model_ids[int(np.argmax(self.mean))]

    def only(self, rows: Sequence[int] | NDArray[np.integer]) -> Posterior:
        """The same belief of some of the candidates."""
        chosen = np.asarray(rows, dtype=int)
        names = [self.model_ids[row] for row in chosen]
        there = set(names)
        return self.changed(
            lambda view: View(view.mean[chosen], view.factor[chosen], view.own[chosen], view.scale),
            model_ids=names,
            cells=tuple(cell for cell in self.cells if cell.model_id in there),
        )


def any_of(mean: Floats, factor: Floats, own: Floats) -> tuple[float, Floats, float]:
    """What is believed of a model that could be any of those given: mean and variance of their mixture.

    Args:
        mean: (M,) of the models.
        factor: (M, R) what they have in common.
        own: (M,) what each has for itself.

    Returns:
        Its mean, what it has in common with all (R,), and the variance of what it has for itself.
    """
    common = factor.mean(axis=0)
    apart = own.mean() + np.square(factor - common).sum(axis=1).mean() + mean.var()
    return float(mean.mean()), common, float(apart)


def regression(design: Floats, rest: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """Posterior mean (R,) of standard normal weights and a root (R, R) of their covariance.

    Args:
        design: (O, R) how the observations depend on the weights.
        rest: (O,) observed minus expected.
        noise: (O,) variances of the observations.
    """
    precision = np.eye(design.shape[1]) + (design / noise[:, None]).T @ design
    values, vectors = np.linalg.eigh(precision)
    root = vectors / np.sqrt(np.maximum(values, _TINY))
    return root @ (root.T @ (design.T @ (rest / noise))), root


def expected_improvement(mean: ArrayLike, std: ArrayLike, best: float) -> Floats:
    """Expected gain over ``best`` of values that are normal with ``mean`` (M,) and ``std`` (M,).

    Jones et al., "Efficient global optimization of expensive black-box functions", 1998, eq. 15:
    (μ - b) Φ(z) + σ φ(z) with z = (μ - b) / σ; the positive part of μ - b where σ is 0.
    """
    from scipy.special import ndtr

    mu, sigma = np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64)
    gain, safe = mu - best, np.maximum(sigma, _TINY)
    z = gain / safe
    return np.maximum(gain * ndtr(z) + safe * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi), 0.0)
