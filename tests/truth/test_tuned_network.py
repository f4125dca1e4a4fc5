"""Models that can share captured steps."""

from __future__ import annotations

from torch import nn

from tests.truth.small_tasks import backbone
from thesis_rec.truth.tuned_network import feature_weights, shape_key


def test_models_that_differ_in_their_source_head_share_captured_steps():
    first, second = backbone(), backbone(1)
    second.network.classifier = second.head = nn.Linear(8, 9)
    assert shape_key(first) == shape_key(second)
    assert not any("classifier" in key for key in feature_weights(second))
    third = backbone()
    third.network.body[0] = nn.Conv2d(3, 9, 4, 4)
    assert shape_key(first) != shape_key(third)
