"""Networks as the libraries build them, without trained weights: what counts and speed are taken from.

Neither depends on the values of weights, so that a model can be counted and timed without downloading it.
"""

from __future__ import annotations

import re
from typing import Any

from thesis_rec.base.errors import ItemError
from thesis_rec.models import loaders
from thesis_rec.models.backbone import Backbone, Preparation
from thesis_rec.models.loaders import UNTRAINED, library_name, make_stem_small, timm_backbone, transformers_backbone
from thesis_rec.models.model_manifest import ManifestRow

#: Width, blocks, heads and hidden width of vision transformers by name (Dosovitskiy et al., ICLR 2021, table 1).
VIT_SIZES = {
    "tiny": (192, 12, 3, 768),
    "small": (384, 12, 6, 1536),
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "so400m": (1152, 27, 16, 4304),
    "giant": (1536, 40, 24, 6144),
}

#: Blocks and widths of ConvNeXt by name (Liu et al., CVPR 2022).
CONVNEXT_SIZES = {
    "tiny": ([3, 3, 9, 3], [96, 192, 384, 768]),
    "small": ([3, 3, 27, 3], [96, 192, 384, 768]),
    "base": ([3, 3, 27, 3], [128, 256, 512, 1024]),
    "large": ([3, 3, 27, 3], [192, 384, 768, 1536]),
    "xlarge": ([3, 3, 27, 3], [256, 512, 1024, 2048]),
}

#: Width, blocks and heads of Swin by name (Liu et al., ICCV 2021).
SWIN_SIZES = {
    "tiny": (96, [2, 2, 6, 2], [3, 6, 12, 24]),
    "small": (96, [2, 2, 18, 2], [3, 6, 12, 24]),
    "base": (128, [2, 2, 18, 2], [4, 8, 16, 32]),
    "large": (192, [2, 2, 18, 2], [6, 12, 24, 48]),
}


#: Image halves that transformers' AutoModel doesn't build from their configuration.
IMAGE_HALVES = {"blip": "BlipVisionModel", "align": "AlignVisionModel"}

#: Families of transformers whose files hold a text half as well.
IMAGE_TEXT = ("align", "blip", "siglip")

#: Text halves that open_clip takes from transformers, by their names on the hub: Liu et al. 2019 (RoBERTa), Conneau et
#: al. 2020 (XLM-R), NLLB Team 2022, whose encoders alone are taken.
_ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_NLLB = {"vocab_size": 256206, "d_model": 1024, "decoder_layers": 1}
TEXT_HALVES: dict[str, tuple[str, dict[str, int]]] = {
    "roberta-base": ("Roberta", {**_ROBERTA, "vocab_size": 50265}),
    "xlm-roberta-base": ("XLMRoberta", {**_ROBERTA, "vocab_size": 250002}),
    "xlm-roberta-large": ("XLMRoberta", {**_ROBERTA, **_LARGE, "vocab_size": 250002}),
    "facebook/nllb-200-distilled-600M": ("M2M100", {**_NLLB, "encoder_layers": 12, "encoder_ffn_dim": 4096}),
    "facebook/nllb-200-distilled-1.3B": ("M2M100", {**_NLLB, "encoder_layers": 24, "encoder_ffn_dim": 8192}),
}


def architecture_key(row: ManifestRow) -> str:
    """Name of the network that a row is of, the same for all its checkpoints; empty where the row doesn't tell it.

    The key names the library, because two libraries run the same network at different speeds.
    """
    name = library_name(row)
    if row.loader == "timm":
        import timm

        configuration = timm.models.get_pretrained_cfg(name)
        if configuration is None:
            return ""
        return f"timm/{configuration.architecture}@{configuration.input_size[-1]}"
    if row.loader == "open_clip":
        return f"open_clip/{name.removesuffix('-quickgelu')}"
    if row.loader == "detector_pack":
        return f"detector_pack/{_resnet_of_pack(row)}@32"
    if row.loader == "transformers":
        built = _transformers_config(row)
        return "" if built is None else f"transformers/{built[2]}@{built[1]}"
    return ""


def build_untrained(row: ManifestRow, device: str = "cpu") -> Backbone:
    """:func:`thesis_rec.models.loaders.build_untrained`, also of networks that only a name or family tells."""
    builders = UNTRAINED | {"transformers": _transformers, "detector_pack": _detector_pack}
    return loaders.build_untrained(row, device, builders)


def _detector_pack(row: ManifestRow) -> Backbone:
    import timm

    network: Any = timm.create_model(_resnet_of_pack(row), pretrained=False, num_classes=10)
    make_stem_small(network)
    network.pretrained_cfg = {**network.pretrained_cfg, "input_size": (3, 32, 32), "crop_pct": 1.0}
    return timm_backbone(row.model_id, network)


def _resnet_of_pack(row: ManifestRow) -> str:
    """``resnet18`` of ``edadaltocg/resnet18_cifar10``."""
    return row.model_id.rpartition("/")[2].partition("_")[0]


def _stretched(size: int) -> Preparation:
    return Preparation(int(size), int(size), "stretch")


def _transformers(row: ManifestRow) -> Backbone:
    import transformers as library

    built = _transformers_config(row)
    if built is None:
        text = "Its name doesn't tell its architecture, and its configuration lies in its files."
        raise ItemError(row.model_id, text, "Profile it with its weights.")
    config, size, _ = built
    classifies = config.model_type in ("vit", "deit", "beit", "convnext", "swin", "data2vec-vision", "resnet")
    network: Any
    if row.family in IMAGE_HALVES:
        network = getattr(library, IMAGE_HALVES[row.family])(config)
    else:
        auto = library.AutoModelForImageClassification if classifies else library.AutoModel
        network = auto.from_config(config)
    return transformers_backbone(row.model_id, network, _stretched(size), classifies=classifies)


def _transformers_config(row: ManifestRow) -> tuple[Any, int, str] | None:
    """Configuration, image size and name of the architecture that a row's family and name tell."""
    import transformers

    # The classes take keywords of their base class that their stubs don't name.
    library: Any = transformers
    name = row.model_id.rpartition("/")[2].lower()
    size_name = next((word for word in re.split(r"[-_]", name) if word in {*VIT_SIZES, "xlarge"}), "")
    numbers = [int(found) for found in re.findall(r"(?<![a-z0-9])(\d{3})(?![a-z0-9])", name)]
    size = numbers[0] if numbers else 224
    patch = int(found[1]) if (found := re.search(r"patch(\d+)", name)) else 16
    key = f"{row.family}_{size_name}"
    if row.model_id == "microsoft/resnet-50":
        return library.ResNetConfig(num_labels=1000), 224, "resnet_50"
    if row.model_id == "kakaobrain/align-base":
        return library.AlignVisionConfig(), 289, "align_base"
    if row.family == "convnext" and size_name in CONVNEXT_SIZES:
        depths, widths = CONVNEXT_SIZES[size_name]
        return library.ConvNextConfig(depths=depths, hidden_sizes=widths, num_labels=1000), size, key
    if row.family == "swin" and size_name in SWIN_SIZES:
        embedding, depths, stage_heads = SWIN_SIZES[size_name]
        window = int(found[1]) if (found := re.search(r"window(\d+)", name)) else 7
        config = library.SwinConfig(
            image_size=size,
            embed_dim=embedding,
            depths=depths,
            num_heads=stage_heads,
            window_size=window,
            num_labels=1000,
        )
        return config, size, f"{key}_window{window}"
    if size_name not in VIT_SIZES:
        return None
    width, depth, heads, hidden = VIT_SIZES[size_name]
    shape: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
    }
    key = f"{key}_patch{patch}"
    if row.family in ("vit", "deit"):
        # A distilled DeiT has two heads.
        distilled: dict[str, Any] = (
            {"architectures": ["DeiTForImageClassificationWithTeacher"]} if row.family == "deit" else {}
        )
        made = library.DeiTConfig if row.family == "deit" else library.ViTConfig
        return made(**shape, **distilled, image_size=size, patch_size=patch, num_labels=1000), size, key
    if row.family in ("beit", "data2vec-vision"):
        made = library.BeitConfig if row.family == "beit" else library.Data2VecVisionConfig
        options: dict[str, Any] = {"use_relative_position_bias": True, "use_mean_pooling": True, "num_labels": 1000}
        return made(**shape, **options, image_size=size, patch_size=patch), size, key
    if row.family == "dinov2":
        # Its processor crops to 224 pixels, its position table is of 518. The giant's hidden layer is gated.
        gated = size_name == "giant"
        del shape["intermediate_size"]
        config = library.Dinov2Config(**shape, image_size=518, patch_size=14, use_swiglu_ffn=gated)
        return config, 224, f"dinov2_{size_name}"
    if row.family == "siglip":
        return library.SiglipVisionConfig(**shape, image_size=size, patch_size=patch), size, key
    if row.family == "blip":
        return library.BlipVisionConfig(**shape, image_size=384, patch_size=16), 384, f"blip_{size_name}"
    return None


def checkpoint_bytes(row: ManifestRow, backbone: Backbone) -> int:
    """Bytes of the model's file by count: four for each weight and saved buffer, the text half included.

    Args:
        row: The model.
        backbone: Its network, as :func:`build_untrained` makes it.

    Returns:
        The bytes, or 0 for an image-text model of transformers: see :func:`image_text_bytes`.
    """
    if row.loader == "transformers" and row.family in IMAGE_TEXT:
        return 0
    text = _open_clip_text_weights(library_name(row)) if row.loader == "open_clip" else 0
    return 4 * (_saved(backbone.network) + text)


def image_text_bytes(row: ManifestRow) -> int:
    """Bytes of the file of an image-text model of transformers by count, 0 for any other row.

    Checkpoints of one image half differ in what stands beside it: BLIP's that caption have a decoder, those that match
    images and texts an encoder.
    """
    import torch
    import transformers

    library: Any = transformers
    built = _transformers_config(row) if row.loader == "transformers" and row.family in IMAGE_TEXT else None
    if built is None:
        return 0
    vision = built[0].to_dict()
    with torch.device("meta"):
        if row.family == "align":
            return 4 * _saved(library.AlignModel(library.AlignConfig()))
        if row.family == "blip":
            kind = "ConditionalGeneration" if "captioning" in row.model_id else "ImageTextRetrieval"
            config = library.BlipConfig(vision_config=vision)
            return 4 * _saved(getattr(library, f"BlipFor{kind}")(config))
        # Both halves of SigLIP have one shape.
        shape = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        text = {name: vision[name] for name in shape} | {"projection_size": vision["hidden_size"]}
        return 4 * _saved(library.SiglipModel(library.SiglipConfig(vision_config=vision, text_config=text)))


def _saved(network: Any) -> int:
    """Numbers that a network's file holds."""
    return sum(tensor.numel() for tensor in network.state_dict().values())


def _open_clip_text_weights(name: str) -> int:
    """Number of weights of an open_clip model's text half."""
    import torch
    from open_clip.coca_model import _build_text_decoder_tower
    from open_clip.factory import get_model_config
    from open_clip.model import CLIPTextCfg, _build_text_tower

    config = get_model_config(name)
    text = CLIPTextCfg(**config["text_cfg"])
    width = config["embed_dim"]
    with torch.device("meta"):
        if text.hf_model_name:
            towers = _text_half_of_transformers(text, width)
        else:
            towers = [_build_text_tower(width, text, config.get("quick_gelu", False))]
        if "multimodal_cfg" in config:
            towers.append(_build_text_decoder_tower(text.vocab_size, config["multimodal_cfg"]))
    return sum(weight.numel() for tower in towers for weight in tower.parameters())


def _text_half_of_transformers(text: Any, width: int) -> list[Any]:
    """A text encoder of transformers as open_clip takes it, and the projection to ``width`` behind it."""
    import transformers
    from torch import nn

    library: Any = transformers
    made, options = TEXT_HALVES[text.hf_model_name]
    config = getattr(library, f"{made}Config")(**options)
    if config.is_encoder_decoder:
        encoder = library.AutoModel.from_config(config).encoder
    else:
        encoder = library.AutoModel.from_config(config, add_pooling_layer=text.hf_pooler_type == "cls_pooler")
    if text.hf_proj_type == "linear":
        return [encoder, nn.Linear(config.hidden_size, width, bias=False)]
    middle = (config.hidden_size + width) // 2
    return [encoder, nn.Linear(config.hidden_size, middle, bias=False), nn.Linear(middle, width, bias=False)]
