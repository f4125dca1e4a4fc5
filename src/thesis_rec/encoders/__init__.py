"""Image encoders behind one interface: open_clip, transformers, timm."""

from thesis_rec.encoders.base import EncoderConfig, ImageEncoder, encoder_id, load_encoder

__all__ = ["EncoderConfig", "ImageEncoder", "encoder_id", "load_encoder"]
