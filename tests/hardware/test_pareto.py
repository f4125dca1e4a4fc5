from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_rec.hardware.pareto import pareto_front

points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25)


# A busy machine is no error.
@settings(deadline=None)
@given(points)
def test_front_is_what_no_point_dominates(found):
    cost = np.array([c for c, _ in found], dtype=float)
    value = np.array([v for _, v in found], dtype=float)
    expected = [
        not any((c2 <= c and v2 >= v) and (c2 < c or v2 > v) for c2, v2 in found) for c, v in found
    ]  # fmt: skip
    assert pareto_front(cost, value).tolist() == expected


def test_unknown_figures_are_never_on_the_front():
    assert pareto_front([1.0, np.nan, 3.0], [0.1, 0.9, np.nan]).tolist() == [True, False, False]
