"""Initial weights of the networks."""

import torch

from thesis_rec.starter.architectures import ARCHITECTURES
from thesis_rec.starter.construction import build

NAMES = ["round", "square", "long"]


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    first = build(ARCHITECTURES["vit_a"], NAMES, 3).state_dict()
    torch.manual_seed(6)
    second = build(ARCHITECTURES["vit_a"], NAMES, 3).state_dict()
    other = build(ARCHITECTURES["vit_a"], NAMES, 4).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
