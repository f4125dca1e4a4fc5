"""Policies of probing, simulated on one dataset: what each has reached after so many probes, and at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thesis_rec.evaluation.metrics import regret, weighted_tau
from thesis_rec.knowledge.active_probing import ActiveProbe, Fidelity

Floats = NDArray[np.float64]

#: Policies of :func:`simulate`.
POLICIES = ("active", "active_two_fidelities", "prior_top", "random_probes", "cheap_score_all", "successive_halving")


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
