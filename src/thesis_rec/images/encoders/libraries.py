"""Encoders of the three libraries. Imports torch; nothing imports it before an encoder is loaded."""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thesis_rec.base.errors import ItemError
from thesis_rec.images.encoders.image_encoder import EncoderConfig, encoder_id, local_folder
from thesis_rec.images.encoders.torch_encoder import TextTower, TorchEncoder
from thesis_rec.models.backbone import Backbone, preparation_of
from thesis_rec.models.loaders import pooled_output, timm_backbone, transformers_preparation
from thesis_rec.models.model_sources import no_network, of_the_hub

logger = logging.getLogger(__name__)

Towers = tuple[Backbone, TextTower | None]


def load(config: EncoderConfig, device: str = "cpu", precision: str = "fp32") -> TorchEncoder:
    """Load the encoder of a configuration; see :func:`thesis_rec.images.encoders.load_encoder`."""
    build = {"open_clip": _open_clip, "transformers": _transformers, "timm": _timm}[config.kind]
    folder, source, hint = local_folder(config), config.source, "Check active.encoder in globals.yml."
    # A folder may name other models, such as a text tower's; nothing is fetched for what it names.
    with (
        of_the_hub(source, f"encoder {source}", "the encoder can't be loaded ({reason}).", hint),
        nullcontext() if folder is None else no_network(),
    ):
        backbone, text = build(source, folder, encoder_id(config))
    return TorchEncoder(backbone, text, device, precision)


# --- open_clip ---------------------------------------------------------------------------------------------------


def _open_clip(source: str, folder: Path | None, name: str) -> Towers:
    import open_clip

    architecture, tag = f"local-dir:{folder}" if folder else source, None
    if not folder and not source.startswith("hf-hub:"):
        architecture, _, tag = source.partition("/")
        if not tag:
            hint = f"Give architecture/tag; tags: {', '.join(open_clip.list_pretrained_tags_by_model(architecture))}."
            raise ItemError(source, "no pretrained weights were named.", hint)
    model, prepare = open_clip.create_model_from_pretrained(architecture, tag)
    tokenizer = open_clip.get_tokenizer(architecture)

    def text(texts: list[str], device: torch.device) -> Tensor:
        return model.encode_text(tokenizer(texts).to(device))

    return Backbone(name, model, model.encode_image, None, preparation_of(prepare)), text


# --- transformers ------------------------------------------------------------------------------------------------


def _transformers(source: str, folder: Path | None, name: str) -> Towers:
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    place = folder or source
    model = AutoModel.from_pretrained(place, trust_remote_code=False)
    # An image-text model has this beside its text half.
    features = getattr(model, "get_image_features", model)

    def image(pixels: Tensor) -> Tensor:
        return _tensor(features(pixel_values=pixels))

    text = _transformers_text(model, place) if hasattr(model, "get_text_features") else None
    return Backbone(name, model, image, None, transformers_preparation(place, model.config)), text


def _transformers_text(model: Any, source: Path | str) -> TextTower | None:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError, AttributeError) as error:
        logger.warning("%s has no readable tokenizer (%s): no zero-shot figures", source, error)
        return None
    settings = getattr(model.config, "text_config", None)
    if len(tokenizer) < getattr(settings, "vocab_size", 0) // 2:
        # Where there are no tokenizer files the library makes up an empty tokenizer without a word.
        logger.warning("%s came without its tokenizer: no zero-shot figures", source)
        return None
    longest = getattr(settings, "max_position_embeddings", None)

    def text(texts: list[str], device: torch.device) -> Tensor:
        # SigLIP was trained with padding to the full length; CLIP ignores it.
        tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=longest, return_tensors="pt")
        return _tensor(model.get_text_features(**{k: v.to(device) for k, v in tokens.items() if k != "token_type_ids"}))

    return text


def _tensor(output: Any) -> Tensor:
    """(B, D) of what a model or one of its towers returns."""
    return output if isinstance(output, Tensor) else pooled_output(output)


# --- timm --------------------------------------------------------------------------------------------------------


def _timm(source: str, folder: Path | None, name: str) -> Towers:
    import timm

    model = timm.create_model(f"local-dir:{folder}" if folder else source, pretrained=True, num_classes=0)
    return timm_backbone(name, model), None
