"""What a backbone is: a pre-trained network as a feature extractor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

Triple = tuple[float, float, float]

#: Mean and standard deviation of ImageNet's colours, for models whose files name none.
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


@dataclass
class Backbone:
    """A network that turns images into feature vectors.

    Attributes:
        model_id: The manifest's name of the model.
        network: The network, in evaluation mode.
        features: ``(B, 3, H, W)`` normalised images, float32, to ``(B, D)`` features: what the network's own classifier
            sees, or for an image-text model its image embedding before normalisation. Gradients flow through it.
        head: ``(B, D)`` features to ``(B, K)`` logits of the classes that the model was trained on; None without one.
        n_features: ``D``.
        input_size: Height and width of the images, in pixels.
        mean: Mean of each colour channel, on a scale of 0 to 1, that is taken from an image.
        std: What each channel is divided by after that.
    """

    model_id: str
    network: nn.Module
    features: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor] | None
    n_features: int
    input_size: int
    mean: Triple
    std: Triple


def feature_width(features: Callable[[Tensor], Tensor], size: int, device: str = "cpu") -> int:
    """Number of features, D, found by one pass.

    Args:
        features: (B, 3, H, W) images to (B, D) features.
        size: Height and width of the images, in pixels.
        device: Where the network is.
    """
    import torch

    with torch.inference_mode():
        return int(features(torch.zeros(1, 3, size, size, device=device)).shape[-1])
