"""Which candidate to try next: the one that promises most for what it costs.

The first try is the candidate that is expected to be best. The second is one of those, if there are any, of whose like
nothing is known: nothing but a try says what they do. Until :data:`FIRST` were made, tries settle how hard the
dataset is and which kinds of models suit it: each is the candidate with the highest mean, with an allowance for what is
uncertain of its kind. Only what a candidate has in common with others counts there, since that is what a try teaches of
the rest; what is uncertain of one model alone would draw tries to models of which little is known. Each later one has
the highest expected improvement over the best tried (Jones et al., "Efficient global optimization of expensive
black-box functions", 1998), with deviations made smaller: a few tries don't pay for long shots. What counts is always
the uncertainty of the *difference* to the best tried, so that an unknown level that all candidates share invites no
tries. Costs count by a share of their logarithm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from thesis_rec.knowledge.posterior import TARGET, Posterior, expected_improvement

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
    """The candidate to try next, or None where all were tried.

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
