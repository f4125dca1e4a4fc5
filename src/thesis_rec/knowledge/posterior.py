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

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
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


# --- models from afar ------------------------------------------------------------------------------------------------

#: How far a model from afar lies above the mean of the measured ones, on the scale of
#: :class:`~thesis_rec.knowledge.posterior.Scale`: its mean, the standard deviation that all such models share on a
#: dataset, and that of one beside the others. Of nine real checkpoints of more weights than any model of the embedded
#: zoo, which are four kinds, on eight real datasets (``data/01_raw/real/performance_records.parquet``), by analysis of
#: variance of datasets and kinds. The deviations of datasets, 0.53, and of kinds, 0.24, are widened to what they say of
#: a further one: Student's t of seven and of three degrees of freedom at 90 %, and the error of the mean.
ADVANTAGE = (1.17, 0.65, 0.42)


def strangers(about: pd.DataFrame, measured: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Models from afar, whose size, resolution or corpus is that of no measured model, each with what sets it apart.

    One of another size no regression over the measured models reaches, and what it was made for is rarely what they
    were. What such models do was measured: see :data:`ADVANTAGE`. It shares with the measured models only how hard the
    dataset is for all of them, so that a try of it says nothing of one of them in particular, but of other models from
    afar.

    One of another resolution or corpus could be any of the measured ones: intervals of 90 % of a random one of
    open_clip's models hold .90 to .96 of the figures of a corpus that was left out, and .83 to .97 of those of a
    resolution.

    Args:
        about: Of each model, by model_id, ``n_parameters`` (0 where the weights were never counted: such a model is a
            stranger as well), ``resolution`` and ``corpus``, which may be missing.
        measured: Identifiers of the measured models.

    Returns:
        Those of another size; and those of a resolution or corpus that no measured model has.
    """
    known = about.index.isin(list(measured))
    usual, others = about[known], about[~known]

    def outside(column: str, text: str) -> dict[str, str]:
        values = usual[column][usual[column] > 0]
        low, high = values.min(), values.max()
        # With nothing known both ends are missing, and nothing lies outside.
        apart = others[column][(others[column] < low) | (others[column] > high)]
        uncounted = "its weights were never counted"
        return {str(one): text.format(value, low, high) if value > 0 else uncounted for one, value in apart.items()}

    of_another_size = outside("n_parameters", "it has {:,.0f} weights, the measured models have {:,.0f} to {:,.0f}")
    corpora, told = set(usual["corpus"].dropna()), others["corpus"].dropna()
    unheard = told[~told.isin(corpora)] if corpora else told[:0]
    learned = {str(one): f"it learned from {corpus}, which no measured model did" for one, corpus in unheard.items()}
    sees = "it sees images of {:.0f} pixels, the measured models of {:.0f} to {:.0f}"
    return of_another_size, learned | outside("resolution", sees)


def with_strangers(belief: Posterior, strange: NDArray[np.bool_], like: NDArray[np.bool_] | None = None) -> Posterior:
    """The belief in which a stranger does as models from afar do, or is a random one of some models.

    Args:
        belief: Of M models, before any cell is given: one row may not stand for another afterwards.
        strange: (M,) which of them are strangers.
        like: (M,) which of them it could be. By default it lies above the mean of all others as models from afar were
            measured to, so that how the others differ among themselves isn't added.
    """
    others = ~strange if like is None else like
    if not strange.any() or not others.any():
        return belief

    def changed(view: View) -> View:
        mean, factor, own = view.mean.copy(), view.factor.copy(), view.own.copy()
        # Any of the others: mean and variance of their mixture, and what it has in common with all.
        middle, common = mean[others].mean(), factor[others].mean(axis=0)
        apart = own[others].mean() + np.square(factor[others] - common).sum(axis=1).mean() + mean[others].var()
        if like is None:
            advantage, together, alone = ADVANTAGE
            middle, apart = middle + advantage, alone**2
            # A column of their own: a try of one says what the others may do.
            factor, common = np.column_stack([factor, np.zeros(len(mean))]), np.append(common, together)
        mean[strange], factor[strange], own[strange] = middle, common, apart
        return replace(view, mean=mean, factor=factor, own=own)

    return belief.changed(changed)


# --- which candidate to try next -------------------------------------------------------------------------------------

#: Tries before expected improvement decides, standard deviations that are allowed for in them, and by what deviations
#: are multiplied in expected improvement. Regret after 3, 5 and 10 tries minus that of one's own top 3, 5 and 10 is at
#: most .0016 on any published table (unknown datasets). Without the last it is .0035, with any factor from .1 to .75 at
#: most .0019; with 3 tries .0020, with 5 .0036; with an allowance of .7 .0036, with .8 .0019. After 3, 5, 13 and 26
#: tries on the embedded zoo it is -.003, -.002, -.008 and -.002, with or without. Chosen on the tables that are
#: reported on. Among models of limited size it is at most .0086 after 3 tries (three quarters of MIEB's zero-shot
#: models) and .0049 after 5 (without the factor .0089). Of the 256 orders in which the second to fifth try go by mean,
#: by this bound, by expected improvement or as one's own top, those that are never behind by more than .002 lose .006
#: and .009 under MIEB's limits after 5 tries, where this loses .004.
FIRST, ALLOWANCE, CAUTION = 4, 0.75, 0.6
#: Power of the cost by which a promise is divided; 1 would ask for the most per second. On the embedded zoo's unknown
#: datasets regret after 3 and 13 tries minus that of one's own top is .028 and .002 at 0.5, .013 and .000 at 0.25,
#: -.001 and -.003 at 0.1, .002 and -.004 at 0.05 (the largest whose interval at 13 lies below 0), and -.003 and -.005
#: without costs.
SHARE = 0.05


def next_probe(
    posterior: Posterior,
    costs: Mapping[str, float] | None = None,
    skip: Collection[str] = (),
    unlike: Collection[str] = (),
    protocol: str = TARGET,
) -> str | None:
    """The candidate to try next, the one that promises most for what it costs; None where all were tried.

    The first try is the candidate that is expected to be best. The second is one of those, if there are any, of whose
    like nothing is known: nothing but a try says what they do. Until :data:`FIRST` were made, tries settle how hard the
    dataset is and which kinds of models suit it: each is the candidate with the highest mean, with an allowance for
    what is uncertain of its kind. Only what a candidate has in common with others counts there, since that is what a
    try teaches of the rest; what is uncertain of one model alone would draw tries to models of which little is known.
    Each later one has the highest expected improvement over the best tried (Jones et al., "Efficient global
    optimization of expensive black-box functions", 1998), with deviations made smaller: a few tries don't pay for long
    shots. What counts is always the uncertainty of the *difference* to the best tried, so that an unknown level that
    all candidates share invites no tries. Costs count by a share of their logarithm.

    Args:
        posterior: What is believed after the tries so far.
        costs: What a try of each candidate costs, in any unit above 0; candidates without one cost as much as the
            dearest. None: all cost the same.
        skip: Candidates that can't be tried.
        unlike: Candidates of whose like nothing is known: one of them is tried second.
        protocol: What a try measures: cells of it, and those of the target, count as tries; a cheap score doesn't.

    Raises:
        ValueError: If a cost isn't above 0.
    """
    names = posterior.model_ids
    was_tried = np.isin(names, [cell.model_id for cell in posterior.cells if cell.protocol in (TARGET, protocol)])
    tried, free = np.flatnonzero(was_tried), np.flatnonzero(~was_tried & ~np.isin(names, list(skip)))
    if not len(free):
        return None
    strange = np.isin(names, list(unlike))
    if len(tried) and not strange[tried].any() and strange[free].any():
        free = free[strange[free]]
    mean, factor = posterior.mean, posterior.factor
    # Variance of what sets each candidate apart from the best tried, as far as it is shared with others.
    common = np.zeros(len(free))
    if len(tried):
        best = tried[int(np.argmax(mean[tried]))]
        common = np.square(factor[free] - factor[best]).sum(1)
    if len(tried) < FIRST:
        hoped = mean[free] + ALLOWANCE * np.sqrt(common)
        # Over the middle candidate, which a user without any knowledge would take.
        promise = np.log(np.maximum(hoped - np.median(mean[free]), 1e-12 + 1e-9 * np.ptp(hoped)))
    else:
        deviation = CAUTION * np.sqrt(common + posterior.own[free] + posterior.own[best])
        promise = np.log(expected_improvement(mean[free], deviation, float(mean[best])) + 1e-300)
    if costs is not None:
        given = np.array([costs.get(names[row], np.nan) for row in free], dtype=np.float64)
        if np.any(given <= 0):
            raise ValueError(f"the cost of {names[free[int(np.nanargmin(given))]]} isn't above 0")
        if np.isfinite(given).any():
            promise = promise - SHARE * np.log(np.where(np.isfinite(given), given, np.nanmax(given)))
    return names[int(free[np.lexsort((-mean[free], -promise))[0]])]
