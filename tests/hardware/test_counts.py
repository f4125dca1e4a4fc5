"""Counts are those of paper and pencil."""

from __future__ import annotations

import pytest
import torch

from tests.hardware.small_backbone import backbone
from thesis_rec.hardware.contexts import MIB
from thesis_rec.hardware.profiling import describe_backbone, peak_activations, random_images


def test_counts_are_those_of_paper_and_pencil():
    small = backbone(width=4, size=8)
    found = describe_backbone(small)
    assert found["n_parameters"] == 4 * 3 * 9 + 4 + 4 + 4
    assert found["macs"] == 8 * 8 * 4 * 3 * 9
    # Convolution, normalisation and ReLU each make 4 x 8 x 8 floats; flattening makes none.
    assert found["activation_mb"] * MIB == pytest.approx(3 * 4 * 4 * 8 * 8, rel=0.05)
    assert found["n_operations"] == 3
    assert found["activations"] == 4 * 8 * 8
    # The Sequential frees the input of a layer only when the next result exists: two alive at once.
    with torch.inference_mode():
        peak = peak_activations(small, random_images(small, 1, "cpu", "fp32"))
    assert peak * MIB == pytest.approx(2 * 4 * 4 * 8 * 8, rel=0.05)


def test_known_networks_have_their_published_counts_without_weights():
    pytest.importorskip("timm")
    resnet = _described("resnet50.a1_in1k")
    assert resnet["n_parameters"] / 1e6 == pytest.approx(25.6, abs=0.05)
    assert resnet["macs"] / 1e9 == pytest.approx(4.1, abs=0.05)
    # timm's model card: 11.1 million activations.
    assert resnet["activations"] / 1e6 == pytest.approx(11.1, abs=0.1)
    # Without the classifier's 1.28 million, ViT-S/16 of DINO has 21.7 million (Caron et al., 2021: 21 million).
    vit = _described("vit_small_patch16_224.dino")
    assert vit["n_parameters"] / 1e6 == pytest.approx(21.7, abs=0.05)
    # Touvron et al., ICML 2021, table 1, of the same network: 4.6 billion, those of attention among them.
    assert vit["macs"] / 1e9 == pytest.approx(4.6, abs=0.05)
    mobile = _described("mobilenetv2_100.ra_in1k")
    # Sandler et al., CVPR 2018, table 4: 300 million multiply-adds.
    assert mobile["macs"] / 1e6 == pytest.approx(300, rel=0.02)


def _described(name: str):
    import timm
    import torch

    from thesis_rec.models.loaders import timm_backbone

    with torch.device("meta"):
        return describe_backbone(timm_backbone(name, timm.create_model(name)), "meta")
