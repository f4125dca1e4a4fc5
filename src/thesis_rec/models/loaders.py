"""Pre-trained networks as feature extractors, built by the libraries that published them.

Hub models and folders take one way: the files are located (and downloaded, at the pinned revision), checked by
:mod:`thesis_rec.models.checkpoint_reader`, and the library builds the network from the folder. Checkpoints in half
precision become float32.
"""

import inspect
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thesis_rec.base.errors import ItemError, explained, listed
from thesis_rec.models.architectures import ARCHITECTURES, StateNetwork
from thesis_rec.models.backbone import LUMA, Backbone, Preparation, check_repeatable, preparation_of
from thesis_rec.models.checkpoint_reader import open_network
from thesis_rec.models.model_manifest import ManifestRow, open_clip_name
from thesis_rec.models.model_sources import PROCESSOR_FILES, locate, no_network
from thesis_rec.models.weight_files import check_folder, find_state, find_weights, load_torch, read_bounded

logger = logging.getLogger(__name__)

Loader = Callable[[ManifestRow, Path], Backbone]


def load_backbone(row: ManifestRow, root: Path, device: str = "cpu", cache: Path | None = None) -> Backbone:
    """Build a model with the library that the manifest names.

    Args:
        row: The model.
        root: Folder that relative sources refer to.
        device: Where the network is put, e.g. ``cpu`` or ``cuda``.
        cache: Folder of hub downloads; None for the hub library's own.

    Raises:
        ItemError: If the loader is unknown or builds no network (``local`` reads weights only), the files are absent,
            damaged or unsafe, or the library can't build the network from them.
    """
    loader = LOADERS.get(row.loader)
    if loader is None:
        text = f"The loader {row.loader!r} builds no network to run."
        hint = f"Save the model in the format of one that does, and name that: {', '.join(sorted(LOADERS))}."
        raise ItemError(row.model_id, text, hint)
    folder = locate(row, root, cache, build=True)
    if not folder.is_dir() and row.loader not in ARCHITECTURES:
        text = f"{folder} is a file, but the loader {row.loader} builds a network from a folder with its configuration."
        raise ItemError(row.model_id, text, "Name the folder in the source column, or choose the loader local.")
    # Opening checks the weights before a library meets them; hardly more than headers is read.
    open_network(folder, row.model_id, prefer=row.loader, member=row.member)
    check_folder(folder, row.model_id)
    # Three libraries raise anything at all for a configuration that they can't use, and fetch what a folder names.
    hint = "Correct its configuration or the loader column (the loader local reads weights alone), or leave it out."
    with explained(row.model_id, f"{row.loader} can't build the network ({{reason}}).", hint), no_network():
        backbone = loader(row, folder)
        check_repeatable(backbone)
    backbone.network.to(device)
    return backbone


def load_bare(row: ManifestRow, path: Path) -> Backbone:
    """A network of this project's own :mod:`~thesis_rec.models.architectures` from a bare state dict.

    Raises:
        ItemError: If the weights can't be read.
        ValueError: If they are of another architecture.
    """
    architecture = ARCHITECTURES[row.loader]
    reader = open_network(path, row.model_id, member=row.member)
    state = {
        tensor.name.removeprefix(architecture.prefix): torch.tensor(tensor.values()).view(tensor.shape)
        for tensor in reader.tensors
        if tensor.name.startswith(architecture.prefix)
    }
    network = StateNetwork(state, architecture.compute).eval()
    classify = partial(network.linear, architecture.head) if architecture.head else None
    with torch.inference_mode():
        size = architecture.input_size(state)
        features = network.features(torch.zeros(1, 3, size, size))
        if classify is not None:
            classify(features)
        if strange := sorted(network.names - network.used):
            raise ValueError(f"{strange[0]} doesn't fit")
    preparation = Preparation(size, size, "stretch", mean=architecture.mean, std=architecture.std)
    return Backbone(row.model_id, network, network.features, classify, preparation)


def load_timm(row: ManifestRow, folder: Path) -> Backbone:
    """A timm model from a folder with ``config.json``, as ``timm`` saves and the hub keeps them."""
    import timm

    network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).float()
    return timm_backbone(row.model_id, network)


def timm_backbone(model_id: str, network: Any) -> Backbone:
    """A network of timm as a feature extractor, with or without trained weights.

    Args:
        model_id: Name of the model.
        network: As ``timm.create_model`` gives it, on the CPU or the meta device.

    Raises:
        ValueError: If its input isn't square, or has neither one nor three channels.
    """
    from timm.data import create_transform, resolve_model_data_config

    network.eval()
    settings = resolve_model_data_config(network)
    channels, *sides = settings["input_size"]
    colours = _colours(channels)
    # A grey network's pictures are made grey by the network's side here.
    with torch.device("cpu"):
        preparation = preparation_of(create_transform(**settings | {"input_size": (3, *sides)}))

    def features(images: Tensor) -> Tensor:
        return network.forward_head(network.forward_features(colours(images)), pre_logits=True).flatten(1)

    classifier = network.get_classifier()
    has_head = getattr(network, "num_classes", 0) > 0 and not isinstance(classifier, tuple)
    return Backbone(model_id, network, features, classifier if has_head else None, preparation)


def load_detector_pack(row: ManifestRow, folder: Path) -> Backbone:
    """A ResNet for 32-pixel images as the ``detectors`` package publishes them (github.com/edadaltocg/detectors).

    Its files have timm's layout and name a timm architecture, but the network has a small stem: a convolution of 3 x 3
    without stride, and no pooling behind it.

    Raises:
        ItemError: If the weights can't be read.
        ValueError: If the architecture isn't a ResNet.
    """
    import timm

    config = read_configuration(folder, "config.json")
    settings = config.get("pretrained_cfg", config)
    architecture = str(config.get("architecture", ""))
    network: Any = timm.create_model(architecture, num_classes=int(config["num_classes"]))
    if not hasattr(network, "maxpool") or not hasattr(network, "conv1"):
        raise ValueError(f"{architecture or 'the model'} has no stem to make small")
    make_stem_small(network)
    content = load_torch(find_weights(folder, row.model_id), row.model_id)
    state, *_ = find_state(content, row.model_id, row.member)
    network.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    network.pretrained_cfg = {"crop_pct": 1.0, **settings}
    return timm_backbone(row.model_id, network.float())


def make_stem_small(network: Any) -> None:
    """Give a ResNet of timm the stem of the networks for 32-pixel images."""
    network.conv1 = nn.Conv2d(3, network.conv1.out_channels, kernel_size=3, padding=1, bias=False)
    network.maxpool = nn.Identity()


def load_transformers(row: ManifestRow, folder: Path) -> Backbone:
    """An image model of transformers from a folder with ``config.json`` and, better, its image processor's settings.

    With a classification head the features are what its last linear layer is given, which holds for every architecture;
    without one they are the model's pooled output, else the mean over tokens or positions. Masked autoencoders see all
    patches.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForImageClassification
    from transformers.utils import logging as transformers_logging

    # A bar per model would drown the log of a zoo.
    transformers_logging.disable_progress_bar()

    read_configuration(folder, "config.json")  # the library's own errors are of the hub
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **options)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError("the model needs Python code that comes with it, which isn't run") from error
    # A masked autoencoder hides most of an image at random, in training and, unless told otherwise, always.
    if hasattr(config, "mask_ratio"):
        config.mask_ratio = 0.0
    architectures: Sequence[str] = getattr(config, "architectures", None) or ()
    classifies = any("ForImageClassification" in name for name in architectures)
    auto = AutoModelForImageClassification if classifies else AutoModel
    network: Any
    network, found = auto.from_pretrained(
        folder, config=config, dtype=torch.float32, output_loading_info=True, **options
    )
    # The library fills absent weights with random numbers and only warns. An absent pooler is common, and not needed.
    # Of an image-text model the image half must be whole; what another task's checkpoint lacks in its text is unused.
    half = "vision_model." if not classifies and hasattr(network, "vision_model") else ""
    absent = sorted(key for key in found["missing_keys"] if "pooler" not in key and key.startswith(half))
    if absent or found["mismatched_keys"]:
        raise ValueError(f"the checkpoint lacks weights that its configuration asks for: {listed(absent, 3)}")
    has_pooler = not any("pooler" in key for key in found["missing_keys"])
    _image_inputs(network if classifies else getattr(network, "vision_model", network))
    preparation = transformers_preparation(folder, config)
    return transformers_backbone(row.model_id, network, preparation, classifies=classifies, has_pooler=has_pooler)


def transformers_preparation(source: Path | str, config: Any) -> Preparation:
    """:func:`preparation_of` a model's image processor; where its files say nothing, the usual one of its architecture.

    Args:
        source: The model's folder, or its name on the hub.
        config: Its configuration.

    Raises:
        ValueError: If there is none, or it isn't supported.
    """
    from transformers import AutoImageProcessor
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

    local, files = isinstance(source, Path), ", ".join(PROCESSOR_FILES)
    if not local or any(Path(source, name).is_file() for name in PROCESSOR_FILES):
        processor = AutoImageProcessor.from_pretrained(source, local_files_only=local, trust_remote_code=False)
    elif type(config) not in IMAGE_PROCESSOR_MAPPING:
        raise ValueError(f"there is none of {files}, and {config.model_type} has no usual one")
    else:
        kinds: Any = IMAGE_PROCESSOR_MAPPING[type(config)]
        kind = kinds.get("torchvision") or next(iter(kinds.values()))
        processor = kind()
        own = getattr(getattr(config, "vision_config", config), "image_size", None)
        if own:
            sides = dict(zip(("height", "width"), own if isinstance(own, list | tuple) else (own, own), strict=True))
            shortest = getattr(processor.size, "shortest_edge", None) is not None
            processor = kind(size={"shortest_edge": min(sides.values())} if shortest else sides, crop_size=sides)
        logger.warning("%s has none of %s: prepared as usual for a %s", source, files, config.model_type)
    return preparation_of(lambda picture: processor(images=picture, return_tensors="pt")["pixel_values"])


def transformers_backbone(
    model_id: str, network: Any, preparation: Preparation, *, classifies: bool, has_pooler: bool = True
) -> Backbone:
    """A network of transformers as a feature extractor, with or without trained weights.

    Args:
        model_id: Name of the model.
        network: An image classifier, an image encoder or an image-text model.
        preparation: How pictures become images.
        classifies: Whether it has a classification head.
        has_pooler: Whether its pooled output is of trained weights.

    Raises:
        ValueError: If it takes patches instead of images, or neither one nor three channels.
    """
    config = network.config
    if not classifies:
        # Of an image-text model only the image half is of use.
        network = getattr(network, "vision_model", network)
    network.eval()
    image_config = getattr(config, "vision_config", config)
    colours = _colours(int(getattr(image_config, "num_channels", 3)))
    takes = _image_inputs(network)
    linear = _last_linear(network, int(config.num_labels)) if classifies else None

    def forward(images: Tensor) -> Any:
        x = colours(images)
        if "noise" not in takes:
            return network(pixel_values=x)
        # It orders the patches by this noise; here they keep their order.
        patches = network.embeddings.patch_embeddings.num_patches
        return network(pixel_values=x, noise=torch.arange(patches, device=x.device).expand(len(x), -1).float())

    def features(images: Tensor) -> Tensor:
        if linear is None:
            return pooled_output(forward(images), has_pooler)
        seen: list[Tensor] = []
        handle = linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            forward(images)
        finally:
            handle.remove()
        found = seen[-1]
        return found if found.ndim == 2 else found.flatten(1, -2).mean(1)

    return Backbone(model_id, network, features, linear, preparation)


def pooled_output(output: Any, has_pooler: bool = True) -> Tensor:
    """(B, D) of what a network of transformers returns: pooled if it pools, else the mean over tokens or positions."""
    pooler: Tensor | None = getattr(output, "pooler_output", None)
    if pooler is not None and has_pooler:
        return pooler.flatten(1)
    last: Tensor = output.last_hidden_state  # (B, N, D) tokens or (B, D, H, W) positions
    return last.mean(1) if last.ndim == 3 else last.flatten(2).mean(2)


def load_open_clip(row: ManifestRow, folder: Path) -> Backbone:
    """The image encoder of an open_clip model from a folder with ``open_clip_config.json``.

    Some repositories of the hub hold weights alone: then the library's own configuration of these counts.
    """
    import open_clip

    file, (name, tag) = "open_clip_config.json", open_clip_name(row.model_id)
    known: Any = open_clip.pretrained.get_pretrained_cfg(name, tag) or {}
    if str(known.get("hf_hub", "")).rstrip("/") == row.hub_id and not (folder / file).exists():
        config: Any = open_clip.get_model_config(name)
        options = {
            "pretrained": str(find_weights(folder, row.model_id, prefer="open_clip")),
            "force_quick_gelu": bool(known.get("quick_gelu")),
            **{f"image_{key}": known[key] for key in ("mean", "std", "interpolation", "resize_mode")},
        }
    else:
        name, options = f"local-dir:{folder}", {}
        config = read_configuration(folder, file).get("model_cfg") or {}
    text_tower = config.get("text_cfg", {}).get("hf_model_name")
    try:
        network, prepare = open_clip.create_model_from_pretrained(name, pretrained_text=False, **options)
    except Exception as error:
        if not text_tower:
            raise
        text = f"Another model of the hub, {text_tower}, describes its text tower, and can't be had from the cache."
        hint = f"Fetch that once (hf download {text_tower} config.json): nothing is fetched for what a folder names."
        raise ItemError(row.model_id, text, hint) from error
    # The text half, often the larger one, is let go.
    return open_clip_backbone(row.model_id, network.visual, preparation_of(prepare))


def open_clip_backbone(model_id: str, visual: Any, preparation: Preparation) -> Backbone:
    """The image half of an open_clip model, with or without trained weights.

    Args:
        model_id: Name of the model.
        visual: Image tower.
        preparation: How pictures become images.
    """
    visual.eval()

    def features(images: Tensor) -> Tensor:
        found: Tensor | tuple[Tensor, Tensor] = visual(images)
        # Some towers give their tokens as well.
        return found[0] if isinstance(found, tuple) else found

    return Backbone(model_id, visual, features, None, preparation)


#: Checkpoints of others that timm builds from its own architectures.
TIMM_NAMES = {
    "nyu-visionx/moco-v3-vit-b": "vit_base_patch16_224.mae",
    "nyu-visionx/moco-v3-vit-l": "vit_large_patch16_224.mae",
}


def library_name(row: ManifestRow) -> str:
    """The library's own name of a model of timm or open_clip."""
    if row.loader == "open_clip":
        return open_clip_name(row.model_id)[0]
    return TIMM_NAMES.get(row.model_id, row.model_id.removeprefix("timm/"))


def _untrained_timm(row: ManifestRow) -> Backbone:
    import timm

    return timm_backbone(row.model_id, timm.create_model(library_name(row), pretrained=False))


def _untrained_open_clip(row: ManifestRow) -> Backbone:
    from open_clip.factory import get_model_config
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    # Only the image half is built: some text halves need files of the hub for their configuration.
    config = get_model_config(library_name(row))
    vision = CLIPVisionCfg(**config["vision_cfg"])
    visual = _build_vision_tower(config["embed_dim"], vision, config.get("quick_gelu", False))
    size = vision.image_size if isinstance(vision.image_size, int) else vision.image_size[0]
    return open_clip_backbone(row.model_id, visual, Preparation(size, size, "stretch"))


#: By loader, what makes a row's network without its files, with random weights: it is as fast as the trained one.
UNTRAINED: dict[str, Callable[[ManifestRow], Backbone]] = {"timm": _untrained_timm, "open_clip": _untrained_open_clip}


def build_untrained(
    row: ManifestRow, device: str = "cpu", builders: Mapping[str, Callable[[ManifestRow], Backbone]] = UNTRAINED
) -> Backbone:
    """The network of a manifest row with the library's initial weights, or none at all on the device ``meta``.

    Args:
        row: The model; nothing of it is downloaded.
        device: Where the network is made, such as ``cpu``, ``cuda`` or ``meta``.
        builders: By loader, what makes a row's network without its files.

    Raises:
        ItemError: If the row doesn't tell the architecture, or the library doesn't know it.
    """
    text = f"{row.loader} can't build the network without weights ({{reason}})."
    with explained(row.model_id, text, "Profile it with its weights."), torch.device(device):
        if row.loader not in builders:
            raise ValueError("it needs the model's files")
        return builders[row.loader](row)


def read_configuration(folder: Path, name: str) -> dict[str, Any]:
    """A JSON configuration file of a model.

    Raises:
        ValueError: If it is absent or no JSON object.
    """
    if not (folder / name).is_file():
        raise ValueError(f"there is no {name}")
    try:
        return {**json.loads(read_bounded(folder / name))}
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{name} can't be read: {error}") from error


def _image_inputs(network: Any) -> Collection[str]:
    """Names of what a network of transformers takes, if these are images."""
    takes = inspect.signature(network.forward).parameters
    if "spatial_shapes" in takes or "pixel_attention_mask" in takes:
        raise ValueError("it takes patches with their places and a mask; choose a variant with a fixed image size")
    return takes


def _colours(channels: int) -> Callable[[Tensor], Tensor]:
    """What a network of so many channels is given of images; of a grey picture what Pillow makes of the colours."""
    if channels not in (1, 3):
        raise ValueError(f"it takes {channels} channels, and pictures have the three colours")
    if channels == 3:
        return lambda images: images
    return lambda images: (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _last_linear(network: nn.Module, n_labels: int) -> nn.Linear | None:
    """The layer that gives the logits: the last linear one, or None for a model without labels."""
    linear = [m for m in network.modules() if isinstance(m, nn.Linear) and m.out_features == n_labels]
    return linear[-1] if linear and n_labels > 0 else None


#: Loaders by the manifest's ``loader`` column. A new one is a function from a row and a checked folder to a backbone.
LOADERS: dict[str, Loader] = {
    "timm": load_timm,
    "transformers": load_transformers,
    "open_clip": load_open_clip,
    "detector_pack": load_detector_pack,
    **dict.fromkeys(ARCHITECTURES, load_bare),
}
