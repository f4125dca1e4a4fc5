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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thesis_rec.knowledge.gaussian import condition

Floats = NDArray[np.float64]

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


class ActiveProbe:
    """Probing of the candidates for one dataset.

    Args:
        model_ids: M candidates.
        mean: (M,) predicted values.
        covariance: (M, M) covariance of the predictions' errors, see
            :func:`~thesis_rec.knowledge.residuals.residual_covariance`.
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
