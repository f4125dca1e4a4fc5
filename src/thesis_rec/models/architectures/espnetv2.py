"""The encoder of ESPNetv2: Mehta et al., "ESPNetv2: a light-weight, power efficient, general purpose network", 2019.

Blocks reduce the channels, look at the result with dilated depth-wise convolutions side by side, and join what these
see. What is built here ends after the fourth level, as in segmentation networks, whose decoder is left out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

_BRANCHES = 4
#: Largest dilation of the down-sampling block and of the other blocks of the levels 2, 3 and 4.
_DILATIONS = {"level2_0": 6, "level3_0": 5, "level3": 4, "level4_0": 4, "level4": 3}


class ESPNetv2(nn.Module):
    """Levels 1 to 4 of ESPNetv2.

    Args:
        widths: Channels after each level.
        blocks: Blocks of the levels 3 and 4 behind their down-sampling.
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.level1 = _conv(3, widths[0], 3, stride=2)
        self.level2_0 = _DownSample(widths[0], widths[1], _DILATIONS["level2_0"])
        self.level3_0 = _DownSample(widths[1], widths[2], _DILATIONS["level3_0"])
        self.level3 = nn.Sequential(*(_Block(widths[2], widths[2], _DILATIONS["level3"]) for _ in range(blocks[0])))
        self.level4_0 = _DownSample(widths[2], widths[3], _DILATIONS["level4_0"])
        self.level4 = nn.Sequential(*(_Block(widths[3], widths[3], _DILATIONS["level4"]) for _ in range(blocks[1])))

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images to (B, width of level 4) features, averaged over positions."""
        return self.forward(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images to a feature map (B, C, H / 16, W / 16)."""
        x = self.level2_0(self.level1(images), images)
        x = self.level3(self.level3_0(x, images))
        return self.level4(self.level4_0(x, images))


class _Block(nn.Module):
    """Reduce, split into dilated branches, fuse, merge."""

    def __init__(self, inputs: int, outputs: int, largest: int, stride: int = 1) -> None:
        super().__init__()
        width = outputs // _BRANCHES
        # Branches see 3, 5, 7 ... pixels; those beyond the level's limit fall back to 3.
        dilations = sorted(d if d <= largest else 1 for d in range(1, _BRANCHES + 1))
        self.proj_1x1 = _conv(inputs, width, 1, groups=_BRANCHES)
        self.spp_dw = nn.ModuleList(
            nn.Sequential(OrderedDict(conv=nn.Conv2d(width, width, 3, stride, d, dilation=d, groups=width, bias=False)))
            for d in dilations
        )
        self.br_after_cat = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(outputs), act=nn.PReLU(outputs)))
        self.conv_1x1_exp = _conv(outputs, outputs, 1, groups=_BRANCHES, activation=False)
        self.module_act = nn.PReLU(outputs)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.proj_1x1(x)
        seen: list[Tensor] = []
        for branch in self.spp_dw:
            # Hierarchical fusion: each branch is added to the sum of the smaller ones, against gridding.
            found = branch(reduced)
            seen.append(found + seen[-1] if seen else found)
        merged: Tensor = self.conv_1x1_exp(self.br_after_cat(torch.cat(seen, 1)))
        if self.stride > 1:
            # The block that down-samples adds the pooled input and activates the sum itself.
            return merged
        return self.module_act(merged + x if merged.shape == x.shape else merged)


class _DownSample(nn.Module):
    """Half the side: a strided block beside average pooling, with the image itself mixed in."""

    def __init__(self, inputs: int, outputs: int, largest: int) -> None:
        super().__init__()
        self.eesp = _Block(inputs, outputs - inputs, largest, stride=2)
        self.avg = nn.AvgPool2d(3, stride=2, padding=1)
        self.inp_reinf = nn.Sequential(_conv(3, 3, 3), _conv(3, outputs, 1, activation=False))
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        pooled = self.avg(x)
        joined = torch.cat([pooled, self.eesp(x)], 1)
        while image.shape[2] > pooled.shape[2]:
            image = self.avg(image)
        return self.act(joined + self.inp_reinf(image))


def _conv(
    inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        bn=nn.BatchNorm2d(outputs),
    )
    if activation:
        parts["act"] = nn.PReLU(outputs)
    return nn.Sequential(parts)


def build(state: Mapping[str, Tensor]) -> ESPNetv2:
    """A network of a state dict's sizes.

    Raises:
        KeyError: If the state dict isn't one of this architecture.
    """
    names = ("level1.act.weight", "level2_0.act.weight", "level3_0.act.weight", "level4_0.act.weight")
    blocks = [len({name.split(".")[1] for name in state if name.startswith(f"level{i}.")}) for i in (3, 4)]
    return ESPNetv2([len(state[name]) for name in names], blocks)
