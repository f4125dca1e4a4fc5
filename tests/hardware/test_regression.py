"""The regression of a figure on counts."""

import numpy as np
import pytest

from thesis_rec.hardware import regression


def test_leaving_a_family_out_by_sums_equals_fitting_without_its_rows():
    rng = np.random.default_rng(0)
    x, families = rng.normal(5, 2, (60, 4)), np.repeat(np.arange(12), 5)
    y = x @ rng.normal(size=4) + rng.normal(size=60)
    columns = [0, 2, 3]
    found = regression._without_each_group(x, y, families)(tuple(columns), regression.PENALTIES)
    for penalty, row in zip(regression.PENALTIES, found, strict=True):
        for family in np.unique(families):
            test = families == family
            mean, scale, weights, intercept = regression._ridge(x[~test][:, columns], y[~test], penalty)
            assert row[test] == pytest.approx(intercept + (x[test][:, columns] - mean) / scale @ weights)
