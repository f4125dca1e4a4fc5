"""The encoder of DiCENet: Mehta et al., "DiCENet: dimension-wise convolutions for efficient networks", 2021.

A depth-wise convolution along each of the three dimensions of a feature map (channels, height, width), and a learned
mixture of the three. What is built here ends after the fourth level, as in segmentation networks, whose decoder is left
out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class DiCENet(nn.Module):
    """Levels 1 to 4 of DiCENet.

    Args:
        stem: Channels after level 1.
        widths: Channels after the levels 3 and 4.
        sides: Side of the feature maps of the levels 3 and 4 for which the filters along height and width were made.
        blocks: Blocks of the levels 3 and 4 behind their down-sampling.
    """

    def __init__(self, stem: int, widths: Sequence[int], sides: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.level1 = _conv(3, stem, 3, stride=2)
        self.level2 = nn.MaxPool2d(3, stride=2, padding=1)
        self.level3 = _level(stem, widths[0], sides[0], blocks[0])
        self.level4 = _level(widths[0], widths[1], sides[1], blocks[1])

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images to (B, width of level 4) features, averaged over positions."""
        return self.forward(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images to a feature map (B, C, H / 16, W / 16)."""
        return self.level4(self.level3(self.level2(self.level1(images))))


def _level(inputs: int, outputs: int, side: int, blocks: int) -> nn.Sequential:
    first = _Shuffled(2 * inputs, outputs, side)
    others = (_Shuffled(outputs, outputs, side) for _ in range(blocks - 1))
    return nn.Sequential(_Strided(inputs, side), first, *others)


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, PReLU."""
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(cbr=nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.PReLU(outputs))))


class _DimensionWise(nn.Module):
    """Filters along channels, height and width, mixed channel by channel and gated by the whole map."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.conv_channel = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.conv_width = nn.Conv2d(side, side, 3, padding=1, groups=side, bias=False)
        self.conv_height = nn.Conv2d(side, side, 3, padding=1, groups=side, bias=False)
        self.br_act = nn.Sequential(OrderedDict(br=nn.Sequential(nn.BatchNorm2d(3 * width), nn.PReLU(3 * width))))
        self.weight_avg_layer = _conv(3 * width, width, 1, groups=width)
        self.proj_layer = _conv(width, width, 3, groups=width)
        self.linear_comb_layer = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // 4, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width // 4, width, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        along = [self.conv_channel(x), self._along(x, self.conv_height, 2), self._along(x, self.conv_width, 3)]
        mixed = self.weight_avg_layer(_shuffle(self.br_act(torch.cat(along, 1)), 3))
        return self.proj_layer(mixed) * self.linear_comb_layer(mixed)

    def _along(self, x: Tensor, convolution: nn.Conv2d, axis: int) -> Tensor:
        # The filters belong to fixed places along the axis, so the map is brought to their number and back.
        size = (x.shape[2], x.shape[3])
        wanted = (self.side, size[1]) if axis == 2 else (size[0], self.side)
        found: Tensor = convolution(_resized(x, wanted).transpose(1, axis)).transpose(1, axis)
        return _resized(found, size)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[2:]) == size:
        return x
    if size[0] >= x.shape[2] and size[1] >= x.shape[3]:
        return nn.functional.interpolate(x, size, mode="bilinear", align_corners=True)
    return nn.functional.adaptive_avg_pool2d(x, size)


class _Strided(nn.Module):
    """Half the side, twice the channels."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.left_layer = nn.Sequential(_conv(width, width, 3, stride=2, groups=width), _conv(width, width, 1))
        self.right_layer = nn.Sequential(
            nn.AvgPool2d(3, stride=2, padding=1), _DimensionWise(width, side), _conv(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return _shuffle(torch.cat([self.left_layer(x), self.right_layer(x)], 1), 2)


class _Shuffled(nn.Module):
    """Half of the channels pass, the other half is transformed."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.kept = round(0.5 * inputs)
        width = outputs - self.kept
        self.layer_right = nn.Sequential(_conv(inputs - self.kept, width, 1), _DimensionWise(width, side))

    def forward(self, x: Tensor) -> Tensor:
        return _shuffle(torch.cat([x[:, : self.kept], self.layer_right(x[:, self.kept :])], 1), 2)


def _shuffle(x: Tensor, groups: int) -> Tensor:
    """Channels of ``groups`` groups in turn."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def build(state: Mapping[str, Tensor]) -> DiCENet:
    """A network of a state dict's sizes.

    Raises:
        KeyError: If the state dict isn't one of this architecture.
    """
    stem = len(state["level1.cbr.2.weight"])
    widths, sides, blocks = [], [], []
    previous = stem
    for level in (3, 4):
        right = state[f"level{level}.1.layer_right.0.cbr.0.weight"]
        widths.append(previous + len(right))
        sides.append(len(state[f"level{level}.1.layer_right.1.conv_height.weight"]))
        blocks.append(len({name.split(".")[1] for name in state if name.startswith(f"level{level}.")}) - 1)
        previous = widths[-1]
    return DiCENet(stem, widths, sides, blocks)
