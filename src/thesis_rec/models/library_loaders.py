"""Backbones from the folders that timm, transformers, open_clip and the detectors package publish."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_rec.base.errors import ItemError
from thesis_rec.models.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, Triple, feature_width
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.models.model_sources import read_configuration
from thesis_rec.models.torch_files import load_torch
from thesis_rec.models.weight_files import find_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULT_SIZE = 224


def load_timm(row: ManifestRow, folder: Path) -> Backbone:
    """A timm model from a folder with ``config.json``, as ``timm`` saves and the hub keeps them."""
    import timm

    return timm_backbone(row.model_id, timm.create_model(f"local-dir:{folder}", pretrained=True).float())


def timm_backbone(model_id: str, network: Any) -> Backbone:
    """A network of timm as a feature extractor, with or without trained weights.

    Args:
        model_id: Name of the model.
        network: As ``timm.create_model`` gives it, on the CPU or the meta device.
    """
    from timm.data import resolve_model_data_config

    network.eval()
    settings = resolve_model_data_config(network)
    channels, size, _ = settings["input_size"]

    def features(images: Tensor) -> Tensor:
        found: Tensor = network.forward_head(network.forward_features(_channels(images, channels)), pre_logits=True)
        return found.flatten(1)

    classifier = network.get_classifier()
    has_head = getattr(network, "num_classes", 0) > 0 and not isinstance(classifier, tuple)
    return Backbone(
        model_id=model_id,
        network=network,
        features=features,
        head=classifier if has_head else None,
        n_features=feature_width(features, size, _device(network)),
        input_size=size,
        mean=_triple(settings["mean"], IMAGENET_MEAN),
        std=_triple(settings["std"], IMAGENET_STD),
    )


def load_detector_pack(row: ManifestRow, folder: Path) -> Backbone:
    """A ResNet for 32-pixel images as the ``detectors`` package publishes them (github.com/edadaltocg/detectors).

    Its files have timm's layout and name a timm architecture, but the network has a small stem: a convolution of 3 x 3
    without stride, and no pooling behind it.

    Raises:
        ItemError: If the architecture isn't a ResNet.
    """
    import timm
    import torch
    from torch import nn

    config: dict[str, Any] = read_configuration(folder, "config.json", row.model_id)
    settings = config.get("pretrained_cfg", config)
    architecture = str(config.get("architecture", ""))
    network: Any = timm.create_model(architecture, num_classes=int(config["num_classes"]))
    if not hasattr(network, "maxpool") or not hasattr(network, "conv1"):
        raise ItemError(
            row.model_id, f"{architecture or 'The model'} has no stem to make small.", "Choose the loader local."
        )
    network.conv1 = nn.Conv2d(3, network.conv1.out_channels, kernel_size=3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    content = load_torch(find_weights(folder, row.model_id), row.model_id)
    network.load_state_dict({name: torch.as_tensor(value) for name, value in content.items()})
    network.float().eval()

    def features(images: Tensor) -> Tensor:
        found: Tensor = network.forward_head(network.forward_features(images), pre_logits=True)
        return found

    size = int(settings["input_size"][-1])
    return Backbone(
        model_id=row.model_id,
        network=network,
        features=features,
        head=network.get_classifier(),
        n_features=feature_width(features, size),
        input_size=size,
        mean=_triple(settings.get("mean"), IMAGENET_MEAN),
        std=_triple(settings.get("std"), IMAGENET_STD),
    )


def load_transformers(row: ManifestRow, folder: Path) -> Backbone:
    """An image model of transformers from a folder with ``config.json`` and, better, ``preprocessor_config.json``.

    With a classification head the features are what its last linear layer is given, which holds for every architecture;
    without one they are the model's pooled output, else the mean over tokens or positions.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForImageClassification
    from transformers.utils import logging as transformers_logging

    # A bar per model would drown the log of a zoo.
    transformers_logging.disable_progress_bar()

    read_configuration(folder, "config.json", row.model_id)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    architectures: Sequence[str] = getattr(config, "architectures", None) or ()
    classifies = any("ForImageClassification" in name for name in architectures)
    auto = AutoModelForImageClassification if classifies else AutoModel
    network: Any
    network, found = auto.from_pretrained(folder, local_files_only=True, dtype=torch.float32, output_loading_info=True)
    # The library fills absent weights with random numbers and only warns. An absent pooler is common, and not needed.
    # Of an image-text model the image half must be whole; what another task's checkpoint lacks in its text is unused.
    half = "vision_model." if not classifies and hasattr(network, "vision_model") else ""
    absent = sorted(key for key in found["missing_keys"] if "pooler" not in key and key.startswith(half))
    if absent or found["mismatched_keys"]:
        text = f"The checkpoint lacks weights that its configuration asks for ({', '.join(absent[:3])} ...)."
        raise ItemError(row.model_id, text, "Correct the architecture in config.json, or choose another checkpoint.")
    has_pooler = not any("pooler" in key for key in found["missing_keys"])
    size, mean, std = _preprocessing(folder, getattr(config, "vision_config", config), row.model_id)
    return transformers_backbone(row.model_id, network, size, mean, std, classifies=classifies, has_pooler=has_pooler)


def transformers_backbone(
    model_id: str,
    network: Any,
    size: int,
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
    *,
    classifies: bool,
    has_pooler: bool = True,
) -> Backbone:
    """A network of transformers as a feature extractor, with or without trained weights.

    Args:
        model_id: Name of the model.
        network: An image classifier, an image encoder or an image-text model.
        size: Height and width of the images, in pixels.
        mean: Of each colour channel.
        std: Of each colour channel.
        classifies: Whether it has a classification head.
        has_pooler: Whether its pooled output is of trained weights.
    """
    config = network.config
    if not classifies:
        # Of an image-text model only the image half is of use.
        network = getattr(network, "vision_model", network)
    network.eval()
    image_config = getattr(config, "vision_config", config)
    channels = int(getattr(image_config, "num_channels", 3))
    linear = _last_linear(network, int(config.num_labels)) if classifies else None

    def penultimate(images: Tensor) -> Tensor:
        assert linear is not None
        seen: list[Tensor] = []
        handle = linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            network(pixel_values=_channels(images, channels))
        finally:
            handle.remove()
        found = seen[-1]
        return found if found.ndim == 2 else found.flatten(1, -2).mean(1)

    def pooled(images: Tensor) -> Tensor:
        output = network(pixel_values=_channels(images, channels))
        pooler: Tensor | None = getattr(output, "pooler_output", None)
        if pooler is not None and has_pooler:
            return pooler.flatten(1)
        last: Tensor = output.last_hidden_state  # (B, N, D) tokens or (B, D, H, W) positions
        return last.mean(1) if last.ndim == 3 else last.flatten(2).mean(2)

    features = penultimate if linear is not None else pooled
    return Backbone(
        model_id=model_id,
        network=network,
        features=features,
        head=linear,
        n_features=int(linear.in_features) if linear is not None else feature_width(features, size, _device(network)),
        input_size=size,
        mean=mean,
        std=std,
    )


def load_open_clip(row: ManifestRow, folder: Path) -> Backbone:
    """The image encoder of an open_clip model from a folder with ``open_clip_config.json``."""
    import open_clip

    read_configuration(folder, "open_clip_config.json", row.model_id)
    network: Any = open_clip.create_model(
        f"local-dir:{folder}", precision="fp32", pretrained_image=False, pretrained_text=False, require_pretrained=True
    ).eval()
    settings = open_clip.get_model_preprocess_cfg(network)
    size = settings["size"]
    # The text half, often the larger one, is let go.
    return open_clip_backbone(row.model_id, network.visual, int(size if isinstance(size, int) else size[0]), settings)


def open_clip_backbone(model_id: str, visual: Any, size: int, settings: dict[str, Any]) -> Backbone:
    """The image half of an open_clip model, with or without trained weights.

    Args:
        model_id: Name of the model.
        visual: Image tower.
        size: Height and width of the images, in pixels.
        settings: ``mean`` and ``std`` of the colour channels, where known.
    """
    visual.eval()

    def features(images: Tensor) -> Tensor:
        found: Tensor | tuple[Tensor, Tensor] = visual(images)
        # Some towers give their tokens as well.
        return found[0] if isinstance(found, tuple) else found

    return Backbone(
        model_id=model_id,
        network=visual,
        features=features,
        head=None,
        n_features=feature_width(features, size, _device(visual)),
        input_size=size,
        mean=_triple(settings.get("mean"), IMAGENET_MEAN),
        std=_triple(settings.get("std"), IMAGENET_STD),
    )


def _device(network: nn.Module) -> str:
    return str(next(network.parameters()).device)


def _channels(images: Tensor, channels: int) -> Tensor:
    # A network for grey images gets the mean of the colours.
    return images if images.shape[1] == channels else images.mean(1, keepdim=True).expand(-1, channels, -1, -1)


def _triple(values: Any, default: Triple) -> Triple:
    if values is None:
        return default
    numbers = [float(value) for value in values] if isinstance(values, list | tuple) else [float(values)]
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    return numbers[0], numbers[1], numbers[2]


def _last_linear(network: nn.Module, n_labels: int) -> nn.Linear | None:
    """The layer that gives the logits: the last linear one, or None for a model without labels."""
    from torch import nn

    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    matching = [module for module in linear if module.out_features == n_labels]
    return matching[-1] if matching and n_labels > 0 else None


def _preprocessing(folder: Path, config: Any, model_id: str) -> tuple[int, Triple, Triple]:
    """Image size and normalisation from ``preprocessor_config.json``, else the model's own image size."""
    settings: dict[str, Any] = {}
    if (folder / "preprocessor_config.json").is_file():
        settings = read_configuration(folder, "preprocessor_config.json", model_id)
    cropped = settings.get("do_center_crop", True)
    size = (_pixels(settings.get("crop_size")) if cropped else None) or _pixels(settings.get("size"))
    size = size or _pixels(getattr(config, "image_size", None)) or DEFAULT_SIZE
    if settings.get("do_normalize") is False:
        return size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return size, _triple(settings.get("image_mean"), IMAGENET_MEAN), _triple(settings.get("image_std"), IMAGENET_STD)


def _pixels(size: Any) -> int | None:
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    if isinstance(size, list | tuple):
        size = size[0] if size else None
    return int(size) if size else None
