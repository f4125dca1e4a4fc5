"""Networks whose weights are published as bare state dicts and that no library builds.

Each module holds one family: a network whose widths and depths are read from the state dict, so that a checkpoint needs
no configuration beside it. A new one is a class with ``features`` (and ``head`` where it classifies), a function from
a state dict to it, and an entry in :data:`ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from thesis_rec.models.architectures import cifar_resnet, conv4, dicenet, espnetv2
from thesis_rec.models.preparation import IMAGENET_MEAN, IMAGENET_STD, Triple

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """How a state dict becomes a network.

    Attributes:
        build: A network of the state dict's sizes, its weights not loaded yet.
        input_size: Side of the images that it is given, in pixels, from the state dict.
        prefix: What stands before the names of the tensors that count; the others are left out.
        mean: Mean of each colour channel that it was trained with.
        std: What each channel was divided by.
    """

    build: Callable[[State], Any]
    input_size: Callable[[State], int]
    prefix: str = ""
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD


#: By the manifest's ``loader`` column.
ARCHITECTURES: dict[str, Architecture] = {
    "cifar_resnet": Architecture(cifar_resnet.build, lambda state: 32),
    # The statistics of Omniglot, which the authors used for mini-ImageNet too.
    "conv4": Architecture(conv4.build, conv4.input_size, mean=(0.92206,) * 3, std=(0.08426,) * 3),
    # Trained on crops of 256 pixels with several objects each; an image of one object fills a part of that.
    "espnetv2": Architecture(espnetv2.build, lambda state: 128, prefix="base_net."),
    "dicenet": Architecture(dicenet.build, lambda state: 128, prefix="base_net."),
}

__all__ = ["ARCHITECTURES", "Architecture"]
