"""One order of layers for a checkpoint, however it is stored.

A ``.pth`` file keeps the order in which a network's modules were made, a safetensors file sorts its tensors by name and
type, an index of shards by name. Names are all that every format has, so the order is made of them: what embeds the
image first, then the body in natural order (``layer2`` before ``layer10``), then final norms, then heads.
"""

import re
from itertools import takewhile

_STEM = re.compile(r"(embed|stem|token|patch|^conv_?1$|^bn_?1$|^conv0$|^norm0$|^pre_?norm|ln_pre|pre_layrnorm|pos_)")
_FINAL = re.compile(r"^(norm|bn2|bn|ln_post|ln_f|layer_?norm|post_layernorm|final\w*|conv_head|conv_1x1|norm5|proj)$")
_HEAD = re.compile(
    r"^(fc\d*|fc_norm|classif\w*|head\w*|logits?\w*|linear\d*|last_linear|output|score|pooler|attn_pool\w*"
    r"|visual_projection|text_projection|cls_classifier|distillation_classifier|lm_head|predictions?)$"
)
_NUMBER = re.compile(r"(\d+)")
_WRAPPERS = 3


def layer_rank(name: str) -> int:
    """0 for the stem, 1 for the body, 2 for final norms and projections, 3 for heads."""
    # A number within the name means a repeated block; only what stands before the first one tells where it belongs.
    parts = list(takewhile(lambda part: not part.isdigit(), name.split(".")[:-1] or [name]))
    for part in parts[:_WRAPPERS]:
        if _HEAD.match(part):
            # The normalisation before a head is often kept under the head's name.
            return 2 if any("norm" in inner for inner in parts) else 3
        if _FINAL.match(part):
            return 2
        if _STEM.search(part):
            return 0
    last = name.rsplit(".", 1)[-1]
    return 0 if len(parts) < _WRAPPERS and last not in ("weight", "bias") and _STEM.search(last) else 1


def layer_key(name: str) -> tuple[int, tuple[tuple[int, int, str], ...], str]:
    """Key that sorts tensor names from the first layer to the last."""
    pieces = tuple(
        (0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in _NUMBER.split(name) if piece != ""
    )
    return layer_rank(name), pieces, name
