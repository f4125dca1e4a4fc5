"""What a backbone is: a pre-trained network as a feature extractor, and what must hold before it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from thesis_rec.base.errors import ItemError
from thesis_rec.models.preparation import Preparation

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class Backbone:
    """A network that turns images into feature vectors.

    Attributes:
        model_id: The manifest's name of the model.
        network: The network, in evaluation mode.
        features: ``(B, 3, H, W)`` normalised images, float32, to ``(B, D)`` features: what the network's own classifier
            sees, or for an image-text model its image embedding before normalisation. Gradients flow through it.
        head: ``(B, D)`` features to ``(B, K)`` logits of the classes that the model was trained on; None without one.
        preparation: How pictures become images.
    """

    model_id: str
    network: nn.Module
    features: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor] | None
    preparation: Preparation

    @property
    def input_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.preparation.size

    @cached_property
    def n_features(self) -> int:
        """``D``: what a linear head takes, else found by one pass."""
        import torch

        if isinstance(known := getattr(self.head, "in_features", None), int):
            return known
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            return int(self.features(torch.zeros(1, 3, self.input_size, self.input_size, device=device)).shape[-1])


def check_repeatable(backbone: Backbone) -> None:
    """Pass an image twice.

    Raises:
        ItemError: If the features differ: something in the network is drawn at random.
    """
    import torch

    size = backbone.input_size
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first, second = backbone.features(image), backbone.features(image)
    if not torch.allclose(first, second, rtol=1e-4, atol=1e-5 * float(first.abs().amax()), equal_nan=True):
        text = f"Two passes of one image differ by up to {float((first - second).abs().max()):.2g}: it draws at random."
        hint = "Switch that off in its configuration (masking, drop-out, noise), or leave the model out."
        raise ItemError(backbone.model_id, text, hint)
