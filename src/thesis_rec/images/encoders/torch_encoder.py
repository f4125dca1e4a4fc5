"""Encoders around networks of three libraries. Imports torch; nothing imports it before such an encoder is loaded."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from thesis_rec.base.devices import torch_device
from thesis_rec.base.errors import ItemError
from thesis_rec.images.encoders.image_encoder import EncoderConfig, check_features, encoder_id, local_folder
from thesis_rec.models.backbone import Backbone, preparation_of
from thesis_rec.models.loaders import pooled_output, timm_backbone, transformers_preparation
from thesis_rec.models.model_sources import no_network, of_the_hub

logger = logging.getLogger(__name__)

#: Texts to (K, D) on a device.
TextTower = Callable[[list[str], torch.device], Tensor]


class TorchEncoder:
    """An :class:`~thesis_rec.images.encoders.image_encoder.ImageEncoder` around a network of any library.

    Args:
        backbone: The network and its preprocessing; its name identifies features, which don't mix with those of others.
        text: Its text tower, if it has one.
        device: Where it runs.
        precision: ``fp32`` or ``bf16``.

    Attributes:
        encoder_id: Its name.
        dim: D, length of a feature.
        image_size: Side of its input, in pixels.
    """

    def __init__(
        self,
        backbone: Backbone,
        text: TextTower | None = None,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.encoder_id = backbone.model_id
        self.image_size = backbone.input_size
        self.device = torch.device(torch_device(device))
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._image, self._text = backbone.features, text
        module = backbone.network.eval().requires_grad_(False).to(self.device, self.dtype)
        # Images come in this size; views of other sizes are brought to it in one way for all libraries.
        size = self.image_size
        one_way = replace(backbone.preparation, resize_to=size, fit="crop", interpolation="bicubic", floor=True)
        self._prepare = one_way.on(self.device)
        self._modules = dict(module.named_modules())
        blank = torch.zeros(1, size, size, 3, dtype=torch.uint8)
        self.dim = int(self.encode_tensor(blank).shape[1])

    @contextmanager
    def _captured(self, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
        """What modules last gave, by their names in the order in which images pass through them."""
        found: dict[str, Tensor] = {}

        def keep(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
            found[name] = output[0] if isinstance(output, tuple) else output

        hooks = [self._modules[name].register_forward_hook(partial(keep, name)) for name in dict.fromkeys(names)]
        try:
            yield found
        finally:
            for hook in hooks:
                hook.remove()

    def _passed(self, pixels: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """(B, 3, H, W) floats 0..255 to (B, D) features of length 1, then the (B, C) mean activation of each layer."""
        with self._captured(layers) as captured:
            features = self._image(self._prepare(pixels.to(self.device)).to(self.dtype)).float()
        return [functional.normalize(features, dim=1), *(pooled(captured[name], len(pixels)) for name in layers)]

    @torch.inference_mode()
    def encode_tensor(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 on any device to (B, D) float32 on the encoder's, each of length 1."""
        return self._passed(images.to(self.device).permute(0, 3, 1, 2).float(), ())[0]

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See :class:`ImageEncoder`.

        Raises:
            ItemError: If a feature isn't finite.
        """
        features = self.encode_tensor(torch.from_numpy(np.ascontiguousarray(images)))
        return check_features(features.cpu().numpy(), self.encoder_id)

    @torch.inference_mode()
    def encode_depths(
        self, pixels: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        """See :class:`ImageEncoder`."""
        depths = self._depths(count)
        blocks = torch.split(torch.from_numpy(np.ascontiguousarray(pixels)), 256)
        passed = [self._passed(block, depths) for block in blocks]
        features, *layers = (torch.cat(parts).cpu().numpy() for parts in zip(*passed, strict=True))
        return features, layers or [features] * count

    def _depths(self, count: int) -> list[str]:
        """Names of ``count`` layers of the longest stack of modules that images pass through; none without a stack."""
        stacks = [
            name
            for name, module in self._modules.items()
            if isinstance(module, nn.ModuleList | nn.Sequential) and len(module) > 1
        ]
        blank = torch.zeros(1, 3, self.image_size, self.image_size, device=self.device, dtype=self.dtype)
        with self._captured(name for name in self._modules if name and name.rpartition(".")[0] in stacks) as fired:
            self._image(blank)
        parents = Counter(name.rpartition(".")[0] for name in fired)
        longest = [name for name in fired if name.rpartition(".")[0] == parents.most_common(1)[0][0]]
        return [longest[i] for i in np.linspace(0, len(longest) - 1, count).round().astype(int)] if longest else []

    @torch.inference_mode()
    def encode_text(self, texts: list[str]) -> NDArray[np.float32] | None:
        """(K, D) float32 features of K texts, each of length 1; None without a text tower."""
        if self._text is None:
            return None
        features = self._text(texts, self.device).float()
        return functional.normalize(features, dim=1).cpu().numpy()


def pooled(activation: Tensor, batch: int) -> Tensor:
    """Mean of a layer's activations over space or tokens: (B, C).

    (B, C, H, W) is averaged over H and W, (B, N, C) over N; sequence-first layers, (N, B, C), are recognised by B.
    """
    if activation.ndim == 4:
        return activation.float().mean((2, 3))
    if activation.ndim == 3:
        sequence_first = activation.shape[0] != batch and activation.shape[1] == batch
        return activation.float().mean(0 if sequence_first else 1)
    return activation.float().flatten(1)


# --- the three libraries ---------------------------------------------------------------------------------------

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

    settings = getattr(model.config, "text_config", None)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        if len(tokenizer) < getattr(settings, "vocab_size", 0) // 2:
            # The library makes up an empty one without a word.
            raise ValueError("its files are absent")
    except (OSError, ValueError, ImportError, KeyError, AttributeError) as error:
        logger.warning("%s has no readable tokenizer (%s): no zero-shot figures", source, error)
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
