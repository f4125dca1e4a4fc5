"""The networks of bare state dicts built of modules, as their authors build them, to compare with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

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


class _Residual(nn.Module):
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
    return nn.Sequential(*(_Residual(inputs if i == 0 else outputs, outputs) for i in range(blocks)))


class Conv4(nn.Module):
    """Four blocks of convolution, batch normalisation and ReLU.

    Args:
        channels: Channels of the images; one means grey, to which colours are averaged.
        width: Channels of every block.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.layer1 = nn.Sequential(*_block(channels, width, 0), nn.MaxPool2d(2))
        self.layer2 = nn.Sequential(*_block(width, width, 0), nn.MaxPool2d(2))
        self.layer3 = nn.Sequential(*_block(width, width, 1))
        self.layer4 = nn.Sequential(*_block(width, width, 1))

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images to (B, width) features."""
        return self.forward(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images to a feature map (B, width, h, w)."""
        x = images if self.channels == images.shape[1] else images.mean(1, keepdim=True)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def _block(inputs: int, outputs: int, padding: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=padding), nn.BatchNorm2d(outputs), nn.ReLU()


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
        self.level1 = _joined(3, stem, 3, stride=2)
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


def _joined(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
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
        self.weight_avg_layer = _joined(3 * width, width, 1, groups=width)
        self.proj_layer = _joined(width, width, 3, groups=width)
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
        self.left_layer = nn.Sequential(_joined(width, width, 3, stride=2, groups=width), _joined(width, width, 1))
        self.right_layer = nn.Sequential(
            nn.AvgPool2d(3, stride=2, padding=1), _DimensionWise(width, side), _joined(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return _shuffle(torch.cat([self.left_layer(x), self.right_layer(x)], 1), 2)


class _Shuffled(nn.Module):
    """Half of the channels pass, the other half is transformed."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.kept = round(0.5 * inputs)
        width = outputs - self.kept
        self.layer_right = nn.Sequential(_joined(inputs - self.kept, width, 1), _DimensionWise(width, side))

    def forward(self, x: Tensor) -> Tensor:
        return _shuffle(torch.cat([x[:, : self.kept], self.layer_right(x[:, self.kept :])], 1), 2)


def _shuffle(x: Tensor, groups: int) -> Tensor:
    """Channels of ``groups`` groups in turn."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


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
