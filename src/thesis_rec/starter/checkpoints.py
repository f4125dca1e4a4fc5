"""The embedded zoo's networks on disk, each in its library's own format.

No code of this project is needed to load one:

* ``timm.create_model("local-dir:<folder>", pretrained=True)``,
* ``transformers.AutoModelForImageClassification.from_pretrained("<folder>")`` and
* ``open_clip.create_model("local-dir:<folder>")`` do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_rec.starter.architectures import IMAGE_SIZE, MEAN, STD, Architecture
from thesis_rec.starter.construction import library_module

if TYPE_CHECKING:
    import torch
    from torch import nn

#: File of the weights in each library's format.
WEIGHTS_FILES = {
    "timm": "model.safetensors",
    "transformers": "model.safetensors",
    "open_clip": "open_clip_model.safetensors",
}


def save(
    module: nn.Module, architecture: Architecture, class_names: Sequence[str], folder: Path, note: dict[str, Any]
) -> None:
    """Save a network in its library's format: fp16 safetensors and the configuration files.

    Args:
        module: What :func:`~thesis_rec.starter.construction.build` returned.
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
