"""The models that aren't beaten in both cost and value."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pareto_front(cost: ArrayLike, value: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point dominates: cheaper or equal and better or equal, and one of the two strictly.

    Args:
        cost: (N,) lower is better; NaN never belongs to the front.
        value: (N,) higher is better; NaN never belongs to the front.

    Returns:
        (N,) mask. Equal points are on the front together or not at all.
    """
    costs, values = np.asarray(cost, dtype=float), np.asarray(value, dtype=float)
    front = np.zeros(len(costs), dtype=bool)
    valid = np.flatnonzero(~(np.isnan(costs) | np.isnan(values)))
    # By rising cost, the best first among equally cheap ones: the front is what is better than all before.
    order = valid[np.lexsort((-values[valid], costs[valid]))]
    best, best_cost = -np.inf, np.nan
    for index in order:
        if values[index] > best:
            best, best_cost = values[index], costs[index]
            front[index] = True
        elif values[index] == best and costs[index] == best_cost:
            front[index] = True
    return front
