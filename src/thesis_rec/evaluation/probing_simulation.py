"""Trying candidates, simulated on the unknown datasets of a study: regret against cost, policy by policy.

What is believed, what is tried next and what a try's noise is are what a request has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.evaluation.bootstrap import cluster_bootstrap, paired_difference
from thesis_rec.evaluation.metrics import regret, weighted_tau
from thesis_rec.evaluation.study import Study
from thesis_rec.knowledge.knowledge import Knowledge
from thesis_rec.knowledge.posterior import Cell, Posterior
from thesis_rec.knowledge.probing import next_probe

Floats = NDArray[np.float64]

#: Policies of :func:`simulate`.
POLICIES = ("active", "best_observed", "own_top", "random_probes", "cheap_score_all", "successive_halving")
#: Fewer candidates than this have no order worth a figure.
_LEAST_MODELS = 3


@dataclass(frozen=True)
class ProbingSettings:
    """How probing is simulated.

    Attributes:
        counts: Numbers of probes after which a policy is looked at.
        shares: Shares of the candidates after which it is looked at as well.
        probe_cost: Seconds of a probe per second of LogME: both are mostly the forward passes over the images.
        cheap: Which transferability score is the cheap fidelity.
        repeats: Simulations with different noise of the probes.
        draws: Linear probes on different draws of training images whose mean one probe gives: the features are
            extracted once, as where candidates are really probed.
        judge_draws: Linear probes whose mean judges, drawn anew, so that policies that saw the measured values gain
            nothing by their noise; 0 lets the measured values themselves judge.
    """

    counts: tuple[int, ...] = (1, 3, 6, 12, 25)
    shares: tuple[float, ...] = (0.05, 0.1)
    probe_cost: float = 1.0
    cheap: str = "logme"
    repeats: int = 3
    draws: int = 10
    judge_draws: int = 0


@dataclass(frozen=True)
class Candidates:
    """One dataset's candidates, as a simulation sees them.

    Attributes:
        belief: What is believed before any try.
        truth: (M,) measured values, what regret is counted in.
        observed: (M,) what a try would give, with its noise.
        noise: Standard deviation of that noise.
        probe_seconds: (M,) cost of a try.
        cheap: (M,) a cheap score, NaN where undefined.
        cheap_seconds: (M,) its cost.
    """

    belief: Posterior
    truth: Floats
    observed: Floats
    noise: float
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


def simulate(candidates: Candidates, policy: str, budgets: Sequence[int], rng: np.random.Generator) -> list[Outcome]:
    """Run a policy on one dataset and look at it after each number of tries in ``budgets``.

    ``active`` tries what :func:`next_probe` says and chooses what is believed to be best; ``best_observed`` makes the
    same tries and chooses the best of what was tried. ``own_top`` tries the best predicted ones and takes the best of
    them. ``random_probes`` tries at random and believes what follows. ``cheap_score_all`` ranks by the cheap score and
    tries nothing. ``successive_halving`` (two rungs) ranks all by the cheap score and tries the best of them.

    Args:
        candidates: The dataset.
        policy: One of :data:`POLICIES`.
        budgets: Numbers of tries.
        rng: Source of ``random_probes``' choices.

    Raises:
        ValueError: If the policy is unknown.
    """
    if policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}; known: {', '.join(POLICIES)}")
    size = len(candidates.truth)
    wanted = sorted({min(budget, size) for budget in budgets})
    cheap = np.where(np.isfinite(candidates.cheap), candidates.cheap, -np.inf)
    cheap_cost = float(np.nansum(candidates.cheap_seconds))
    if policy == "cheap_score_all":
        return [_outcome(candidates, cheap, 0, cheap_cost) for _ in wanted]
    start = cheap if policy == "successive_halving" else candidates.belief.mean
    spent = cheap_cost if policy == "successive_halving" else 0.0
    order = rng.permutation(size) if policy == "random_probes" else np.argsort(-start, kind="stable")
    belief, tried = candidates.belief, list[int]()
    names = belief.model_ids
    row_of = {name: row for row, name in enumerate(names)}
    costs = dict(zip(names, candidates.probe_seconds.tolist(), strict=True))
    outcomes = []
    for budget in wanted:
        while len(tried) < budget:
            active = policy in ("active", "best_observed")
            chosen = next_probe(belief, costs) if active else names[order[len(tried)]]
            assert chosen is not None
            row = row_of[chosen]
            tried.append(row)
            spent += float(candidates.probe_seconds[row])
            if active or policy == "random_probes":
                cell = Cell(belief.model_ids[row], float(candidates.observed[row]), candidates.noise)
                belief = belief.given([cell])
        score = belief.mean
        if policy in ("own_top", "successive_halving", "best_observed"):
            # Those that were tried come first, in the order of what they gave.
            score = _ranks(belief.mean if policy == "best_observed" else start)
            score[tried] = size + _ranks(candidates.observed[tried])
        outcomes.append(_outcome(candidates, score, len(tried), spent))
    return outcomes


def _outcome(candidates: Candidates, score: Floats, probes: int, seconds: float) -> Outcome:
    return Outcome(probes, seconds, regret(candidates.truth, score, 1), weighted_tau(candidates.truth, score))


def _ranks(values: Floats) -> Floats:
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks


def probing(
    study: Study,
    knowledge: Knowledge,
    *,
    cheap: NDArray[np.floating],
    cheap_seconds: NDArray[np.floating],
    settings: ProbingSettings,
    bootstrap: int = 2000,
) -> dict[str, Any]:
    """Simulate all policies on the unknown datasets, with all models (known and unknown) as candidates.

    Returns:
        ``frontier``: policy -> number of probes -> ``regret@1, weighted_tau, seconds`` with intervals; ``shares``: the
        numbers of probes at the given shares; ``paired``: differences of active probing to the other policies at each
        number; ``n_datasets, n_candidates``.
    """
    size = len(study.models)
    shares = {f"{share:g}": max(1, round(share * size)) for share in settings.shares}
    budgets = sorted({min(count, size) for count in (*settings.counts, *shares.values())})
    rows: list[dict[str, Any]] = []
    for j in study.columns("test"):
        present = np.flatnonzero(np.isfinite(study.values[:, j]))
        if len(present) < _LEAST_MODELS:
            continue
        belief = knowledge.posterior(study.models.select(present), study.tasks[j])
        noise = np.nan_to_num(study.spread[present, j]) if study.spread is not None else np.zeros(len(present))
        seconds = np.nan_to_num(cheap_seconds[present, j])
        for repeat in range(settings.repeats):
            rng = np.random.default_rng([study.seed, int(j), repeat])
            truth = study.values[present, j].astype(np.float64)
            observed = np.clip(truth + noise / np.sqrt(settings.draws) * rng.normal(size=len(present)), 0.0, 1.0)
            if settings.judge_draws:
                truth = truth + noise / np.sqrt(settings.judge_draws) * rng.normal(size=len(present))
            candidates = Candidates(
                belief,
                truth=truth,
                observed=observed,
                noise=knowledge.noise / float(np.sqrt(settings.draws)),
                probe_seconds=settings.probe_cost * np.where(seconds > 0, seconds, 1.0),
                cheap=cheap[present, j].astype(np.float64),
                cheap_seconds=seconds,
            )
            for policy in POLICIES:
                if policy in ("cheap_score_all", "successive_halving") and not np.isfinite(candidates.cheap).any():
                    continue
                for number, outcome in zip(budgets, simulate(candidates, policy, budgets, rng), strict=False):
                    rows.append(
                        {
                            "dataset_id": study.dataset_ids[j],
                            "family": study.families[j],
                            "policy": policy,
                            "budget": number,
                            "regret@1": outcome.regret,
                            "weighted_tau": outcome.tau,
                            "seconds": outcome.seconds,
                        }
                    )
    if not rows:
        return {"frontier": {}, "shares": shares, "paired": {}, "n_datasets": 0, "n_candidates": size}
    measured = ["regret@1", "weighted_tau", "seconds"]
    keys = ["policy", "budget", "dataset_id", "family"]
    table = pd.DataFrame(rows).groupby(keys, sort=False)[measured].mean().reset_index()
    frontier: dict[str, dict[str, Any]] = {}
    for key, part in table.groupby(["policy", "budget"], sort=False):
        policy, budget = str(key[0]), str(key[1])
        frontier.setdefault(policy, {})[budget] = {
            name: cluster_bootstrap(part[name], list(part["family"]), draws=bootstrap, seed=study.seed)
            for name in measured
        }
    paired: dict[str, dict[str, Any]] = {}
    for number in budgets:
        at = {str(p): part.set_index("dataset_id") for p, part in table[table["budget"] == number].groupby("policy")}
        for other in POLICIES[1:]:
            if other in at:
                rest = at[other].reindex(at["active"].index)
                paired.setdefault(other, {})[str(number)] = {
                    name: paired_difference(
                        at["active"][name], rest[name], list(at["active"]["family"]), draws=bootstrap, seed=study.seed
                    )
                    for name in ("regret@1", "weighted_tau")
                }
    return {
        "frontier": frontier,
        "shares": shares,
        "paired": paired,
        "n_datasets": int(table["dataset_id"].nunique()),
        "n_candidates": size,
    }
