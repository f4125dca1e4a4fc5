"""Active probing: which candidate to really try next, and what its result says about the others.

The predicted values of all candidates are the mean of a Gaussian process over models; its covariance is that of the
prediction's errors on earlier tasks, because models whose predictions erred together will err together again. One probe
therefore moves all candidates. The next one is chosen by expected improvement (Jones et al. 1998), per second where
costs are known. A cheap score such as LogME is a second fidelity of the same process: a linear, noisy view of a
candidate's value with an offset that is unknown for a new dataset (Kennedy & O'Hagan 2000 in its simplest form).

Everything is exact linear-Gaussian algebra on (M, M) matrices, for up to some thousand candidates; with more, take
the best predicted ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thesis_rec.ranking.metrics import regret, weighted_tau

Floats = NDArray[np.float64]

#: Policies of :func:`simulate`.
POLICIES = ("active", "active_two_fidelities", "prior_top", "random_probes", "cheap_score_all", "successive_halving")

_TINY = 1e-12


@dataclass(frozen=True)
class Fidelity:
    """How an observation relates to a candidate's value: ``observed = offset + slope * value + noise``.

    Attributes:
        slope: Change of the observation per unit of value.
        noise_std: Standard deviation of the noise, in units of the observation.
        offset_mean: Expected offset on a new dataset.
        offset_std: How uncertain it is; 0 for a full probe, whose scale is the value's own.
    """

    slope: float = 1.0
    noise_std: float = 0.01
    offset_mean: float = 0.0
    offset_std: float = 0.0


@dataclass(frozen=True)
class Posterior:
    """What is believed about M candidates: ``mean`` (M,) and ``std`` (M,) of their values."""

    model_ids: list[str]
    mean: Floats
    std: Floats


@dataclass(frozen=True)
class ProbeBudget:
    """When to stop.

    Attributes:
        candidates: Largest number of full probes.
        seconds: Largest total cost; a candidate that would exceed it isn't tried.
        threshold: Stop when no candidate's expected improvement reaches this, in units of the value.
    """

    candidates: int | None = None
    seconds: float | None = None
    threshold: float = 0.0


def expected_improvement(mean: ArrayLike, std: ArrayLike, best: float) -> Floats:
    """Expected gain over ``best`` of values that are normal with ``mean`` (M,) and ``std`` (M,).

    Jones et al. 1998, eq. 15: (μ - b) Φ(z) + σ φ(z) with z = (μ - b) / σ; the positive part of μ - b where σ is 0.
    """
    from scipy.special import ndtr

    mu, sigma = np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64)
    gain = mu - best
    safe = np.maximum(sigma, _TINY)
    z = gain / safe
    value = gain * ndtr(z) + safe * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return np.maximum(np.where(sigma > _TINY, value, gain), 0.0)


def condition(
    mean: Floats, covariance: Floats, direction: Floats, value: float, noise_variance: float
) -> tuple[Floats, Floats]:
    """Mean and covariance of a Gaussian after observing ``direction @ x = value`` with noise.

    Args:
        mean: (S,) mean before.
        covariance: (S, S) covariance before.
        direction: (S,) what was observed.
        value: The observation.
        noise_variance: Its variance.
    """
    projected = covariance @ direction
    variance = float(direction @ projected) + noise_variance
    if variance <= _TINY:
        return mean.copy(), covariance.copy()
    gain = projected / variance
    # Subtracting an outer product keeps the matrix symmetric to the last bit.
    return mean + gain * (value - float(direction @ mean)), covariance - np.outer(gain, projected)


def condition_on(
    mean: Floats, covariance: Floats, rows: NDArray[np.integer], values: Floats, noise_variance: float
) -> tuple[Floats, Floats]:
    """Mean and standard deviation of a Gaussian after some of its components were observed, all at once.

    Args:
        mean: (M,) before.
        covariance: (M, M) before.
        rows: (O,) what was observed.
        values: (O,) the observations.
        noise_variance: Their variance.

    Returns:
        (M,) means, and (M,) variances of the noise-free values.
    """
    from scipy.linalg import cho_factor, cho_solve

    across = covariance[:, rows]  # (M, O)
    inner = covariance[np.ix_(rows, rows)] + noise_variance * np.eye(len(rows))
    factor = cho_factor(inner)
    found = mean + across @ cho_solve(factor, values - mean[rows])
    variance = np.diagonal(covariance) - (across * cho_solve(factor, across.T).T).sum(1)
    return found, np.maximum(variance, 0.0)


class ActiveProbe:
    """Probing of the candidates for one dataset.

    Args:
        model_ids: M candidates.
        mean: (M,) predicted values.
        covariance: (M, M) covariance of the predictions' errors, see :func:`residual_covariance`.
        noise_std: Standard deviation of a full probe's own noise.
        costs: (M,) seconds of a full probe of each candidate, if known.
        budget: When to stop; without one, :meth:`next` goes on until all candidates are probed.
        fidelities: Further kinds of observation by name, such as ``{"logme": Fidelity(...)}``.

    Raises:
        ValueError: If shapes don't fit or anything isn't finite.
    """

    def __init__(
        self,
        model_ids: Sequence[str],
        mean: ArrayLike,
        covariance: ArrayLike,
        *,
        noise_std: float = 0.01,
        costs: ArrayLike | None = None,
        budget: ProbeBudget | None = None,
        fidelities: Mapping[str, Fidelity] | None = None,
    ) -> None:
        self.model_ids = list(model_ids)
        self._row = {model: i for i, model in enumerate(self.model_ids)}
        size = len(self.model_ids)
        prior, spread = np.asarray(mean, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
        if len(self._row) != size or prior.shape != (size,) or spread.shape != (size, size):
            raise ValueError(f"{size} distinct models need a mean ({size},) and a covariance ({size}, {size})")
        if not (np.isfinite(prior).all() and np.isfinite(spread).all()):
            raise ValueError("mean and covariance must be finite")
        self.fidelities = {"probe": Fidelity(noise_std=noise_std), **(fidelities or {})}
        extra = [name for name, kind in self.fidelities.items() if name != "probe" and kind.offset_std > 0]
        # The state is every candidate's value and, behind them, the unknown offset of each cheap score.
        self._offset = {name: size + i for i, name in enumerate(extra)}
        self._mean = np.concatenate([prior, [self.fidelities[name].offset_mean for name in extra]])
        self._covariance = np.zeros((size + len(extra),) * 2)
        self._covariance[:size, :size] = (spread + spread.T) / 2
        for name in extra:
            self._covariance[self._offset[name], self._offset[name]] = self.fidelities[name].offset_std ** 2
        self.costs = None if costs is None else np.asarray(costs, dtype=np.float64)
        if self.costs is not None and (self.costs.shape != (size,) or not (self.costs > 0).all()):
            raise ValueError(f"costs must be {size} positive numbers of seconds")
        self.budget = budget or ProbeBudget()
        self.observed: dict[str, float] = {}
        self.seconds = 0.0

    def next(self) -> str | None:
        """The candidate to probe next, or None when the budget is spent or nothing better is expected."""
        if self.budget.candidates is not None and len(self.observed) >= self.budget.candidates:
            return None
        open_ = np.array([model not in self.observed for model in self.model_ids], dtype=bool)
        if self.budget.seconds is not None and self.costs is not None:
            open_ &= self.costs <= self.budget.seconds - self.seconds
        elif self.budget.seconds is not None and self.seconds >= self.budget.seconds:
            return None
        if not open_.any():
            return None
        posterior = self.posterior()
        if not self.observed:
            # Nothing to improve on yet: the most promising candidate.
            return self.model_ids[int(np.argmax(np.where(open_, posterior.mean, -np.inf)))]
        gain = np.where(open_, self.gain(posterior), -1.0)
        if gain.max() < self.budget.threshold:
            return None
        if gain.max() <= _TINY:
            # Expected improvement has underflowed: what is left is the order of optimistic values.
            return self.model_ids[int(np.argmax(np.where(open_, posterior.mean + posterior.std, -np.inf)))]
        per_second = gain / self.costs if self.costs is not None else gain
        return self.model_ids[int(np.argmax(np.where(open_, per_second, -np.inf)))]

    def gain(self, posterior: Posterior | None = None) -> Floats:
        """(M,) expected improvement of each candidate over the best probed one."""
        belief = posterior or self.posterior()
        if not self.observed:
            return expected_improvement(belief.mean, belief.std, float(belief.mean.max()))
        best = max(belief.mean[self._row[model]] for model in self.observed)
        return expected_improvement(belief.mean, belief.std, float(best))

    def observe(self, model: str, value: float, *, fidelity: str = "probe", seconds: float | None = None) -> None:
        """Take in what a probe (or a cheap score) of ``model`` gave.

        Args:
            model: The candidate.
            value: The measured value, or the score.
            fidelity: ``probe`` or the name of another fidelity.
            seconds: What it cost; by default a full probe costs what was announced.

        Raises:
            KeyError: If the model or fidelity is unknown.
            ValueError: If the value isn't finite.
        """
        if not np.isfinite(value):
            raise ValueError(f"{model}: an observation must be finite, not {value}")
        row, kind = self._row[model], self.fidelities[fidelity]
        direction = np.zeros(len(self._mean))
        direction[row] = kind.slope
        shift = kind.offset_mean
        if fidelity in self._offset:
            direction[self._offset[fidelity]], shift = 1.0, 0.0
        self._mean, self._covariance = condition(
            self._mean, self._covariance, direction, value - shift, kind.noise_std**2
        )
        if fidelity == "probe":
            self.observed[model] = float(value)
        if seconds is None:
            seconds = float(self.costs[row]) if fidelity == "probe" and self.costs is not None else 0.0
        self.seconds += seconds

    def posterior(self) -> Posterior:
        """What is believed now."""
        size = len(self.model_ids)
        variance = np.maximum(np.diagonal(self._covariance)[:size], 0.0)
        return Posterior(self.model_ids, self._mean[:size].copy(), np.sqrt(variance))

    def best(self) -> str:
        """The candidate with the highest expected value."""
        return self.model_ids[int(np.argmax(self._mean[: len(self.model_ids)]))]


# --- what earlier tasks say about the errors ---------------------------------------------------------------------


def rbf_kernel(features: ArrayLike) -> Floats:
    """(M, M) Gaussian kernel of (M, F) features, standardised, with the median distance as its width."""
    x = np.asarray(features, dtype=np.float64)
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    square = (x**2).sum(axis=1)
    distance = np.maximum(square[:, None] + square[None, :] - 2 * x @ x.T, 0.0)
    positive = distance[distance > 1e-9]
    width = float(np.median(positive)) if len(positive) else 1.0
    return np.exp(-distance / width)


def residual_covariance(
    residuals: ArrayLike,
    kernel: ArrayLike | None = None,
    known: Iterable[int] | None = None,
    *,
    folds: int = 5,
    shares: Sequence[float] = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9),
) -> Floats:
    """Covariance between models of a prediction's errors on tasks it wasn't trained on.

    The sample covariance of K models over a few dozen tasks is noisy, so it is shrunk towards a smooth target,
    σ² (ρ₀ + ρ₁ k(i, j) + (1-ρ₀-ρ₁) δᵢⱼ), whose parts are fitted to it: an error common to all models of a task, one
    common to similar models, and each model's own. How far is chosen by the likelihood of left-out tasks. A model
    without residuals gets its part through the target (its regression on the known models, plus what that
    leaves open), which keeps the matrix positive semi-definite.

    Args:
        residuals: (T, K) truth minus prediction; NaN where not measured.
        kernel: (M, M) similarity of all models; by default no two are similar, and M = K.
        known: The K rows of ``kernel`` that ``residuals`` belong to, by default all.
        folds: Number of parts into which the tasks are divided to choose the shrinkage.
        shares: Shares of the target to choose among.

    Returns:
        (M, M) covariance.

    Raises:
        ValueError: If shapes don't fit or there are no residuals.
    """
    errors = np.asarray(residuals, dtype=np.float64)
    if errors.ndim != 2 or not np.isfinite(errors).any():
        raise ValueError("residuals must be a (tasks, models) matrix with at least one value")
    similarity = np.eye(errors.shape[1]) if kernel is None else np.asarray(kernel, dtype=np.float64)
    rows = np.arange(len(similarity)) if known is None else np.fromiter(known, dtype=int)
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or len(rows) != errors.shape[1]:
        raise ValueError(f"{errors.shape[1]} models need that many rows of a square kernel, got {similarity.shape}")
    inner = similarity[np.ix_(rows, rows)]
    share = shares[-1]
    if len(errors) >= 2 * folds:
        # Each fold's likelihood under what the other folds say.
        score = np.zeros(len(shares))
        for fold in range(folds):
            held = np.arange(len(errors)) % folds == fold
            sample = _second_moment(errors[~held])
            smooth = _target(sample, inner)
            for i, candidate in enumerate(shares):
                score[i] += _log_likelihood(errors[held], (1 - candidate) * sample + candidate * smooth)
        share = shares[int(np.argmax(score))]
    sample = _second_moment(errors)
    smooth = _target(sample, inner, similarity)
    if len(rows) == len(similarity) and (rows == np.arange(len(rows))).all():
        return (1 - share) * sample + share * smooth
    across, within = smooth[:, rows], smooth[np.ix_(rows, rows)]
    weights = np.linalg.solve(within + _ridge(within), across.T).T
    weights[rows] = np.eye(len(rows))
    rest = smooth - weights @ within @ weights.T
    rest[rows, :], rest[:, rows] = 0.0, 0.0
    carried = weights @ sample @ weights.T + _positive_part(rest)
    return (1 - share) * carried + share * smooth


def scale_to(covariance: ArrayLike, std: ArrayLike) -> Floats:
    """The same correlations with other standard deviations ``std`` (M,), such as a dataset's predicted ones."""
    matrix, wanted = np.asarray(covariance, dtype=np.float64), np.asarray(std, dtype=np.float64)
    factor = wanted / np.sqrt(np.maximum(np.diagonal(matrix), _TINY))
    return matrix * factor[:, None] * factor[None, :]


def fit_fidelity(values: ArrayLike, scores: ArrayLike) -> Fidelity:
    """How a cheap score relates to the value, from tasks on which both are known.

    Each task has its own offset: slope and noise come from deviations from the task's means.

    Args:
        values: (T, M) measured values, NaN where unknown.
        scores: (T, M) cheap scores, NaN where undefined.

    Raises:
        ValueError: If no task has two models with both.
    """
    value, score = np.asarray(values, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    both = np.isfinite(value) & np.isfinite(score)
    usable = both.sum(axis=1) >= 2
    if not usable.any():
        raise ValueError("no task on which two models have both a value and a score")
    value, score, both = value[usable], score[usable], both[usable]
    count = both.sum(axis=1, keepdims=True)
    mean_value = np.where(both, value, 0.0).sum(axis=1, keepdims=True) / count
    mean_score = np.where(both, score, 0.0).sum(axis=1, keepdims=True) / count
    x, y = np.where(both, value - mean_value, 0.0), np.where(both, score - mean_score, 0.0)
    slope = float((x * y).sum() / max(float((x * x).sum()), _TINY))
    rest = np.where(both, y - slope * x, 0.0)
    freedom = max(int(both.sum() - len(both) - 1), 1)
    offsets = (mean_score - slope * mean_value)[:, 0]
    noise = float(np.sqrt((rest**2).sum() / freedom))
    spread = float(offsets.std(ddof=1)) if len(offsets) > 1 else abs(float(offsets[0])) + noise
    return Fidelity(slope, max(noise, 1e-6), float(offsets.mean()), max(spread, 1e-6))


def _second_moment(errors: Floats) -> Floats:
    """(K, K) mean product of errors; a missing one counts as its model having erred as little as possible: zero."""
    present = np.isfinite(errors)
    filled = np.where(present, errors, 0.0)
    moment = filled.T @ filled / max(len(errors), 1)
    # Missing cells only shrink: bring each model's variance back to that of its measured cells.
    share = np.sqrt(np.maximum(present.mean(axis=0), 1.0 / max(len(errors), 1)))
    moment = moment / share[:, None] / share[None, :]
    variance = np.diagonal(moment)
    empty = ~present.any(axis=0)
    if empty.any():
        moment = moment + np.diag(np.where(empty, variance[~empty].mean(), 0.0))
    return moment


def _target(sample: Floats, inner: Floats, outer: Floats | None = None) -> Floats:
    """The smooth target that fits ``sample`` (K, K) best, evaluated for the models of ``outer`` (M, M)."""
    variance = max(float(np.diagonal(sample).mean()), _TINY)
    off = ~np.eye(len(sample), dtype=bool)
    common, similar = 0.0, 0.0
    if off.any():
        wanted = sample[off] / variance
        similarity = inner[off]
        if similarity.std() > 1e-9:
            similar = float(np.cov(similarity, wanted, bias=True)[0, 1] / similarity.var())
        similar = float(np.clip(similar, 0.0, 0.95))
        common = float(np.clip(wanted.mean() - similar * similarity.mean(), 0.0, 0.98 - similar))
    kernel = inner if outer is None else outer
    return variance * (common + similar * kernel + (1 - common - similar) * np.eye(len(kernel)))


def _ridge(matrix: Floats) -> Floats:
    return 1e-8 * max(float(np.trace(matrix)) / len(matrix), _TINY) * np.eye(len(matrix))


def _positive_part(matrix: Floats) -> Floats:
    """The nearest positive semi-definite matrix; a Schur complement is one but for rounding."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


def _log_likelihood(errors: Floats, covariance: Floats) -> float:
    """Of (T, K) errors under a zero-mean Gaussian; missing cells count as zero, alike for all candidates."""
    factor = np.linalg.cholesky(covariance + _ridge(covariance))
    whitened = np.linalg.solve(factor, np.where(np.isfinite(errors), errors, 0.0).T)
    return float(-0.5 * (whitened**2).sum() - len(errors) * np.log(np.diagonal(factor)).sum())


# --- policies on the frontier of cost and regret -----------------------------------------------------------------


@dataclass(frozen=True)
class Candidates:
    """One dataset's candidates, as a simulation sees them.

    Attributes:
        truth: (M,) measured values, what regret is counted in.
        observed: (M,) what a probe would give, with its noise.
        mean: (M,) predicted values.
        covariance: (M, M) covariance of the predictions' errors.
        probe_seconds: (M,) cost of a probe.
        cheap: (M,) a cheap score, NaN where undefined.
        cheap_seconds: (M,) its cost.
    """

    truth: Floats
    observed: Floats
    mean: Floats
    covariance: Floats
    probe_seconds: Floats
    cheap: Floats
    cheap_seconds: Floats


@dataclass(frozen=True)
class Outcome:
    """What a policy reached: probes, ``seconds``, ``regret`` of its choice and ``tau`` of its ranking of all."""

    probes: int
    seconds: float
    regret: float
    tau: float


def simulate(
    candidates: Candidates,
    policy: str,
    budgets: Sequence[int],
    rng: np.random.Generator,
    *,
    noise_std: float = 0.01,
    fidelity: Fidelity | None = None,
) -> list[Outcome]:
    """Run a policy on one dataset and look at it after each number of probes in ``budgets``.

    ``active`` probes by expected improvement and updates all candidates. ``active_two_fidelities`` first takes in the
    cheap score of every candidate. ``prior_top`` probes the best predicted ones and takes the best of them.
    ``random_probes`` probes at random and updates all. ``cheap_score_all`` ranks by the cheap score and probes
    nothing. ``successive_halving`` (two rungs) ranks all by the cheap score and probes the best of them.

    Args:
        candidates: The dataset.
        policy: One of :data:`POLICIES`.
        budgets: Numbers of probes.
        rng: Source of ``random_probes``' choices.
        noise_std: A probe's own noise.
        fidelity: The cheap score's relation to the value; needed by ``active_two_fidelities``.

    Raises:
        ValueError: If the policy is unknown, or lacks its fidelity.
    """
    if policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}; known: {', '.join(POLICIES)}")
    size = len(candidates.truth)
    wanted = sorted({min(budget, size) for budget in budgets})
    cheap = np.where(np.isfinite(candidates.cheap), candidates.cheap, -np.inf)
    cheap_cost = float(np.nansum(candidates.cheap_seconds))
    if policy == "cheap_score_all":
        return [_outcome(candidates, cheap, 0, cheap_cost) for _ in wanted]
    if policy in ("prior_top", "successive_halving"):
        start = candidates.mean if policy == "prior_top" else cheap
        order = np.argsort(-start, kind="stable")
        spent = 0.0 if policy == "prior_top" else cheap_cost
        outcomes = []
        for budget in wanted:
            probed = order[:budget]
            score = _ranks(start)
            # Those that were probed come first, in the order of what they gave.
            score[probed] = size + _ranks(candidates.observed[probed])
            outcomes.append(_outcome(candidates, score, budget, spent + float(candidates.probe_seconds[probed].sum())))
        return outcomes
    names = [str(i) for i in range(size)]
    if policy == "active_two_fidelities" and fidelity is None:
        raise ValueError("active_two_fidelities needs the cheap score's fidelity")
    probe = ActiveProbe(
        names,
        candidates.mean,
        candidates.covariance,
        noise_std=noise_std,
        fidelities={"cheap": fidelity} if fidelity else None,
    )
    if policy == "active_two_fidelities":
        for i in np.flatnonzero(np.isfinite(candidates.cheap)):
            probe.observe(names[i], float(candidates.cheap[i]), fidelity="cheap")
        probe.seconds += cheap_cost
    at_random = [names[i] for i in rng.permutation(size)]
    outcomes = []
    for budget in wanted:
        while len(probe.observed) < budget:
            chosen = at_random[len(probe.observed)] if policy == "random_probes" else probe.next()
            if chosen is None:
                break
            row = int(chosen)
            probe.observe(chosen, float(candidates.observed[row]), seconds=float(candidates.probe_seconds[row]))
        outcomes.append(_outcome(candidates, probe.posterior().mean, len(probe.observed), probe.seconds))
    return outcomes


def _outcome(candidates: Candidates, score: Floats, probes: int, seconds: float) -> Outcome:
    return Outcome(probes, seconds, regret(candidates.truth, score, 1), weighted_tau(candidates.truth, score))


def _ranks(values: Floats) -> Floats:
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks
