"""Counts are those of paper and pencil."""

from __future__ import annotations

import pytest

from tests.hardware.small_backbone import backbone
from thesis_rec.hardware.counts import MIB, describe_backbone


def test_counts_are_those_of_paper_and_pencil():
    found = describe_backbone(backbone(width=4, size=8))
    assert found.n_parameters == 4 * 3 * 9 + 4 + 4 + 4
    assert found.macs == 8 * 8 * 4 * 3 * 9
    # Convolution, normalisation and ReLU each make 4 x 8 x 8 floats; flattening makes none.
    assert found.activation_mb * MIB == pytest.approx(3 * 4 * 4 * 8 * 8, rel=0.05)
    assert found.n_operations == 3
    # The Sequential frees the input of a layer only when the next result exists: two alive at once.
    assert found.peak_activation_mb * MIB == pytest.approx(2 * 4 * 4 * 8 * 8, rel=0.05)
    assert found.weight_mb * MIB == 4 * (found.n_parameters + 4 + 4) + 8
