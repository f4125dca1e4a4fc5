"""Thin modules around library networks, so that training sees one interface: images in, logits out."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


class LogitsOfOutput(nn.Module):
    """A transformers image classifier whose forward returns the logits alone."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of normalised images ``(B, 3, H, W)``."""
        return self.inner(pixel_values=images).logits


class CaptionClassifier(nn.Module):
    """A CLIP that classifies by the similarity of images to captions (Radford et al. 2021, "zero-shot" head).

    Args:
        inner: An ``open_clip.model.CLIP``.
        tokenizer: Tokenizer made by :func:`caption_tokenizer`.
        captions: One caption per class.
    """

    tokens: Tensor

    def __init__(self, inner: Any, tokenizer: Any, captions: Sequence[str]) -> None:
        super().__init__()
        self.inner: Any = inner
        self.register_buffer("tokens", tokenize(tokenizer, captions, context_length(inner)), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Scaled cosine similarities ``(B, K)`` of normalised images ``(B, 3, H, W)`` to the captions."""
        image = self.inner.encode_image(images, normalize=True)
        text = self.inner.encode_text(self.tokens, normalize=True)
        return self.inner.logit_scale.exp().clamp(max=100.0) * image @ text.T


def context_length(clip: Any) -> int:
    """Number of text tokens of an open_clip model."""
    return int(clip.context_length)


@cache
def caption_tokenizer(corpus: tuple[str, ...] = (), vocabulary: int = 259) -> Any:
    """A byte-level BPE tokenizer in the format that open_clip's ``HFTokenizer`` reads.

    The end token has the largest id, because CLIP pools the text at the largest id.

    Args:
        corpus: Captions from which merges are learned; none gives plain bytes.
        vocabulary: Number of tokens; 256 bytes and 3 special tokens at least.

    Returns:
        A ``tokenizers.Tokenizer`` that adds the start and end tokens.
    """
    import json

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: list[tuple[str, str]]
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if corpus and vocabulary > 259:
        trainer = trainers.BpeTrainer(vocab_size=vocabulary - 3, initial_alphabet=alphabet, show_progress=False)
        learned.train_from_iterator(sorted(corpus), trainer)
        content = json.loads(learned.to_str())["model"]
        pairs = [m.split(" ") if isinstance(m, str) else m for m in content["merges"]]
        merges = [(str(left), str(right)) for left, right in pairs]
        names = sorted(content["vocab"], key=content["vocab"].__getitem__)
    else:
        merges, names = [], alphabet
    entries = ["<pad>", "<start>", *names, "<end>"]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(entries)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", len(entries) - 1)]
    )
    tokenizer.add_special_tokens(["<pad>", "<start>", "<end>"])
    return tokenizer


def tokenize(tokenizer: Any, texts: Iterable[str], length: int) -> Tensor:
    """Token ids ``(N, length)``, cut and padded as open_clip's ``HFTokenizer`` does."""
    rows = []
    end = tokenizer.get_vocab_size() - 1
    for text in texts:
        ids = tokenizer.encode(" ".join(text.split())).ids
        if len(ids) > length:
            ids = [*ids[: length - 1], end]
        rows.append(ids + [0] * (length - len(ids)))
    return torch.tensor(rows, dtype=torch.int64)


def tokenizer_files(tokenizer: Any, length: int = 24) -> dict[str, Any]:
    """The JSON files, by name, from which ``transformers.AutoTokenizer`` loads the tokenizer."""
    import json

    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "bos_token": "<start>",
        "eos_token": "<end>",
        "model_max_length": length,
        "clean_up_tokenization_spaces": False,
    }
    return {"tokenizer.json": json.loads(tokenizer.to_str()), "tokenizer_config.json": configuration}


def clip_configuration(arguments: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """open_clip's ``model_cfg`` for constructor arguments and a tokenizer."""
    text = {
        **arguments["text_cfg"],
        "vocab_size": tokenizer.get_vocab_size(),
        # open_clip reads the tokenizer from the checkpoint's own folder when it is loaded as a local directory.
        "hf_tokenizer_name": "tokenizer",
    }
    return {**arguments, "text_cfg": text}


def new_clip(arguments: dict[str, Any], tokenizer: Any) -> nn.Module:
    """A freshly initialised ``open_clip.model.CLIP``."""
    from open_clip.model import CLIP

    return CLIP(**clip_configuration(arguments, tokenizer))
