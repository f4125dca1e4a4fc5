"""Pooling and depths of networks of any library."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")


def test_pooling():
    from thesis_rec.images.encoders.torch_encoder import pooled

    tokens = torch.arange(24.0).view(2, 3, 4)
    assert torch.equal(pooled(tokens, 2), tokens.mean(1))
    assert torch.equal(pooled(tokens.transpose(0, 1), 2), tokens.mean(1))
    assert torch.equal(pooled(tokens.view(2, 3, 2, 2), 2), tokens.view(2, 3, 4).mean(2))
    assert pooled(tokens[:, 0], 2).shape == (2, 4)


def test_depths_of_a_network_that_is_a_stack_itself():
    from torch import nn

    from thesis_rec.images.encoders.torch_encoder import TorchEncoder
    from thesis_rec.models.backbone import Backbone, Preparation

    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Conv2d(2, 5, 3), nn.Flatten(), nn.Linear(80, 7))
    encoder = TorchEncoder(Backbone("stack", network, network, None, Preparation(8)))
    features, layers = encoder.encode_depths(np.zeros((3, 3, 8, 8), np.float32), 4)
    assert features.shape == (3, 7)
    assert [layer.shape[1] for layer in layers] == [2, 5, 80, 7]
