"""Image encoders behind one interface: open_clip, transformers, timm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thesis_rec.images.encoders.image_encoder import EncoderConfig, ImageEncoder, encoder_id, local_folder

if TYPE_CHECKING:
    from thesis_rec.images.encoders.torch_encoder import TorchEncoder

__all__ = ["EncoderConfig", "ImageEncoder", "encoder_id", "load_encoder"]


def load_encoder(config: EncoderConfig, device: str = "cpu", precision: str = "fp32") -> TorchEncoder:
    """Load an encoder.

    Args:
        config: Which one.
        device: ``cpu``, ``cuda`` or ``auto``.
        precision: ``fp32`` or ``bf16`` (weights and activations; features are float32 in any case).

    Returns:
        The encoder, in evaluation mode.

    Raises:
        ItemError: If it can't be loaded: absent, damaged, offline.
    """
    local_folder(config)
    from thesis_rec.images.encoders import libraries

    return libraries.load(config, encoder_id(config), device, precision)
