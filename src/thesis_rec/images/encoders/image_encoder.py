"""What an image encoder is, and how one is chosen by configuration. Imports no heavy library."""

import hashlib
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thesis_rec.base.errors import ItemError
from thesis_rec.base.files import sha256_file
from thesis_rec.base.settings import Settings


class EncoderConfig(Settings):
    """Which image encoder makes the tokens.

    Attributes:
        kind: Library: ``open_clip``, ``transformers`` or ``timm``.
        source: A local folder in the library's hub format, or its name there: ``hf-hub:org/name`` or
            ``architecture/tag`` for open_clip, ``org/name`` for transformers, a model name for timm.
    """

    kind: Literal["open_clip", "transformers", "timm"] = "open_clip"
    source: str = Field(min_length=1)


@runtime_checkable
class ImageEncoder(Protocol):
    """Images to unit vectors.

    Attributes:
        encoder_id: Names the weights; features of different encoders don't mix.
        dim: D, length of a feature.
        image_size: Side of the encoder's input, in pixels.
    """

    encoder_id: str
    dim: int
    image_size: int

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) uint8 to (N, D) float32, each of length 1; as many at once as memory holds."""

    def encode_depths(self, pixels: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], list[Any]]:
        """What the encoder makes of images at several depths.

        Args:
            pixels: (N, 3, H, W) floats 0..255.
            count: Number of layers, evenly spread over the image tower's longest stack; those of a short one repeat,
                and where there is none the features stand for each.

        Returns:
            Features (N, D) of length 1, and for each layer its mean activation (N, C), all float32.
        """

    def encode_text(self, texts: list[str]) -> NDArray[np.float32] | None:
        """(K, D) float32 features of K texts in the same space, or None where there is no text tower."""


#: Normalisation of CLIP (Radford et al. 2021), which open_clip and transformers use unless a model says otherwise.
CLIP_COLOURS: dict[str, tuple[float, float, float]] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}


def check_features(features: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """``features`` if each is finite and of length 1.

    Raises:
        ItemError: If one isn't: the encoder's weights are damaged, or overflow in the chosen precision.
    """
    if not np.isfinite(features).all() or (len(features) and np.linalg.norm(features, axis=1).min() < 0.5):
        raise ItemError(name, "the encoder gives features that aren't finite.", "Use fp32, or another encoder.")
    return features


def encoder_id(config: EncoderConfig) -> str:
    """Name of an encoder's features, the same wherever its files lie.

    For a local folder it contains a hash of the files; for a hub name, the name.

    Raises:
        ItemError: If a path was given that doesn't exist.
    """
    path = local_folder(config)
    if path is not None:
        digest = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            digest.update(f"{file.relative_to(path)}:{sha256_file(file)}\n".encode())
        return f"{config.kind}:{path.name}:{digest.hexdigest()[:12]}"
    return f"{config.kind}:{config.source.removeprefix('hf-hub:')}"


def local_folder(config: EncoderConfig) -> Path | None:
    """The encoder's folder on disk, or None for a hub name.

    Raises:
        ItemError: If the source can only be a path, and doesn't exist.
    """
    path = Path(config.source).expanduser()
    if path.is_dir():
        return path
    names_a_path = config.source.startswith(("/", ".", "~")) or len(path.parts) > 2
    if names_a_path and not config.source.startswith("hf-hub:"):
        hint = "Check active.encoder.source in globals.yml, or make the starter zoo with --pipelines=starter_zoo."
        raise ItemError(config.source, "there is no such folder of an image encoder.", hint)
    return None
