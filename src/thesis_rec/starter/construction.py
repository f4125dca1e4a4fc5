"""Freshly initialised networks of the embedded zoo's architectures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from thesis_rec.starter.architectures import IMAGE_SIZE, Architecture

if TYPE_CHECKING:
    from torch import nn


def build(architecture: Architecture, class_names: Sequence[str], seed: int) -> nn.Module:
    """A freshly initialised network whose ``forward`` maps normalised images to logits.

    Args:
        architecture: Which one.
        class_names: Names of the outputs; their number is the head's size.
        seed: Seed of the initial weights, which are drawn on the CPU, so that every device starts equal.

    Returns:
        A module ``(B, 3, 32, 32) -> (B, K)``, in training mode on the CPU; :func:`library_module` gives the library's
        own object behind it.
    """
    import torch

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        maker = {"timm": _build_timm, "transformers": _build_transformers, "open_clip": _build_clip}
        module = maker[architecture.library](architecture, list(class_names))
        if architecture.library != "open_clip":
            _initialise(module)
    for child in module.modules():
        # Some transformers classes keep TensorFlow's momentum (0.99, 0.997), which torch reads the other way round.
        if isinstance(child, torch.nn.BatchNorm2d):
            child.momentum = 0.1
    return module.train()


def _initialise(module: nn.Module) -> None:
    """Draw the weights of layers with the variance that keeps signals alive in narrow networks, 1 / fan-in.

    The libraries draw most of them with a standard deviation of 0.02, which suits widths of hundreds: at a width of
    thirty a network needs hundreds of updates to get over it. CLIP scales by its width already.
    """
    from torch import nn

    for child in module.modules():
        if isinstance(child, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(child.weight, std=child.weight[0].numel() ** -0.5)


def library_module(module: nn.Module) -> nn.Module:
    """The timm, transformers or open_clip object inside what :func:`build` returned."""
    return getattr(module, "inner", module)


def parameter_count(module: nn.Module) -> int:
    """Number of parameters of the library's object, shared ones once."""
    return sum(parameter.numel() for parameter in library_module(module).parameters())


def _build_timm(architecture: Architecture, class_names: list[str]) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(
        architecture.entry, pretrained=False, num_classes=len(class_names), **architecture.arguments
    )
    return model


def _build_transformers(architecture: Architecture, class_names: list[str]) -> nn.Module:
    from transformers import AutoConfig, AutoModelForImageClassification

    from thesis_rec.starter.modules import LogitsOfOutput

    config = AutoConfig.for_model(
        architecture.entry,
        **architecture.arguments,
        **({} if architecture.entry in ("regnet", "poolformer") else {"image_size": IMAGE_SIZE}),
        id2label=dict(enumerate(class_names)),
        label2id={name: i for i, name in enumerate(class_names)},
    )
    return LogitsOfOutput(AutoModelForImageClassification.from_config(config))


def _build_clip(architecture: Architecture, class_names: list[str]) -> nn.Module:
    from thesis_rec.starter.modules import CaptionClassifier, caption_tokenizer, new_clip

    tokenizer = caption_tokenizer()
    return CaptionClassifier(new_clip(architecture.arguments, tokenizer), tokenizer, class_names)
