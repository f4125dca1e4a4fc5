"""Divisions of points into clusters."""

from __future__ import annotations

import numpy as np

from thesis_rec.models import k_link_path


def test_one_price_for_two_numbers_of_clusters_is_spliced():
    fewer, more = np.array([0, 5, 10]), np.array([0, 2, 5, 7, 10])
    spliced = k_link_path._splice(fewer, more, 3)
    assert spliced.tolist() in ([0, 2, 5, 10], [0, 5, 7, 10])
