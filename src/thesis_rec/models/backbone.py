"""What a backbone is: a pre-trained network as a feature extractor, and how pictures become what it was trained on.

A network that is fed otherwise (other colours' order, other mean, another resize) still gives features, and worse ones.
Libraries have dozens of settings for it, and architectures with ways of their own. So nothing is translated: what a
library makes of a few pictures tells a few numbers, which are applied to whole batches on any device, and a picture
that goes both ways must come out alike before a model is used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

Triple = tuple[float, float, float]
Fit = Literal["crop", "stretch", "pad"]
Interpolation = Literal["bilinear", "bicubic", "nearest-exact"]

#: Mean and standard deviation of ImageNet's colours, for models whose files name none.
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
#: Weights of red, green and blue in a grey picture (ITU-R 601), which Pillow's mode ``L`` uses.
LUMA: Triple = (0.299, 0.587, 0.114)

# Mean difference, in standard deviations of the input, above which two preparations differ by more than rounding.
_DISAGREE = 0.1


@dataclass(frozen=True)
class Preparation:
    """How pictures become a network's input.

    Attributes:
        size: Height and width of the input, in pixels.
        resize_to: Side that a picture is resized to before ``size`` is cut out of its middle; None for no resizing.
        fit: Which side that is: the shorter one (``crop``), both (``stretch``) or the longer one (``pad``, black).
        interpolation: All but ``nearest-exact`` with antialiasing.
        mean: Mean of each colour channel, on a scale of 0 to 1, that is taken from an image.
        std: What each channel is divided by after that.
        bgr: Whether the network sees blue, green, red. Mean and std are in the network's order.
        floor: Whether half of an odd margin is rounded down (transformers) instead of to even (torchvision).
    """

    size: int
    resize_to: int | None = None
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    bgr: bool = False
    floor: bool = False

    def on(self, device: Any) -> Callable[[Tensor], Tensor]:
        """The function itself: (B, 3, H, W) floats 0..255 on ``device`` to (B, 3, size, size) normalised ones."""
        mean = torch.tensor(self.mean, device=device).view(1, 3, 1, 1) * 255.0
        std = torch.tensor(self.std, device=device).view(1, 3, 1, 1) * 255.0

        def prepare(pixels: Tensor) -> Tensor:
            shaped = self._shaped(pixels)
            return ((shaped.flip(1) if self.bgr else shaped) - mean) / std

        return prepare

    def _shaped(self, pixels: Tensor) -> Tensor:
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as pictures

        height, width = pixels.shape[-2:]
        if self.resize_to is not None:
            scale = self.resize_to / (max if self.fit == "pad" else min)(height, width)
            target = [self.resize_to, self.resize_to]
            if self.fit != "stretch":
                rounded = round if self.fit == "pad" else lambda side: int(side + 1e-6)
                target = [max(1, rounded(side * scale)) for side in (height, width)]
            # Bicubic overshoots.
            pixels = pictures.resize(pixels, target, InterpolationMode(self.interpolation)).clamp(0, 255)
        if self.floor:
            height, width = (side - max(side - self.size, 0) % 2 for side in pixels.shape[-2:])
            pixels = pixels[..., :height, :width]
        return pictures.center_crop(pixels, [self.size, self.size])


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
        if isinstance(known := getattr(self.head, "in_features", None), int):
            return known
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            return int(self.features(torch.zeros(1, 3, self.input_size, self.input_size, device=device)).shape[-1])


def check_repeatable(backbone: Backbone) -> None:
    """Pass an image twice.

    Raises:
        ValueError: If the features differ: something in the network is drawn at random.
    """
    size = backbone.input_size
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first, second = backbone.features(image), backbone.features(image)
    if not torch.allclose(first, second, rtol=1e-4, atol=1e-5 * float(first.abs().amax()), equal_nan=True):
        gap = float((first - second).abs().max())
        raise ValueError(f"two passes of one image differ by up to {gap:.2g}: masking, drop-out or noise is on")


def preparation_of(library: Callable[[Image.Image], Tensor]) -> Preparation:
    """What a library does, told by what it makes of pictures.

    Plain ones tell the colours, a ramp the size before cropping. Of what remains that is taken which comes nearest.

    Args:
        library: A picture to the network's input, (3, H, W) or (1, 3, H, W).

    Raises:
        ValueError: If the input isn't square, or no preparation makes nearly the same of a smooth picture.
    """

    def given(pixels: NDArray[Any]) -> Tensor:
        found = library(Image.fromarray(pixels.round().astype(np.uint8)))
        return found.reshape(found.shape[-3:])

    def off(preparation: Preparation, pixels: NDArray[Any], expected: Tensor) -> float:
        """Mean difference in standard deviations."""
        ours = preparation.on("cpu")(torch.from_numpy(pixels.round()).permute(2, 0, 1)[None].float())[0]
        return float((ours - expected).abs().mean() / ours.std()) if ours.shape == expected.shape else np.inf

    def nearest(start: Preparation, pictures: list[NDArray[Any]], **options: Sequence[Any]) -> Preparation:
        # Where nothing is cropped a library may keep proportions, which square pictures don't show.
        pairs = [(one, expected) for one in pictures if (expected := given(one)).shape[1:] == (size, size)]
        tried = [replace(start, **dict(zip(options, values, strict=True))) for values in product(*options.values())]
        return min(tried, key=lambda one: sum(off(one, *pair) for pair in pairs))

    plain = [given(np.full((64, 64, 3), colour)) for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0))]
    height, width = plain[0].shape[1:]
    if height != width:
        raise ValueError(f"its input is not square ({height} x {width} pixels), and only square ones are supported")
    size = int(width)
    black, white, red = (image[:, size // 2, size // 2].double() for image in plain)
    std = 1 / (white - black)
    side = size * 3 // 2 + 5
    ramp = np.broadcast_to(np.linspace(0, 255, side)[:, None], (side, side, 3))
    slope = np.polyfit(np.arange(size), (given(ramp)[0, size // 2, :size] * std[0]).numpy(), 1)[0]
    resized = round(side / (side - 1) / slope)
    found = Preparation(size, resized, mean=triple(-black * std), std=triple(std), bgr=bool(red[0] != white[0]))
    found = nearest(found, [_smooth(side, 2 * side)], fit=get_args(Fit))
    # An odd margin, and a half of it that isn't next to an even number, tell how it is rounded.
    wide = resized + 4 + (3 - (resized - size)) % 4
    shapes, draw = ((side, side), (resized, wide), (64, 64)), np.random.default_rng(0)
    noise = [draw.uniform(0, 255, (*shape, 3)) for shape in shapes]
    sizes = (resized, resized - 1, resized + 1, None)
    found = nearest(found, noise, interpolation=get_args(Interpolation), resize_to=sizes, floor=(False, True))
    smooth = _smooth(size + size // 4 + 3, size + size // 4 + 3)
    expected = given(smooth)
    if not (difference := off(found, smooth, expected)) <= _DISAGREE:
        how = f"input {' x '.join(map(str, expected.shape))}, off by {difference:.2g} deviations"
        raise ValueError(f"its library prepares images in a way that isn't supported: {how}")
    return found


def _smooth(height: int, width: int) -> NDArray[Any]:
    """A picture (height, width, 3) of which filters change hardly anything; colours and directions all differ."""
    down, across = np.linspace(30, 220, height)[:, None], np.linspace(30, 220, width)
    return np.stack([down + 0 * across, (across + 0 * down) / 2, (down + across[::-1]) / 3], axis=-1)


def triple(values: Tensor) -> Triple:
    """Three numbers."""
    first, second, third = values.tolist()
    return first, second, third
