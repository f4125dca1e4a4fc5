"""Residual networks for images of 32 pixels: He et al., "Deep residual learning for image recognition", 2016, 4.2.

Three stages of 16, 32 and 64 channels, shortcuts without weights ("option A"), 6n+2 layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

_WIDTHS = (16, 32, 64)


class CifarResNet(nn.Module):
    """A residual network for small images.

    Args:
        blocks: Residual blocks in each of the three stages.
        n_classes: Number of classes.
    """

    def __init__(self, blocks: Sequence[int], n_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.layer1 = _stage(_WIDTHS[0], _WIDTHS[0], blocks[0])
        self.layer2 = _stage(_WIDTHS[0], _WIDTHS[1], blocks[1])
        self.layer3 = _stage(_WIDTHS[1], _WIDTHS[2], blocks[2])
        self.linear = nn.Linear(_WIDTHS[2], n_classes)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) images to (B, 64) features, what the classifier sees."""
        x = torch.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return x.mean((2, 3))

    def head(self, features: Tensor) -> Tensor:
        """(B, 64) features to (B, K) logits."""
        return self.linear(features)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) images to (B, K) logits."""
        return self.head(self.features(images))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.padding = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            # Every other pixel, and channels of zeros on both sides.
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return torch.relu(x + y)


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(inputs if i == 0 else outputs, outputs) for i in range(blocks)))


def build(state: Mapping[str, Tensor]) -> CifarResNet:
    """A network of a state dict's depth.

    Raises:
        KeyError: If the state dict isn't one of this architecture.
    """
    counts = [len({name.split(".")[1] for name in state if name.startswith(f"layer{i}.")}) for i in (1, 2, 3)]
    return CifarResNet(counts, len(state["linear.weight"]))
