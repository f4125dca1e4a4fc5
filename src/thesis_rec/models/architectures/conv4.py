"""The four convolutions of few-shot learning: Sung et al., "Learning to compare", 2018.

Two blocks with max-pooling and two without; the feature map is averaged over its positions.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

_OMNIGLOT_SIZE, _MINI_IMAGENET_SIZE = 28, 84


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


def build(state: Mapping[str, Tensor]) -> Conv4:
    """A network of a state dict's sizes.

    Raises:
        KeyError: If the state dict isn't one of this architecture.
    """
    width, channels = state["layer1.0.weight"].shape[:2]
    return Conv4(channels, width)


def input_size(state: Mapping[str, Tensor]) -> int:
    """Grey networks were trained on Omniglot at 28 pixels, the others on mini-ImageNet at 84."""
    return _OMNIGLOT_SIZE if state["layer1.0.weight"].shape[1] == 1 else _MINI_IMAGENET_SIZE
