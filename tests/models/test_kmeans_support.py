"""The histogram that stands for a tensor's values."""

from __future__ import annotations

import numpy as np
import pytest

from thesis_rec.models.kmeans_support import bins_as_support, count_bins, count_finer


@pytest.mark.parametrize("finer", [0, 1, 5, 16])
def test_histogram_bins_are_ordered_and_exact(finer):
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    bits = values.view(np.uint32)
    bins, counts, lower = count_bins(bits)
    prefixes = bins << np.uint32(16)
    if finer:
        prefixes, counts, lower = count_finer(bits, bins, finer)
    support, weights, width = bins_as_support(prefixes, counts, lower, 16 - finer)
    assert (np.diff(support) > 0).all()
    assert weights.sum() == values.size
    assert (support * weights).sum() == pytest.approx(values.astype(np.float64).sum(), abs=1e-9)
    assert width.max() <= np.abs(values).max() / 64 / 2**finer * 1.01
    if finer == 16:
        np.testing.assert_array_equal(support, np.unique(values))
