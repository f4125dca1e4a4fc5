"""Tiny models of three libraries, saved as the hub keeps them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import timm
import torch
import transformers
from safetensors.torch import save_file
from timm.models import save_for_hf

TOWER = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
VISION = TOWER | {"image_size": 32, "patch_size": 8}
TEXT = TOWER | {
    "vocab_size": 50,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
}
PREPROCESSING = {
    "image_processor_type": "ViTImageProcessor",
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.2, 0.1],
    "size": {"height": 32, "width": 32},
}


def save_timm(folder: Path, name: str = "resnet10t", safe: bool | str = True, **arguments: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **arguments)
    save_for_hf(model, folder, model_args=arguments, safe_serialization=safe)
    return model.eval()


def save_transformers(folder: Path, model: transformers.PreTrainedModel, preprocessing: bool = True) -> None:
    model.save_pretrained(folder)
    if preprocessing:
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))


def tiny_vit() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    return transformers.ViTForImageClassification(transformers.ViTConfig(**VISION, num_labels=5)).eval()


def tiny_siglip() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.SiglipConfig(vision_config=VISION, text_config=TEXT)
    return transformers.SiglipModel(config).eval()


def save_open_clip(folder: Path) -> Any:
    import open_clip

    torch.manual_seed(0)
    model = open_clip.CLIP(**CLIP).eval()
    folder.mkdir(parents=True)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    settings = {"model_cfg": CLIP, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    return model


def fill_hub_cache(cache: Path, hub_id: str, folder: Path, revision: str = "main", commit: str = "a" * 40) -> Path:
    """Put the files of ``folder`` into a hub cache as its library lays them out, and return the snapshot's folder."""
    repository = cache / ("models--" + hub_id.replace("/", "--"))
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    (repository / "blobs").mkdir(exist_ok=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / revision).write_text(commit)
    for file in sorted(folder.iterdir()):
        blob = repository / "blobs" / f"{commit[:8]}-{file.name}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob.name}")
    return snapshot
