"""The embedded zoo's networks: small configurations of real timm, transformers and open_clip classes.

Every family is one class of one library in two sizes (``a`` the smaller, ``b`` the larger), for 32-pixel images, with
20 to 200 thousand parameters.
"""

from dataclasses import dataclass, field
from typing import Any

#: Side of the images in pixels.
IMAGE_SIZE = 32
#: Normalisation of pixels in 0..1, equal for all three channels.
MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)


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
    learning_rate: float

    @property
    def name(self) -> str:
        """Family and variant, e.g. ``resnet_a``."""
        return f"{self.family}_{self.variant}"


def clip_arguments(
    width: int,
    layers: int,
    embed_dim: int,
    *,
    patch: int = 4,
    head_width: int = 16,
    mlp_ratio: float = 2.0,
    text: tuple[int, int, int, int] = (24, 16, 2, 1),
) -> dict[str, Any]:
    """Arguments of open_clip's constructor; of its text half the context's length, width, heads and layers."""
    vision = {"image_size": IMAGE_SIZE, "patch_size": patch, "width": width, "head_width": head_width, "layers": layers}
    names = ("context_length", "width", "heads", "layers")
    return {
        "embed_dim": embed_dim,
        "vision_cfg": vision | {"mlp_ratio": mlp_ratio, "pool_type": "avg"},
        "text_cfg": dict(zip(names, text, strict=True)) | {"mlp_ratio": mlp_ratio},
    }


def _sizes(
    family: str, library: str, entry: str, arguments: dict[str, Any], larger: dict[str, Any], rate: float = 1e-2
) -> tuple[Architecture, Architecture]:
    """Both sizes of a family: the smaller one's arguments, and those in which the larger one differs."""
    return (
        Architecture(family, "a", library, entry, arguments, rate),
        Architecture(family, "b", library, entry, arguments | larger, rate),
    )


_TABLE: tuple[Architecture, ...] = (
    *_sizes(
        "resnet", "timm", "resnet18",
        {"layers": [1, 1, 1, 1], "channels": [12, 16, 24, 32], "stem_type": "deep", "stem_width": 6,
         "zero_init_last": False},
        {"channels": [16, 24, 32, 40], "stem_width": 8},
    ),
    *_sizes(
        "densenet", "timm", "densenet121",
        {"growth_rate": 8, "block_config": [3, 4, 3], "bn_size": 2, "stem_type": "deep"},
        {"growth_rate": 10, "block_config": [3, 5, 4]},
    ),
    *_sizes(
        "convnext", "timm", "convnext_tiny",
        {"depths": [1, 1, 2, 1], "dims": [16, 20, 28, 40], "kernel_sizes": 3, "patch_size": 2,
         "ls_init_value": 1.0},
        {"dims": [16, 28, 40, 56], "kernel_sizes": 5}, 4e-3,
    ),
    *_sizes(
        "vit", "timm", "vit_tiny_patch16_224",
        {"img_size": IMAGE_SIZE, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 2,
         "mlp_ratio": 2.0, "class_token": False, "global_pool": "avg"},
        {"embed_dim": 48, "num_heads": 3}, 5e-3,
    ),
    *_sizes(
        "focalnet", "transformers", "focalnet",
        {"patch_size": 4, "embed_dim": 24, "depths": [1, 1], "focal_levels": [2, 2], "focal_windows": [3, 3],
         "mlp_ratio": 2.0, "drop_path_rate": 0.0, "initializer_range": 0.1},
        {"embed_dim": 28}, 4e-3,
    ),
    *_sizes(
        "mobilenet", "transformers", "mobilenet_v2",
        {"depth_multiplier": 0.1, "depth_divisible_by": 4, "min_depth": 8, "expand_ratio": 2.0,
         "output_stride": 16, "finegrained_output": False, "tf_padding": False,
         "classifier_dropout_prob": 0.0, "initializer_range": 0.2, "layer_norm_eps": 1e-05},
        {"depth_multiplier": 0.125, "expand_ratio": 3.0}, 2e-2,
    ),
    *_sizes(
        "efficientnet", "transformers", "efficientnet",
        {"width_coefficient": 0.125, "depth_coefficient": 1.0, "depth_divisor": 8, "kernel_sizes": [3, 3, 5],
         "in_channels": [64, 64, 128], "out_channels": [64, 128, 192], "strides": [1, 2, 2],
         "num_block_repeats": [1, 1, 2], "expand_ratios": [1, 4, 4], "hidden_dim": 160, "dropout_rate": 0.0,
         "drop_connect_rate": 0.0, "batch_norm_momentum": 0.1, "initializer_range": 0.2,
         "batch_norm_eps": 1e-05},
        {"width_coefficient": 0.1875, "in_channels": [43, 64, 128], "out_channels": [64, 128, 170], "hidden_dim": 240},
    ),
    *_sizes(
        "swin", "transformers", "swin",
        {"patch_size": 4, "embed_dim": 24, "depths": [2, 1], "num_heads": [2, 4], "window_size": 4,
         "mlp_ratio": 2.0, "drop_path_rate": 0.0, "initializer_range": 0.1},
        {"embed_dim": 32}, 4e-3,
    ),
    *_sizes(
        "pvt", "transformers", "pvt_v2",
        {"num_encoder_blocks": 3, "depths": [1, 1, 1], "sr_ratios": [2, 1, 1], "hidden_sizes": [16, 24, 40],
         "patch_sizes": [5, 3, 3], "strides": [2, 2, 2], "num_attention_heads": [1, 2, 4],
         "mlp_ratios": [2, 2, 2], "initializer_range": 0.1},
        {"depths": [1, 1, 2], "hidden_sizes": [16, 32, 40]}, 4e-3,
    ),
    *_sizes(
        "regnet", "transformers", "regnet",
        {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "groups_width": 8,
         "layer_type": "y", "downsample_in_first_stage": False},
        {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    ),
    *_sizes(
        "poolformer", "transformers", "poolformer",
        {"num_encoder_blocks": 3, "depths": [1, 1, 1], "hidden_sizes": [20, 32, 48], "patch_sizes": [5, 3, 3],
         "strides": [2, 2, 2], "padding": [2, 1, 1], "mlp_ratio": 2.0, "layer_scale_init_value": 1.0,
         "initializer_range": 0.1},
        {"depths": [1, 2, 1], "hidden_sizes": [24, 40, 56]}, 4e-3,
    ),
    *_sizes("clip_vit", "open_clip", "clip", clip_arguments(32, 3, 32), clip_arguments(48, 3, 48), 4e-3),
)  # fmt: skip

#: All architectures by name.
ARCHITECTURES: dict[str, Architecture] = {architecture.name: architecture for architecture in _TABLE}
#: Families in a fixed order.
FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(architecture.family for architecture in _TABLE))
#: Families of which no model is ever seen in training a recommender (``thesis_rec.starter.sides`` writes them down).
UNKNOWN_FAMILIES: tuple[str, ...] = ("regnet", "poolformer", "densenet")
