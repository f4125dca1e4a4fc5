"""From pictures to what a network was trained on: resized, cropped, scaled and normalised as its own library does it.

A network that is fed otherwise (other colours' order, other mean, another resize) still gives features, and worse ones.
So the libraries' settings become a few numbers, which are applied to whole batches on any device, and a picture that
goes both ways must come out alike before a model is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from thesis_rec.base.errors import ItemError

if TYPE_CHECKING:
    from torch import Tensor


Triple = tuple[float, float, float]
Fit = Literal["crop", "stretch", "pad"]

#: Mean and standard deviation of ImageNet's colours, for models whose files name none.
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
#: Weights of red, green and blue in a grey picture (ITU-R 601), which Pillow's mode ``L`` uses.
LUMA: Triple = (0.299, 0.587, 0.114)

# Pillow's numbers of filters. Lanczos is the one that torch lacks; bicubic is next to it.
_PILLOW = {0: "nearest", 1: "bicubic", 2: "bilinear", 3: "bicubic", 4: "nearest", 5: "bilinear"}


@dataclass(frozen=True)
class Preparation:
    """How pictures become a network's input.

    Attributes:
        size: Height and width of the input, in pixels.
        resize_to: Side that a picture is resized to before ``size`` is cut out of its middle; None for no resizing.
        fit: Which side that is: the shorter one (``crop``), both (``stretch``) or the longer one (``pad``, black).
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``, the last two with antialiasing.
        mean: Mean of each colour channel, on a scale of 0 to 1, that is taken from an image.
        std: What each channel is divided by after that.
        bgr: Whether the network sees blue, green, red. Mean and std are in the network's order.
        floor: Whether half of an odd margin is rounded down (transformers) instead of to even (torchvision).
    """

    size: int
    resize_to: int | None = None
    fit: Fit = "crop"
    interpolation: str = "bilinear"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    bgr: bool = False
    floor: bool = False

    def on(self, device: Any) -> Callable[[Tensor], Tensor]:
        """The function itself: (B, 3, H, W) floats 0..255 on ``device`` to (B, 3, size, size) normalised ones."""
        import torch

        mean = torch.tensor(self.mean, device=device).view(1, 3, 1, 1) * 255.0
        std = torch.tensor(self.std, device=device).view(1, 3, 1, 1) * 255.0

        def prepare(pixels: Tensor) -> Tensor:
            shaped = self._shaped(pixels)
            return ((shaped.flip(1) if self.bgr else shaped) - mean) / std

        return prepare

    def _shaped(self, pixels: Tensor) -> Tensor:
        from torch.nn.functional import interpolate, pad

        height, width = pixels.shape[-2:]
        if self.resize_to is not None:
            near, far = min(height, width), max(height, width)
            scale = self.resize_to / (far if self.fit == "pad" else near)
            target = (self.resize_to, self.resize_to)
            if self.fit == "crop":
                target = (int(height * scale + 1e-6), int(width * scale + 1e-6))
            elif self.fit == "pad":
                target = (max(1, round(height * scale)), max(1, round(width * scale)))
            if target != (height, width) and self.interpolation == "nearest":
                pixels = interpolate(pixels, target, mode="nearest-exact")
            elif target != (height, width):
                pixels = interpolate(pixels, target, mode=self.interpolation, antialias=True, align_corners=False)
                pixels = pixels.clamp(0, 255)  # bicubic overshoots
        missing = [max(self.size - side, 0) for side in pixels.shape[-2:]]
        if any(missing):
            down, across = missing
            pixels = pad(pixels, (across // 2, across - across // 2, down // 2, down - down // 2))
        margins = [side - self.size for side in pixels.shape[-2:]]
        top, left = (margin // 2 if self.floor else round(margin / 2.0) for margin in margins)
        return pixels[..., top : top + self.size, left : left + self.size]


def square(size: Any, item: str) -> int:
    """The side of an input of ``size``: a number, or height and width in any of the ways that libraries write them.

    Raises:
        ItemError: If it isn't square.
    """
    given = _sides(size)
    one: Any = given.get("shortest_edge", given.get("longest_edge"))
    height, width = int(given.get("height", one)), int(given.get("width", one))
    if height != width:
        text = f"Its input is not square ({height} x {width} pixels), and only square ones are supported."
        raise ItemError(item, text, "Choose another model, or save it with a square input size.")
    return height


def triple(values: Any, default: Triple) -> Triple:
    """Three numbers out of three, one or none."""
    if values is None:
        return default
    numbers = [float(value) for value in values] if isinstance(values, list | tuple) else [float(values)]
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    return numbers[0], numbers[1], numbers[2]


def timm_preparation(settings: dict[str, Any], item: str) -> Preparation:
    """What ``timm.data.create_transform`` does with a model's data configuration.

    Args:
        settings: What ``timm.data.resolve_model_data_config`` gives.
        item: Name of the model for error messages.

    Raises:
        ItemError: If the input isn't square.
    """
    size, interpolation = square(settings["input_size"], item), str(settings.get("interpolation"))
    fit: dict[str, Fit] = {"squash": "stretch", "border": "pad", "longest": "pad"}
    return Preparation(
        size=size,
        resize_to=int(size / (settings.get("crop_pct") or 0.875)),
        fit=fit.get(str(settings.get("crop_mode")), "crop"),
        interpolation=interpolation if interpolation in ("nearest", "bilinear", "bicubic") else "bicubic",
        mean=triple(settings.get("mean"), IMAGENET_MEAN),
        std=triple(settings.get("std"), IMAGENET_STD),
    )


def open_clip_preparation(settings: dict[str, Any], item: str) -> Preparation:
    """What open_clip's ``image_transform`` does; ``settings`` as ``get_model_preprocess_cfg`` gives them.

    Raises:
        ItemError: If the input isn't square.
    """
    named = {"input_size": settings["size"], "crop_pct": 1.0, "crop_mode": settings.get("resize_mode")}
    return timm_preparation(settings | named, item)


def transformers_preparation(processor: Any, item: str) -> Preparation:
    """What an image processor of transformers does.

    Args:
        processor: The processor.
        item: Name of the model for error messages.

    Raises:
        ItemError: If the input isn't square.
    """
    size = _sides(getattr(processor, "size", None))
    crops = bool(getattr(processor, "do_center_crop", False))
    crop = getattr(processor, "crop_size", None)
    side = square(size, item)
    resize_to: int | None = side
    if share := getattr(processor, "crop_pct", None):
        # ConvNeXt crops small pictures only; PoolFormer says itself whether it does.
        cut = crops or ("shortest_edge" in size and side < 384)
        resize_to = int(side / share) if cut else side
    elif type(processor).__name__.startswith("Levit"):
        resize_to = int(side * 256 / 224)
    if not getattr(processor, "do_resize", True):
        resize_to = None
    stretches = "shortest_edge" not in size
    # (image * factor - offset - mean) / std, the image on a scale of 0 to 1.
    rescales = getattr(processor, "do_rescale", True)
    factor = 255.0 * (float(getattr(processor, "rescale_factor", 1 / 255)) if rescales else 1.0)
    offset = 1.0 if getattr(processor, "rescale_offset", False) else 0.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    if getattr(processor, "do_normalize", True):
        mean = triple(getattr(processor, "image_mean", None), IMAGENET_MEAN)
        std = triple(getattr(processor, "image_std", None), IMAGENET_STD)
    if getattr(processor, "include_top", False):  # EfficientNet's divides by the deviation a second time
        std = (std[0] ** 2, std[1] ** 2, std[2] ** 2)
    return Preparation(
        size=square(crop, item) if crops and crop else side,
        resize_to=resize_to,
        fit="stretch" if stretches else "crop",
        interpolation=_PILLOW.get(int(getattr(processor, "resample", None) or 0), "bilinear"),
        mean=((mean[0] + offset) / factor, (mean[1] + offset) / factor, (mean[2] + offset) / factor),
        std=(std[0] / factor, std[1] / factor, std[2] / factor),
        bgr=bool(getattr(processor, "do_flip_channel_order", False)),
        floor=True,
    )


def _sides(size: Any) -> dict[str, Any]:
    """Those sides that are given, by transformers' names; a number is both, and a list ends with height and width."""
    if isinstance(size, int | list | tuple):
        height, width = (size, size) if isinstance(size, int) else (size[-2:][0], size[-1])
        return {"height": height, "width": width}
    names = ("height", "width", "shortest_edge", "longest_edge")
    given = {name: size.get(name) if isinstance(size, dict) else getattr(size, name, None) for name in names}
    return {name: side for name, side in given.items() if side is not None}
