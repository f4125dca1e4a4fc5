"""Active probing, simulated on the unknown datasets of a study: regret against cost, policy by policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from thesis_rec.evaluation.bootstrap import cluster_bootstrap, paired_difference
from thesis_rec.evaluation.study import Floats, Scores, Study, Z
from thesis_rec.knowledge.error_model import ErrorModel, shaped_values, value_covariance
from thesis_rec.knowledge.probing_policies import POLICIES, Candidates, simulate

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


def probing(
    study: Study,
    scores: Scores,
    errors: ErrorModel,
    *,
    cheap: Floats,
    cheap_seconds: Floats,
    settings: ProbingSettings,
    bootstrap: int = 2000,
) -> dict[str, Any]:
    """Simulate all policies on the unknown datasets, with all models (known and unknown) as candidates.

    Returns:
        ``frontier``: policy -> number of probes -> ``regret@1, weighted_tau, seconds`` with intervals; ``shares``: the
        numbers of probes at the given shares; ``paired``: differences of active probing to the cheap score on all
        candidates and to the prior's top, at each number; ``n_datasets, n_candidates``.
    """
    columns = study.columns("test")
    size = len(study.models)
    shares = {f"{share:g}": max(1, round(share * size)) for share in settings.shares}
    budgets = sorted({min(count, size) for count in (*settings.counts, *shares.values())})
    rows: list[dict[str, Any]] = []
    mean = shaped_values(scores)
    std = None
    if scores.low is not None and scores.high is not None:
        std = (scores.high - scores.low) / (2 * Z)
    for j in columns:
        present = np.flatnonzero(np.isfinite(study.values[:, j]))
        if len(present) < _LEAST_MODELS:
            continue
        covariance = errors.covariance[np.ix_(present, present)].astype(np.float64)
        if std is not None:
            covariance = value_covariance(covariance, mean[present, j], std[present, j], errors.spread_error)
        noise = np.nan_to_num(study.spread[present, j]) if study.spread is not None else np.zeros(len(present))
        seconds = np.nan_to_num(cheap_seconds[present, j])
        for repeat in range(settings.repeats):
            rng = np.random.default_rng([study.seed, int(j), repeat])
            truth = study.values[present, j].astype(np.float64)
            observed = np.clip(truth + noise / np.sqrt(settings.draws) * rng.normal(size=len(present)), 0.0, 1.0)
            if settings.judge_draws:
                truth = truth + noise / np.sqrt(settings.judge_draws) * rng.normal(size=len(present))
            candidates = Candidates(
                truth=truth,
                observed=observed,
                mean=mean[present, j].astype(np.float64),
                covariance=covariance,
                probe_seconds=settings.probe_cost * seconds,
                cheap=cheap[present, j].astype(np.float64),
                cheap_seconds=seconds,
            )
            for policy in POLICIES:
                if policy == "active_two_fidelities" and errors.fidelity is None:
                    continue
                if policy in ("cheap_score_all", "successive_halving") and not np.isfinite(candidates.cheap).any():
                    continue
                outcomes = simulate(
                    candidates,
                    policy,
                    budgets,
                    rng,
                    noise_std=errors.noise_std / np.sqrt(settings.draws),
                    fidelity=errors.fidelity,
                )
                for number, outcome in zip(budgets, outcomes, strict=False):
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
            name: cluster_bootstrap(part[name], list(part["family"]), draws=bootstrap, seed=study.seed).as_dict()
            for name in measured
        }
    paired: dict[str, dict[str, Any]] = {}
    for number in budgets:
        at = {str(p): part.set_index("dataset_id") for p, part in table[table["budget"] == number].groupby("policy")}
        for other in ("cheap_score_all", "prior_top"):
            if other in at:
                rest = at[other].reindex(at["active"].index)
                paired.setdefault(other, {})[str(number)] = {
                    name: paired_difference(
                        at["active"][name], rest[name], list(at["active"]["family"]), draws=bootstrap, seed=study.seed
                    ).as_dict()
                    for name in ("regret@1", "weighted_tau")
                }
    return {
        "frontier": frontier,
        "shares": shares,
        "paired": paired,
        "n_datasets": int(table["dataset_id"].nunique()),
        "n_candidates": size,
        "tasks_of_the_error_model": errors.n_tasks,
    }
