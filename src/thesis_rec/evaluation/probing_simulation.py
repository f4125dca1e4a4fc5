"""Trying candidates, simulated on the unknown datasets of a study: regret against cost, policy by policy.

What is believed, what is tried next and what a try's noise is are what a request has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import rankdata

from thesis_rec.base.settings import Settings
from thesis_rec.evaluation.figures import beyond, intervals
from thesis_rec.evaluation.metrics import regret, weighted_tau
from thesis_rec.evaluation.study import LEAST_MODELS, Floats, Study, cell_matrix
from thesis_rec.knowledge.knowledge import Knowledge
from thesis_rec.knowledge.posterior import Cell, Posterior, next_probe

#: Policies of :func:`simulate`; the last three need a cheap score.
POLICIES = ("active", "best_observed", "own_top", "random_probes", "halving", "cheap_score_all", "successive_halving")


class ProbingSettings(Settings):
    """How probing is simulated; ``conf/base/parameters/evaluation.yml`` explains every field."""

    counts: tuple[int, ...] = (1, 3, 6, 12, 25)
    shares: tuple[float, ...] = (0.05, 0.1)
    probe_cost: float = Field(default=1.0, gt=0)
    cheap: str = "logme"
    repeats: int = Field(default=3, ge=1)
    draws: int = Field(default=10, ge=1)
    judge_draws: int = Field(default=0, ge=0)


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
    them. ``random_probes`` tries at random and believes what follows. ``halving`` is successive halving (two rungs) in
    the seconds of ``own_top``: the cheap score of the best predicted for two thirds of them, tries of the best half for
    the rest. ``cheap_score_all`` ranks by the cheap score and tries nothing; ``successive_halving`` ranks all by it and
    tries the best of them, which takes as long as it takes.

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
    if policy == "halving":
        return [_halving(candidates, cheap, budget) for budget in wanted]
    start, scoring = (cheap, cheap_cost) if policy == "successive_halving" else (candidates.belief.mean, 0.0)
    order = rng.permutation(size) if policy == "random_probes" else np.argsort(-start, kind="stable")
    belief, tried = candidates.belief, list[int]()
    names = belief.model_ids
    costs = dict(zip(names, candidates.probe_seconds.tolist(), strict=True))
    outcomes = []
    for budget in wanted:
        while len(tried) < budget:
            active = policy in ("active", "best_observed")
            row = names.index(str(next_probe(belief, costs))) if active else int(order[len(tried)])
            tried.append(row)
            if active or policy == "random_probes":
                cell = Cell(belief.model_ids[row], float(candidates.observed[row]), candidates.noise)
                belief = belief.given([cell])
        score: Floats = belief.mean
        if policy in ("own_top", "successive_halving", "best_observed"):
            score = _led_by(tried, candidates.observed, belief.mean if policy == "best_observed" else start)
        seconds = scoring + float(candidates.probe_seconds[tried].sum())
        outcomes.append(_outcome(candidates, score, len(tried), seconds))
    return outcomes


def _halving(candidates: Candidates, cheap: Floats, budget: int) -> Outcome:
    """Successive halving in the seconds that tries of the ``budget`` best predicted would take."""

    def within(rows: NDArray[np.intp], costs: Floats, seconds: float) -> NDArray[np.intp]:
        return rows[: max(1, int((np.cumsum(costs[rows]) <= seconds + 1e-9).sum()))]

    order = candidates.belief.ranking()
    seconds = float(candidates.probe_seconds[order[:budget]].sum())
    scored = within(order, candidates.cheap_seconds, 2 * seconds / 3)
    spent = float(candidates.cheap_seconds[scored].sum())
    tried = within(scored[np.argsort(-cheap[scored], kind="stable")], candidates.probe_seconds, seconds - spent)
    score = _led_by(tried, candidates.observed, _led_by(scored, cheap, candidates.belief.mean))
    return _outcome(candidates, score, len(tried), spent + float(candidates.probe_seconds[tried].sum()))


def _led_by(rows: Sequence[int] | NDArray[np.intp], values: Floats, score: Floats) -> Floats:
    """(M,) ranks, higher is better: first some candidates in the order of their values, then the others by score."""
    ranks = rankdata(score, "ordinal")
    ranks[rows] = len(score) + rankdata(values[rows], "ordinal")
    return ranks


def _outcome(candidates: Candidates, score: Floats, probes: int, seconds: float) -> Outcome:
    return Outcome(probes, seconds, regret(candidates.truth, score, 1), weighted_tau(candidates.truth, score))


def probing(
    study: Study, knowledge: Knowledge, transferability: pd.DataFrame, settings: ProbingSettings, bootstrap: int = 2000
) -> dict[str, Any]:
    """Simulate all policies on the unknown datasets, with all models (known and unknown) as candidates.

    Args:
        study: What it is about.
        knowledge: What is believed before any try.
        transferability: Table of transferability scores, the cheap one and its cost among them.
        settings: How it is simulated.
        bootstrap: Resamples of an interval.

    Returns:
        ``frontier``: policy -> number of probes -> ``regret@1, weighted_tau, seconds`` with intervals; ``shares``: the
        numbers of probes at the given shares; ``paired``: differences of active probing to the other policies at each
        number; ``n_datasets, n_candidates``.
    """
    size = len(study.models)
    shares = {f"{share:g}": max(1, round(share * size)) for share in settings.shares}
    budgets = sorted({min(count, size) for count in (*settings.counts, *shares.values())})
    table = trials(study, knowledge, transferability, settings, budgets)
    measured, how = ["regret@1", "weighted_tau", "seconds"], {"draws": bootstrap, "seed": study.seed}
    frontier = intervals(table, ("policy", "budget"), measured, "family", **how)
    # What active probing does better than the others on the same datasets.
    gaps = beyond(table, "active", "policy", ("budget", "dataset_id"), measured[:2])
    paired = intervals(gaps, ("policy", "budget"), measured[:2], "family", **how)
    counts = {"n_datasets": int(table["dataset_id"].nunique()), "n_candidates": size}
    return {"frontier": frontier, "shares": shares, "paired": paired, **counts}


def trials(
    study: Study, knowledge: Knowledge, transferability: pd.DataFrame, settings: ProbingSettings, budgets: Sequence[int]
) -> pd.DataFrame:
    """What each policy reaches on each unknown dataset after each number of tries in ``budgets``.

    Returns:
        ``policy, budget, dataset_id, family, regret@1, weighted_tau, seconds``, the means over repeats.
    """
    scores = transferability[transferability["method"] == settings.cheap]
    cheap, cheap_seconds = (
        cell_matrix(scores, column, study.models.model_ids, study.dataset_ids) for column in ("value", "seconds")
    )
    rows: list[tuple[Any, ...]] = []
    for j in study.columns("test"):
        present = np.flatnonzero(np.isfinite(study.values[:, j]))
        if len(present) < LEAST_MODELS:
            continue
        belief = knowledge.posterior(study.models.select(present), study.tasks[j])
        noise = np.nan_to_num(np.broadcast_to(study.spread, study.values.shape)[present, j])
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
            for policy in POLICIES if np.isfinite(candidates.cheap).any() else POLICIES[:-3]:
                for number, found in zip(budgets, simulate(candidates, policy, budgets, rng), strict=False):
                    key = (policy, str(number), study.dataset_ids[j], study.families[j])
                    rows.append((*key, found.regret, found.tau, found.seconds))
    keys, measured = ["policy", "budget", "dataset_id", "family"], ["regret@1", "weighted_tau", "seconds"]
    return pd.DataFrame(rows, columns=[*keys, *measured]).groupby(keys, sort=False)[measured].mean().reset_index()
