"""The embedded zoo's networks: small configurations of real timm, transformers and open_clip classes.

Every family is one class of one library in two sizes (``a`` the smaller, ``b`` the larger), for 32-pixel images, with
20 to 200 thousand parameters. A checkpoint is saved in its library's own format, so that

* ``timm.create_model("local-dir:<folder>", pretrained=True)``,
* ``transformers.AutoModelForImageClassification.from_pretrained("<folder>")`` and
* ``open_clip.create_model("local-dir:<folder>")``

load it without any code of this project.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Side of the images in pixels.
IMAGE_SIZE = 32
#: Normalisation of pixels in 0..1, equal for all three channels.
MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
#: File of the weights in each library's format.
WEIGHTS_FILES = {
    "timm": "model.safetensors",
    "transformers": "model.safetensors",
    "open_clip": "open_clip_model.safetensors",
}


@dataclass(frozen=True)
class Architecture:
    """One size of one family.

    Attributes:
        family: Name of the family, e.g. ``resnet``.
        variant: ``a`` (smaller) or ``b`` (larger).
        library: ``timm``, ``transformers`` or ``open_clip``: the manifest's ``loader``.
        entry: timm model name, transformers model type, or ``clip``.
        arguments: Arguments of the library's constructor or configuration.
        learning_rate: Peak learning rate that trains it well at batch 128.
    """

    family: str
    variant: str
    library: str
    entry: str
    arguments: dict[str, Any] = field(hash=False)
    learning_rate: float = 1e-2

    @property
    def name(self) -> str:
        """Family and variant, e.g. ``resnet_a``."""
        return f"{self.family}_{self.variant}"


def _clip(width: int, layers: int, embed_dim: int) -> dict[str, Any]:
    return {
        "embed_dim": embed_dim,
        "vision_cfg": {
            "image_size": IMAGE_SIZE,
            "patch_size": 4,
            "width": width,
            "head_width": 16,
            "layers": layers,
            "mlp_ratio": 2.0,
            "pool_type": "avg",
        },
        "text_cfg": {"context_length": 24, "width": 16, "heads": 2, "layers": 1, "mlp_ratio": 2.0},
    }


_TABLE: tuple[Architecture, ...] = (
    Architecture(
        "resnet", "a", "timm", "resnet18",
        {"layers": [1, 1, 1, 1], "channels": [12, 16, 24, 32], "stem_type": "deep", "stem_width": 6,
         "zero_init_last": False},
    ),
    Architecture(
        "resnet", "b", "timm", "resnet18",
        {"layers": [1, 1, 1, 1], "channels": [16, 24, 32, 40], "stem_type": "deep", "stem_width": 8,
         "zero_init_last": False},
    ),
    Architecture(
        "densenet", "a", "timm", "densenet121",
        {"growth_rate": 8, "block_config": [3, 4, 3], "bn_size": 2, "stem_type": "deep"},
    ),
    Architecture(
        "densenet", "b", "timm", "densenet121",
        {"growth_rate": 10, "block_config": [3, 5, 4], "bn_size": 2, "stem_type": "deep"},
    ),
    Architecture(
        "convnext", "a", "timm", "convnext_tiny",
        {"depths": [1, 1, 2, 1], "dims": [16, 20, 28, 40], "kernel_sizes": 3, "patch_size": 2, "ls_init_value": 1.0},
        4e-3,
    ),
    Architecture(
        "convnext", "b", "timm", "convnext_tiny",
        {"depths": [1, 1, 2, 1], "dims": [16, 28, 40, 56], "kernel_sizes": 5, "patch_size": 2, "ls_init_value": 1.0},
        4e-3,
    ),
    Architecture(
        "vit", "a", "timm", "vit_tiny_patch16_224",
        {"img_size": IMAGE_SIZE, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 2, "mlp_ratio": 2.0,
         "class_token": False, "global_pool": "avg"},
        5e-3,
    ),
    Architecture(
        "vit", "b", "timm", "vit_tiny_patch16_224",
        {"img_size": IMAGE_SIZE, "patch_size": 4, "embed_dim": 48, "depth": 3, "num_heads": 3, "mlp_ratio": 2.0,
         "class_token": False, "global_pool": "avg"},
        5e-3,
    ),
    Architecture(
        "focalnet", "a", "transformers", "focalnet",
        {"patch_size": 4, "embed_dim": 24, "depths": [1, 1], "focal_levels": [2, 2], "focal_windows": [3, 3],
         "mlp_ratio": 2.0, "drop_path_rate": 0.0, "initializer_range": 0.1},
        4e-3,
    ),
    Architecture(
        "focalnet", "b", "transformers", "focalnet",
        {"patch_size": 4, "embed_dim": 28, "depths": [1, 1], "focal_levels": [2, 2], "focal_windows": [3, 3],
         "mlp_ratio": 2.0, "drop_path_rate": 0.0, "initializer_range": 0.1},
        4e-3,
    ),
    Architecture(
        "mobilenet", "a", "transformers", "mobilenet_v2",
        {"depth_multiplier": 0.1, "depth_divisible_by": 4, "min_depth": 8, "expand_ratio": 2.0, "output_stride": 16,
         "finegrained_output": False, "tf_padding": False, "classifier_dropout_prob": 0.0,
         "initializer_range": 0.2, "layer_norm_eps": 1e-5},
        2e-2,
    ),
    Architecture(
        "mobilenet", "b", "transformers", "mobilenet_v2",
        {"depth_multiplier": 0.125, "depth_divisible_by": 4, "min_depth": 8, "expand_ratio": 3.0, "output_stride": 16,
         "finegrained_output": False, "tf_padding": False, "classifier_dropout_prob": 0.0,
         "initializer_range": 0.2, "layer_norm_eps": 1e-5},
        2e-2,
    ),
    Architecture(
        "efficientnet", "a", "transformers", "efficientnet",
        {"width_coefficient": 0.125, "depth_coefficient": 1.0, "depth_divisor": 8, "kernel_sizes": [3, 3, 5],
         "in_channels": [64, 64, 128], "out_channels": [64, 128, 192], "strides": [1, 2, 2],
         "num_block_repeats": [1, 1, 2], "expand_ratios": [1, 4, 4], "hidden_dim": 160,
         "dropout_rate": 0.0, "drop_connect_rate": 0.0, "batch_norm_momentum": 0.1,
         "initializer_range": 0.2, "batch_norm_eps": 1e-5},
    ),
    Architecture(
        "efficientnet", "b", "transformers", "efficientnet",
        {"width_coefficient": 0.1875, "depth_coefficient": 1.0, "depth_divisor": 8, "kernel_sizes": [3, 3, 5],
         "in_channels": [43, 64, 128], "out_channels": [64, 128, 170], "strides": [1, 2, 2],
         "num_block_repeats": [1, 1, 2], "expand_ratios": [1, 4, 4], "hidden_dim": 240,
         "dropout_rate": 0.0, "drop_connect_rate": 0.0, "batch_norm_momentum": 0.1,
         "initializer_range": 0.2, "batch_norm_eps": 1e-5},
    ),
    Architecture(
        "swin", "a", "transformers", "swin",
        {"patch_size": 4, "embed_dim": 24, "depths": [2, 1], "num_heads": [2, 4], "window_size": 4, "mlp_ratio": 2.0,
         "drop_path_rate": 0.0, "initializer_range": 0.1},
        4e-3,
    ),
    Architecture(
        "swin", "b", "transformers", "swin",
        {"patch_size": 4, "embed_dim": 32, "depths": [2, 1], "num_heads": [2, 4], "window_size": 4, "mlp_ratio": 2.0,
         "drop_path_rate": 0.0, "initializer_range": 0.1},
        4e-3,
    ),
    Architecture(
        "pvt", "a", "transformers", "pvt_v2",
        {"num_encoder_blocks": 3, "depths": [1, 1, 1], "sr_ratios": [2, 1, 1], "hidden_sizes": [16, 24, 40],
         "patch_sizes": [5, 3, 3], "strides": [2, 2, 2], "num_attention_heads": [1, 2, 4], "mlp_ratios": [2, 2, 2],
         "initializer_range": 0.1},
        4e-3,
    ),
    Architecture(
        "pvt", "b", "transformers", "pvt_v2",
        {"num_encoder_blocks": 3, "depths": [1, 1, 2], "sr_ratios": [2, 1, 1], "hidden_sizes": [16, 32, 40],
         "patch_sizes": [5, 3, 3], "strides": [2, 2, 2], "num_attention_heads": [1, 2, 4], "mlp_ratios": [2, 2, 2],
         "initializer_range": 0.1},
        4e-3,
    ),
    Architecture(
        "regnet", "a", "transformers", "regnet",
        {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "groups_width": 8,
         "layer_type": "y", "downsample_in_first_stage": False},
    ),
    Architecture(
        "regnet", "b", "transformers", "regnet",
        {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1], "groups_width": 8,
         "layer_type": "y", "downsample_in_first_stage": False},
    ),
    Architecture(
        "poolformer", "a", "transformers", "poolformer",
        {"num_encoder_blocks": 3, "depths": [1, 1, 1], "hidden_sizes": [20, 32, 48], "patch_sizes": [5, 3, 3],
         "strides": [2, 2, 2], "padding": [2, 1, 1], "mlp_ratio": 2.0, "layer_scale_init_value": 1.0,
         "initializer_range": 0.1},
        4e-3,
    ),
    Architecture(
        "poolformer", "b", "transformers", "poolformer",
        {"num_encoder_blocks": 3, "depths": [1, 2, 1], "hidden_sizes": [24, 40, 56], "patch_sizes": [5, 3, 3],
         "strides": [2, 2, 2], "padding": [2, 1, 1], "mlp_ratio": 2.0, "layer_scale_init_value": 1.0,
         "initializer_range": 0.1},
        4e-3,
    ),
    Architecture("clip_vit", "a", "open_clip", "clip", _clip(32, 3, 32), 4e-3),
    Architecture("clip_vit", "b", "open_clip", "clip", _clip(48, 3, 48), 4e-3),
)  # fmt: skip

#: All architectures by name.
ARCHITECTURES: dict[str, Architecture] = {architecture.name: architecture for architecture in _TABLE}
#: Families in a fixed order.
FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(architecture.family for architecture in _TABLE))
#: Families of which no model is ever seen in training a recommender (``thesis_rec.starter.sides`` writes them down).
UNKNOWN_FAMILIES: tuple[str, ...] = ("regnet", "poolformer", "densenet")


def build(architecture: Architecture, class_names: Sequence[str], seed: int) -> nn.Module:
    """A freshly initialised network whose ``forward`` maps normalised images to logits.

    Args:
        architecture: Which one.
        class_names: Names of the outputs; their number is the head's size.
        seed: Seed of the initial weights, which are drawn on the CPU, so that every device starts equal.

    Returns:
        A module ``(B, 3, 32, 32) -> (B, K)``, in training mode on the CPU; :func:`library_module` gives the library's
        own object behind it.
    """
    import torch

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        maker = {"timm": _build_timm, "transformers": _build_transformers, "open_clip": _build_clip}
        module = maker[architecture.library](architecture, list(class_names))
        if architecture.library != "open_clip":
            _initialise(module)
    for child in module.modules():
        # Some transformers classes keep TensorFlow's momentum (0.99, 0.997), which torch reads the other way round.
        if isinstance(child, torch.nn.BatchNorm2d):
            child.momentum = 0.1
    return module.train()


def _initialise(module: nn.Module) -> None:
    """Draw the weights of layers with the variance that keeps signals alive in narrow networks, 1 / fan-in.

    The libraries draw most of them with a standard deviation of 0.02, which suits widths of hundreds: at a width of
    thirty a network needs hundreds of updates to get over it. CLIP scales by its width already.
    """
    from torch import nn

    for child in module.modules():
        if isinstance(child, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(child.weight, std=child.weight[0].numel() ** -0.5)


def library_module(module: nn.Module) -> nn.Module:
    """The timm, transformers or open_clip object inside what :func:`build` returned."""
    inner: nn.Module = getattr(module, "inner", module)
    return inner


def parameter_count(module: nn.Module) -> int:
    """Number of parameters of the library's object, shared ones once."""
    return sum(parameter.numel() for parameter in library_module(module).parameters())


def _build_timm(architecture: Architecture, class_names: list[str]) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(
        architecture.entry, pretrained=False, num_classes=len(class_names), **architecture.arguments
    )
    return model


def _build_transformers(architecture: Architecture, class_names: list[str]) -> nn.Module:
    from transformers import AutoConfig, AutoModelForImageClassification

    from thesis_rec.starter.modules import LogitsOfOutput

    config = AutoConfig.for_model(
        architecture.entry,
        **architecture.arguments,
        **({} if architecture.entry in ("regnet", "poolformer") else {"image_size": IMAGE_SIZE}),
        id2label=dict(enumerate(class_names)),
        label2id={name: i for i, name in enumerate(class_names)},
    )
    return LogitsOfOutput(AutoModelForImageClassification.from_config(config))


def _build_clip(architecture: Architecture, class_names: list[str]) -> nn.Module:
    from thesis_rec.starter.modules import CaptionClassifier, caption_tokenizer, new_clip

    tokenizer = caption_tokenizer()
    return CaptionClassifier(new_clip(architecture.arguments, tokenizer), tokenizer, class_names)


def load_weights(module: nn.Module, folder: Path) -> None:
    """Load the weights that :func:`save` wrote into a module of the same architecture and classes.

    Args:
        module: What :func:`build` returned.
        folder: The checkpoint's folder.
    """
    from safetensors.torch import load_file

    inner = library_module(module)
    name = next(name for name in set(WEIGHTS_FILES.values()) if (folder / name).is_file())
    stored = load_file(folder / name)
    state = {key: value.float() if value.is_floating_point() else value for key, value in stored.items()}
    inner.load_state_dict(state, strict=True)


def save(
    module: nn.Module, architecture: Architecture, class_names: Sequence[str], folder: Path, note: dict[str, Any]
) -> None:
    """Save a network in its library's format: fp16 safetensors and the configuration files.

    Args:
        module: What :func:`build` returned.
        architecture: Its architecture.
        class_names: Names of the head's outputs, kept in the configuration.
        folder: Where to; made when needed.
        note: Extra entries for the configuration, under the key ``thesis_rec``.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    inner = library_module(module)
    state: dict[str, torch.Tensor] = {}
    for key, tensor in inner.state_dict().items():
        stored = tensor.detach().cpu()
        if stored.is_floating_point():
            half = stored.half()
            # Batch-norm variances can exceed what half precision holds.
            stored = half if bool(torch.isfinite(half).all()) else stored.float()
        state[key] = stored.contiguous().clone()
    save_file(state, folder / WEIGHTS_FILES[architecture.library], metadata={"format": "pt"})
    writer = {"timm": _timm_config, "transformers": _transformers_config, "open_clip": _clip_config}
    for name, content in writer[architecture.library](inner, architecture, list(class_names)).items():
        if name in {"config.json", "open_clip_config.json"}:
            content["thesis_rec"] = note
        (folder / name).write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


def _timm_config(inner: Any, architecture: Architecture, class_names: list[str]) -> dict[str, dict[str, Any]]:
    pretrained = {
        "input_size": [3, IMAGE_SIZE, IMAGE_SIZE],
        "fixed_input_size": architecture.family in ("vit", "mixer"),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": list(MEAN),
        "std": list(STD),
        "num_classes": len(class_names),
        "pool_size": None,
        "first_conv": inner.pretrained_cfg.get("first_conv"),
        "classifier": inner.pretrained_cfg.get("classifier"),
        "license": "mit",
        "custom_load": False,
    }
    config = {
        "architecture": architecture.entry,
        "num_classes": len(class_names),
        "num_features": inner.num_features,
        "label_names": class_names,
        "model_args": architecture.arguments,
        "pretrained_cfg": pretrained,
    }
    return {"config.json": config}


def _transformers_config(inner: Any, architecture: Architecture, class_names: list[str]) -> dict[str, dict[str, Any]]:
    config = json.loads(inner.config.to_json_string(use_diff=True))
    config["architectures"] = [type(inner).__name__]
    # Weights are stored in half precision but meant to be used in single precision.
    config["dtype"] = "float32"
    preprocessor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }
    return {"config.json": config, "preprocessor_config.json": preprocessor}


def _clip_config(inner: Any, architecture: Architecture, class_names: list[str]) -> dict[str, dict[str, Any]]:
    from thesis_rec.starter.modules import caption_tokenizer, clip_configuration, tokenizer_files

    tokenizer = caption_tokenizer()
    config = {
        "model_cfg": clip_configuration(architecture.arguments, tokenizer),
        "preprocess_cfg": {
            "mean": list(MEAN), "std": list(STD), "interpolation": "bilinear", "resize_mode": "squash",
        },
        "label_names": class_names,
    }  # fmt: skip
    return {"open_clip_config.json": config, **tokenizer_files(tokenizer)}
