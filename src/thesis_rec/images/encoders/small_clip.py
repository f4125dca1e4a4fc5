"""The image tower of a plain CLIP, without the library that trained it.

open_clip brings torchvision, transformers and torch's compiler along, and importing those takes longer than encoding a
thousand small images. The forward pass is that of its ``VisionTransformer`` (Dosovitskiy et al., "An Image is Worth
16x16 Words", ICLR 2021; Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML
2021), modules have the names that they have there, and features agree with its own up to rounding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_KEYS = {"image_size", "patch_size", "width", "head_width", "layers", "mlp_ratio", "pool_type"}


class _Block(nn.Module):
    """Attention and a perceptron, each after a layer norm and around a shortcut: (B, T, W) to (B, T, W)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, hidden))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False)[0]
        return torch.add(x, self.mlp(self.ln_2(x)))


class _Stack(nn.Module):
    def __init__(self, blocks: list[_Block]) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x)
        return x


class _ImageTower(nn.Module):
    """(B, 3, S, S) normalised pixels to (B, D) features.

    Args:
        vision: ``vision_cfg`` of open_clip's configuration.
        embed_dim: D.
    """

    def __init__(self, vision: Mapping[str, Any], embed_dim: int) -> None:
        super().__init__()
        width, patch, side = int(vision["width"]), int(vision["patch_size"]), int(vision["image_size"])
        heads, hidden = width // int(vision.get("head_width", 64)), int(width * float(vision.get("mlp_ratio", 4.0)))
        self.image_size, self._mean_pool = side, vision.get("pool_type", "tok") == "avg"
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((side // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = _Stack([_Block(width, heads, hidden) for _ in range(int(vision["layers"]))])
        self.proj = nn.Parameter(torch.empty(width, embed_dim))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).mT  # (B, T, W)
        first = self.class_embedding.expand(len(pixels), 1, -1)
        x = self.ln_pre(torch.cat([first, patches], 1) + self.positional_embedding)  # (B, 1 + T, W)
        x = self.ln_post(self.transformer(x))
        return (x[:, 1:].mean(1) if self._mean_pool else x[:, 0]) @ self.proj


class SmallClip(nn.Module):
    """The image tower under the name that it has in a whole CLIP, ``visual``."""

    def __init__(self, vision: Mapping[str, Any], embed_dim: int) -> None:
        super().__init__()
        self.visual = _ImageTower(vision, embed_dim)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised pixels to (B, D) features."""
        features: Tensor = self.visual(pixels)
        return features


def is_plain(folder: Path) -> bool:
    """Whether a folder holds a CLIP whose image tower is the plain transformer that this module knows."""
    if not (folder / WEIGHTS).is_file() or not (folder / CONFIG).is_file():
        return False
    model = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["model_cfg"]
    vision = model["vision_cfg"]
    return (
        set(vision) <= _KEYS
        and {"embed_dim", "vision_cfg", "text_cfg"} == set(model)
        and isinstance(vision.get("layers"), int)
        and vision.get("pool_type", "tok") in ("avg", "tok")
    )


def load_small_clip(folder: Path) -> tuple[SmallClip, dict[str, Any]]:
    """The image tower in a folder for which :func:`is_plain` holds, and its ``preprocess_cfg``."""
    from safetensors.torch import load_file

    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    # Weights replace every parameter: none is drawn first.
    with torch.device("meta"):
        model = SmallClip(config["model_cfg"]["vision_cfg"], int(config["model_cfg"]["embed_dim"]))
    tensors = {name: value.float() for name, value in load_file(folder / WEIGHTS).items() if name.startswith("visual.")}
    model.load_state_dict(tensors, assign=True)
    return model, dict(config.get("preprocess_cfg", {}))
