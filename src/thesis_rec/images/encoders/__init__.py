"""Image encoders behind one interface: open_clip, transformers, timm."""

from thesis_rec.images.encoders.image_encoder import EncoderConfig, ImageEncoder, encoder_id, load_encoder

__all__ = ["EncoderConfig", "ImageEncoder", "encoder_id", "load_encoder"]
