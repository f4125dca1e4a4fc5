"""Networks without weights: nothing is downloaded, and shapes are those of the published checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from thesis_rec.base.errors import ItemError
from thesis_rec.models.model_manifest import ManifestRow

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from untrained import architecture_key, build_untrained, checkpoint_bytes, image_text_bytes


def row(model_id: str, loader: str, family: str = ""):
    return ManifestRow(model_id=model_id, loader=loader, source=f"hf-hub:{model_id}", family=family)


@pytest.mark.parametrize(
    ("model", "size", "width", "millions"),
    [
        (row("timm/resnet18.a1_in1k", "timm"), 224, 512, 11.7),
        # CLIP's image half: Radford et al. give 86 million for ViT-B/32 with its projection to 512.
        (row("open_clip/ViT-B-32.openai", "open_clip"), 224, 512, 87.8),
        (row("facebook/deit-tiny-distilled-patch16-224", "transformers", "deit"), 224, 192, 5.9),
        (row("microsoft/swin-tiny-patch4-window7-224", "transformers", "swin"), 224, 768, 28.3),
        (row("facebook/convnext-tiny-224", "transformers", "convnext"), 224, 768, 28.6),
        (row("facebook/dinov2-small", "transformers", "dinov2"), 224, 384, 22.1),
    ],
    ids=lambda value: value.model_id if isinstance(value, ManifestRow) else "",
)
def test_the_architecture_of_a_row(model, size, width, millions):
    backbone = build_untrained(model, "meta")
    assert (backbone.input_size, backbone.n_features) == (size, width)
    assert sum(p.numel() for p in backbone.network.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_checkpoints_of_one_network_share_a_key_and_other_sizes_do_not():
    keys = [architecture_key(row(f"timm/convnext_tiny.{tag}", "timm")) for tag in ("fb_in1k", "in12k")]
    assert keys == ["timm/convnext_tiny@224"] * 2
    assert architecture_key(row("timm/convnext_tiny.in12k_ft_in1k_384", "timm")) == "timm/convnext_tiny@384"
    clip = [architecture_key(row(f"open_clip/{name}", "open_clip")) for name in ("RN50.openai", "RN50-quickgelu.cc12m")]
    assert clip == ["open_clip/RN50"] * 2


@pytest.mark.parametrize(
    ("model", "gigabytes"),
    [
        # As the hub lists the files.
        (row("open_clip/nllb-clip-base-siglip.v1", "open_clip", "siglip"), 2.03),
        (row("open_clip/coca_ViT-L-14.laion2b_s13b_b90k", "open_clip", "coca"), 2.55),
        (row("open_clip/ViT-B-16.commonpool_l_clip_s1b_b8k", "open_clip", "clip_vit"), 0.599),
        (row("google/vit-large-patch16-224", "transformers", "vit"), 1.22),
        # As their cards count weights: 203, 247 and 223 million.
        (row("google/siglip-base-patch16-224", "transformers", "siglip"), 0.813),
        (row("Salesforce/blip-image-captioning-base", "transformers", "blip"), 0.99),
        (row("Salesforce/blip-itm-base-coco", "transformers", "blip"), 0.895),
    ],
    ids=lambda value: value.model_id if isinstance(value, ManifestRow) else "",
)
def test_a_file_holds_all_of_a_model(model, gigabytes):
    found = image_text_bytes(model) or checkpoint_bytes(model, build_untrained(model, "meta"))
    assert found / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_a_row_that_does_not_tell_its_network():
    stranger = row("somebody/food", "transformers", "vit")
    assert architecture_key(stranger) == ""
    with pytest.raises(ItemError, match="doesn't tell its architecture"):
        build_untrained(stranger, "meta")
    with pytest.raises(ItemError, match="it needs the model's files"):
        build_untrained(row("x", "local"), "meta")
    with pytest.raises(ItemError, match="can't build the network without weights"):
        build_untrained(row("timm/no_such_network", "timm"), "meta")
