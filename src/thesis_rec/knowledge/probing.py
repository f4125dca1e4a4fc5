"""Which candidate to try next: the one that promises most for what it costs.

The first try is the candidate that is expected to be best: it settles how hard the dataset is, and is often the answer.
Each later one has the highest expected improvement over the best tried (Jones et al., "Efficient global optimization
of expensive black-box functions", 1998). What counts is the uncertainty of the *difference* between the two, so that an
unknown level that all candidates share invites no tries. Costs count by a share of their logarithm: a candidate that is
ten times as dear must promise several times as much.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from thesis_rec.knowledge.posterior import TARGET, Posterior, expected_improvement


def next_probe(
    posterior: Posterior, costs: Mapping[str, float] | None = None, share: float = 0.5, skip: Collection[str] = ()
) -> str | None:
    """The candidate to try next, or None where all were tried.

    Args:
        posterior: What is believed after the tries so far.
        costs: What a try of each candidate costs, in any unit above 0; candidates without one cost as much as the
            dearest. None: all cost the same.
        share: Power of the cost by which the promise is divided; 0 ignores costs, 1 asks for the most per second.
        skip: Candidates that can't be tried.

    Raises:
        ValueError: If a cost isn't above 0.
    """
    names = posterior.model_ids
    row_of = {name: row for row, name in enumerate(names)}
    tried = sorted({row_of[cell.model_id] for cell in posterior.cells if cell.protocol == TARGET})
    closed = {*tried, *(row_of[name] for name in skip if name in row_of)}
    free = np.array([row for row in range(len(names)) if row not in closed], dtype=int)
    if not len(free):
        return None
    mean = posterior.mean
    if tried:
        best = tried[int(np.argmax(mean[tried]))]
        apart = posterior.factor[free] - posterior.factor[best]
        deviation = np.sqrt(np.square(apart).sum(1) + posterior.own[free] + posterior.own[best])
        promise = np.log(expected_improvement(mean[free], deviation, float(mean[best])) + 1e-300)
    else:
        # Over the middle candidate, which a user without any knowledge would take.
        gain = mean[free] - np.median(mean[free])
        promise = np.log(np.maximum(gain, 1e-12 + 1e-9 * np.ptp(mean[free])))
    if costs is not None:
        given = np.array([costs.get(names[row], np.nan) for row in free], dtype=np.float64)
        if np.any(given <= 0):
            raise ValueError(f"the cost of {names[free[int(np.nanargmin(given))]]} isn't above 0")
        if np.isfinite(given).any():
            promise = promise - share * np.log(np.where(np.isfinite(given), given, np.nanmax(given)))
    return names[int(free[np.lexsort((-mean[free], -promise))[0]])]
