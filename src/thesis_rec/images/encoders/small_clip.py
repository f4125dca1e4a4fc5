"""The image tower of a plain CLIP in numpy: no library that trained it is imported, and neither is torch.

Importing open_clip (torchvision, transformers, torch's compiler) or torch alone takes longer than encoding a thousand
small images. The forward pass is that of open_clip's ``VisionTransformer`` (Dosovitskiy et al., "An Image is Worth
16x16 Words", ICLR 2021), tensors have the names that they have there, and features agree with its own up to rounding.
Texts are left to the library: a text tower here saved 8 of the 300 seconds that all datasets of the
embedded zoo take.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import unit
from thesis_rec.images.decoding import resize_image
from thesis_rec.images.encoders.image_encoder import (
    CLIP_COLOURS,
    EncoderConfig,
    ImageEncoder,
    check_features,
    encoder_id,
)

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_MODEL_KEYS = {"embed_dim", "vision_cfg", "text_cfg"}
_IMAGE_KEYS = {"image_size", "patch_size", "width", "head_width", "layers", "mlp_ratio", "pool_type"}

Floats = NDArray[np.float32]

#: Images of one pass: their activations stay in a core's cache.
_BLOCK = 8
_THREADS = 2


class SmallClip:
    """An :class:`~thesis_rec.images.encoders.image_encoder.ImageEncoder` of the folder of a plain CLIP, on the CPU.

    Args:
        folder: Its folder.
        config: What names the folder.

    Raises:
        ValueError: If its image tower isn't the plain transformer that this module knows; files that are absent or
            damaged raise other errors.
    """

    def __init__(self, folder: Path, config: EncoderConfig) -> None:
        from safetensors.numpy import load_file

        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        model, normalisation = settings["model_cfg"], settings.get("preprocess_cfg", {})
        vision = model["vision_cfg"]
        one_stack = isinstance(vision["layers"], int) and vision.get("pool_type", "tok") in ("avg", "tok")
        if not (one_stack and set(model) == _MODEL_KEYS and set(vision) <= _IMAGE_KEYS):
            raise ValueError("its image tower is no plain transformer")
        self._config, self.encoder_id, self.dim = config, encoder_id(config), int(model["embed_dim"])
        self.image_size, self._patch = int(vision["image_size"]), int(vision["patch_size"])
        self._mean_pool = vision.get("pool_type", "tok") == "avg"
        self._layers, self._heads = vision["layers"], int(vision["width"]) // int(vision.get("head_width", 64))
        self._weights = {
            name.removeprefix("visual.").replace("in_proj_", "in_proj."): value.astype(np.float32)
            for name, value in load_file(folder / WEIGHTS).items()
            if name.startswith("visual.")
        }
        mean, std = (np.asarray(normalisation.get(key, default), np.float32) for key, default in CLIP_COLOURS.items())
        self._mean, self._std = 255 * mean[:, None, None], 255 * std[:, None, None]
        self.encode(np.zeros((1, self.image_size, self.image_size, 3), np.uint8))  # what lacks tensors fails here

    def encode(self, images: NDArray[np.uint8]) -> Floats:
        """See :class:`ImageEncoder`; an image's features don't depend on its company.

        Raises:
            ItemError: If a feature isn't finite.
        """
        side = self.image_size
        if images.shape[1:3] != (side, side):
            images = np.array([resize_image(image, side) for image in images])
        pixels = images.transpose(0, 3, 1, 2).astype(np.float32)
        return check_features(self.encode_depths(pixels, 0)[0], self.encoder_id)

    def encode_depths(self, pixels: Floats, count: int) -> tuple[Floats, list[Floats]]:
        """See :class:`ImageEncoder`."""
        from threadpoolctl import threadpool_limits

        depths = np.linspace(0, self._layers - 1, count).round().astype(int).tolist()
        blocks = [pixels[start : start + _BLOCK] for start in range(0, len(pixels), _BLOCK)]
        # Threads of our own, each with a block in its cache, instead of those of the matrix products.
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(self._forward, blocks))
        features = np.concatenate([features for features, _ in found])
        return unit(features), [np.concatenate([layers[depth] for _, layers in found]) for depth in depths]

    def encode_text(self, texts: list[str]) -> Floats | None:
        """See :class:`ImageEncoder`; only the encoder's own evaluation asks for it."""
        return self._library.encode_text(texts)

    @cached_property
    def _library(self) -> ImageEncoder:
        from thesis_rec.images.encoders import torch_encoder

        return torch_encoder.load(self._config)

    def _forward(self, pixels: Floats) -> tuple[Floats, list[Floats]]:
        """(B, 3, S, S) floats 0..255 to features (B, D) and the mean activation (B, W) after each layer."""
        w, side = self._weights, self.image_size // self._patch
        x = ((pixels - self._mean) / self._std).reshape(len(pixels), 3, side, self._patch, side, self._patch)
        patches = x.transpose(0, 2, 4, 1, 3, 5).reshape(len(pixels), side * side, -1)  # (B, T, 3 P P)
        kernel = w["conv1.weight"].reshape(len(w["conv1.weight"]), -1)
        first = np.broadcast_to(w["class_embedding"], (len(pixels), 1, len(kernel)))
        x = np.concatenate([first, patches @ kernel.T], axis=1) + w["positional_embedding"]  # (B, 1 + T, W)
        x, layers = self._normed(x, "ln_pre"), []
        flat = x.reshape(-1, x.shape[-1])  # the same numbers
        for layer in range(self._layers):
            block = f"transformer.resblocks.{layer}"
            flat += self._attention(self._normed(x, f"{block}.ln_1"), f"{block}.attn")
            hidden = self._linear(self._normed(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
            flat += self._linear(_gelu(hidden), f"{block}.mlp.c_proj")
            layers.append(x.mean(axis=1))
        x = self._normed(x, "ln_post")
        return (x[:, 1:].mean(axis=1) if self._mean_pool else x[:, 0]) @ w["proj"], layers

    def _normed(self, x: Floats, name: str) -> Floats:
        """Layer normalisation of (B, T, W) by the weights of that name."""
        out = x - x.mean(axis=-1, keepdims=True)
        out /= np.sqrt(np.square(out).mean(axis=-1, keepdims=True) + 1e-5)
        return out * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _linear(self, x: Floats, name: str) -> Floats:
        """(B T, out) of (..., in)."""
        # As one matrix: numpy multiplies a stack of them one by one.
        out = x.reshape(-1, x.shape[-1]) @ self._weights[f"{name}.weight"].T
        out += self._weights[f"{name}.bias"]
        return out

    def _attention(self, x: Floats, name: str) -> Floats:
        batch, tokens, width = x.shape
        depth = width // self._heads
        flat = self._linear(x, f"{name}.in_proj")
        q, k, v = flat.reshape(batch, tokens, 3, self._heads, depth).transpose(2, 0, 3, 1, 4)  # (B, H, T, W / H) each
        # Keys along the rows: sums over them run along the columns, which is faster.
        scores = k @ (q * np.float32(1 / np.sqrt(depth))).swapaxes(-1, -2)
        scores -= scores.max(axis=-2, keepdims=True)
        np.exp(scores, out=scores)
        found = scores.swapaxes(-1, -2) @ v / scores.sum(axis=-2)[..., None]
        return self._linear(found.swapaxes(1, 2).reshape(batch, tokens, width), f"{name}.out_proj")


def _gelu(x: Floats) -> Floats:
    """``x``, itself changed, times the normal distribution function of it (Hendrycks and Gimpel 2016).

    The error function is formula 7.1.26 of Abramowitz and Stegun, whose error is below 1.5e-7.
    """
    size = np.abs(x)
    t = size * np.float32(0.3275911 * np.sqrt(0.5))
    t += 1
    np.divide(1, t, out=t)
    tail = t * np.float32(_TAIL[0])
    for coefficient in _TAIL[1:]:
        tail += np.float32(coefficient)
        tail *= t
    np.multiply(x, x, out=t)
    t *= np.float32(-0.5)
    tail *= np.exp(t, out=t)
    tail *= size  # |x| (1 - erf(|x| / sqrt 2)) / 2
    np.maximum(x, 0, out=x)
    x -= tail
    return x


#: Half the coefficients of 1 - erf.
_TAIL = (0.5307027145, -0.7265760135, 0.7107068705, -0.142248368, 0.127414796)
