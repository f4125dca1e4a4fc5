"""What a backbone is: a pre-trained network as a feature extractor, and what must hold before it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from thesis_rec.base.errors import ItemError
from thesis_rec.models.preparation import Preparation

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Mean difference, in standard deviations of the input, above which two preparations differ by more than rounding.
_DISAGREE = 0.1


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


def check_preparation(backbone: Backbone, library: Callable[[Image.Image], Tensor]) -> None:
    """Feed a picture both ways.

    Args:
        backbone: The model, its preparation ours.
        library: The library's own way: a picture to the network's input, (C, H, W) or (1, C, H, W).

    Raises:
        ItemError: If the two differ by more than rounding does.
    """
    import torch

    side = backbone.input_size + backbone.input_size // 4 + 3
    ramp = np.linspace(30, 220, side)
    # Smooth, so that filters hardly matter; colours and directions all different.
    colours = [np.add.outer(ramp, 0 * ramp), np.add.outer(0 * ramp, ramp) / 2, np.add.outer(ramp, ramp[::-1]) / 3]
    picture = np.stack(colours, axis=-1).round().astype(np.uint8)  # (side, side, 3)
    ours = backbone.preparation.on("cpu")(torch.from_numpy(picture).permute(2, 0, 1)[None].float())[0]
    theirs = library(Image.fromarray(picture))
    theirs = theirs[0] if theirs.ndim == 4 else theirs
    difference = float("inf") if theirs.shape != ours.shape else float((ours - theirs).abs().mean() / ours.std())
    if not difference <= _DISAGREE:
        shape = " x ".join(map(str, theirs.shape))
        how = f"input {shape}, off by {difference:.2g} deviations"
        text = f"Its library prepares images in a way that isn't supported ({how})."
        raise ItemError(backbone.model_id, text, "Choose another model.")
