"""Image encoders behind one interface: open_clip, transformers, timm."""

import logging

from thesis_rec.base.devices import torch_device
from thesis_rec.images.encoders.image_encoder import EncoderConfig, ImageEncoder, encoder_id, local_folder
from thesis_rec.images.encoders.small_clip import SmallClip
from thesis_rec.models.weight_files import check_folder

__all__ = ["EncoderConfig", "ImageEncoder", "encoder_id", "load_encoder"]


def load_encoder(config: EncoderConfig, device: str = "cpu", precision: str = "fp32") -> ImageEncoder:
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
    folder = local_folder(config)
    if folder is not None:
        check_folder(folder, config.source)
    device = torch_device(device)
    if folder is not None and (config.kind, device, precision) == ("open_clip", "cpu", "fp32"):
        try:
            return SmallClip(folder, config)
        except Exception as error:  # it's another network, or damaged, which the library explains
            logging.getLogger(__name__).debug("%s is left to open_clip", folder, exc_info=error)
    from thesis_rec.images.encoders import torch_encoder

    return torch_encoder.load(config, device, precision)
